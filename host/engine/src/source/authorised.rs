//! Reads a topic's metadata besides its partitions: its id, and the operations allowed to this client. rdkafka does not
//! wrap this request, so this module calls librdkafka directly.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;

/// The relevant operations of Kafka's ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Read,
    Write,
    Alter,
    Describe,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "READ",
            Operation::Write => "WRITE",
            Operation::Alter => "ALTER",
            Operation::Describe => "DESCRIBE",
        })
    }
}

/// Converts librdkafka's numbers, `rd_kafka_AclOperation_t`.
fn operation(number: i32) -> Option<Operation> {
    match number {
        3 => Some(Operation::Read),
        4 => Some(Operation::Write),
        7 => Some(Operation::Alter),
        8 => Some(Operation::Describe),
        _ => None,
    }
}

/// The allowed operations, or `None` if the broker does not report them.
pub type Allowed = Option<BTreeSet<Operation>>;

/// A topic as the broker describes it.
#[derive(Debug, Clone)]
pub struct Described {
    pub name: String,
    /// The operations, or `None` if the broker does not report them (it is older than 2.3, or denies that too).
    pub allowed: Allowed,
    /// The topic's id. A topic that is deleted and recreated gets a different one. `None` if the broker has none (older
    /// than 2.8).
    pub id: Option<String>,
}

/// Returns the id of a topic. Returns `None` if the broker has no id for it, or does not respond: an old broker does
/// not know the request, and the embedded broker of `tollgate demo` ignores it.
pub fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    let described =
        topics(client, &[topic], patience).inspect_err(|error| tracing::debug!(%error, topic, "no topic id"));
    described.ok()?.into_iter().find(|found| found.name == topic)?.id
}

/// Describes each topic.
///
/// # Errors
/// Fails if the broker does not respond within the timeout.
pub fn topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    patience: Duration,
) -> Result<Vec<Described>, KafkaError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let names = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(KafkaError::Nul)?;
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let event = describe(client, &names, millis).ok_or(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))?;
    let described = read(&event);
    described.ok_or_else(|| KafkaError::AdminOp(event.error()))
}

/// A response from librdkafka, which owns all data that can be read from it.
struct Event(ptr::NonNull<sys::rd_kafka_event_t>);

impl Event {
    #[allow(unsafe_code, reason = "rdkafka wraps no events")]
    fn error(&self) -> RDKafkaErrorCode {
        // SAFETY: the event lives as long as self.
        unsafe { sys::rd_kafka_event_error(self.0.as_ptr()) }.into()
    }
}

impl Drop for Event {
    #[allow(unsafe_code, reason = "rdkafka wraps no events")]
    fn drop(&mut self) {
        // SAFETY: we own the event exclusively, and destroy it once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

#[allow(unsafe_code, reason = "rdkafka does not wrap DescribeTopics")]
fn describe<C: ClientContext>(client: &Client<C>, names: &[CString], millis: i32) -> Option<Event> {
    let mut pointers: Vec<*const std::ffi::c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let api = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client, the names and their pointers outlive all calls. Collection, options and queue are created
    // here, copied or retained by DescribeTopics as documented, and destroyed once each; the caller owns the event.
    unsafe {
        let native = client.native_ptr();
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = sys::rd_kafka_AdminOptions_new(native, api);
        let queue = sys::rd_kafka_queue_new(native);
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        // The only possible error is an out-of-range value; the default is a minute, and we stop waiting earlier.
        let mut message = [0; 128];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, message.as_mut_ptr(), message.len());
        sys::rd_kafka_DescribeTopics(native, collection, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(collection);
        ptr::NonNull::new(event).map(Event)
    }
}

/// Reads the topics of a response, or returns `None` if the response is an error.
#[allow(unsafe_code, reason = "rdkafka does not wrap DescribeTopics")]
fn read(event: &Event) -> Option<Vec<Described>> {
    // SAFETY: all pointers belong to the event, which outlives this; counts are librdkafka's own. The operations are
    // read as numbers, because a newer broker may send one that the enum does not have.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if result.is_null() || event.error() != RDKafkaErrorCode::NoError {
            return None;
        }
        let mut count = 0;
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut topics = Vec::with_capacity(count);
        for index in 0..count {
            let description = *descriptions.add(index);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description));
            let mut operations = 0;
            let numbers =
                sys::rd_kafka_TopicDescription_authorized_operations(description, &raw mut operations).cast::<i32>();
            let told = !numbers.is_null();
            let allowed = told.then(|| (0..operations).filter_map(|at| operation(*numbers.add(at))).collect());
            let id = id(sys::rd_kafka_TopicDescription_topic_id(description));
            topics.push(Described { name: name.to_string_lossy().into_owned(), allowed, id });
        }
        Some(topics)
    }
}

/// Returns the text of a topic's id, or `None` for zero, which means no id.
///
/// # Safety
/// The pointer is null or belongs to an event that outlives the call.
#[allow(unsafe_code, reason = "rdkafka does not wrap DescribeTopics")]
unsafe fn id(uuid: *const sys::rd_kafka_Uuid_t) -> Option<String> {
    if uuid.is_null() {
        return None;
    }
    // SAFETY: not null, and alive as the caller guarantees; librdkafka stores the text inside the uuid.
    let (high, low, text) = unsafe {
        (
            sys::rd_kafka_Uuid_most_significant_bits(uuid),
            sys::rd_kafka_Uuid_least_significant_bits(uuid),
            sys::rd_kafka_Uuid_base64str(uuid),
        )
    };
    if (high, low) == (0, 0) || text.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated text, as documented.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
