//! Describes where in a payload an error is, as a field path.

use crate::Value;
use crate::plan::FieldPlan;
use crate::rejection::Fault;
use crate::wire::Cursor;

/// The longest map key that a field path quotes.
const QUOTED_KEY: usize = 64;

/// Formats a map's key as a step of a path; `None` for one that is not worth quoting.
pub(super) fn quoted(key: Value<'_>) -> Option<String> {
    match key {
        Value::Str(key) if key.as_bytes().len() <= QUOTED_KEY => Some(format!("[{key:?}]")),
        Value::Bool(key) => Some(format!("[{key}]")),
        Value::I32(key) => Some(format!("[{key}]")),
        Value::I64(key) => Some(format!("[{key}]")),
        Value::U32(key) => Some(format!("[{key}]")),
        Value::U64(key) => Some(format!("[{key}]")),
        Value::Str(_)
        | Value::Absent
        | Value::Default
        | Value::F32(_)
        | Value::F64(_)
        | Value::Bytes(_)
        | Value::Enum(_)
        | Value::Message(_)
        | Value::Split(_)
        | Value::List(_)
        | Value::Map(_) => None,
    }
}

/// Adds the field to the error's path. List elements are counted only now, so that valid payloads do not pay for it.
#[cold]
pub(super) fn locate(fault: Box<Fault>, field: &FieldPlan, message: &[u8], position: usize) -> Box<Fault> {
    if !field.repeated || field.packable {
        return fault.within(&*field.name);
    }
    let mut cursor = Cursor::new(message);
    let mut index = 0_usize;
    while cursor.position() < position {
        match cursor.tag() {
            Ok((number, wire)) => {
                index += usize::from(number == field.number);
                if cursor.skip(number, wire, crate::Policies::MAX_RECURSION).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    fault.within(format!("[{index}]")).within(&*field.name)
}
