//! The guest's main loop: take the next event, decode it, call the author's function, settle.
//!
//! The message is decoded into one value that is cleared, not dropped, between events: its strings keep their
//! capacity, so a warm transform decodes without allocating.

use std::sync::OnceLock;

use prost::Message;
use serde::de::DeserializeOwned;

use crate::batch::Batch;
pub use crate::config::NoConfig;
use crate::context::Context;
use crate::host;
use crate::settled::Settled;
use crate::verdict::Verdict;

/// The trait that the attribute implements for a function.
pub trait Transform {
    /// The message type of the events.
    type Event: Message + Default;
    /// The type of the configuration.
    type Config: DeserializeOwned + Send + Sync + 'static;
    /// Routes in addition to the output, in transform.yaml's order.
    const ROUTES: &'static [&'static str];
    /// Whether the function receives events without a value.
    const TOMBSTONES: bool;
    /// Whether the function takes the event by `&mut`.
    const CHANGES: bool;

    /// Stores the configuration between `init` and `process`.
    fn config() -> &'static OnceLock<Self::Config>;

    /// The author's function.
    fn call(event: &mut Self::Event, ctx: &Context, config: &Self::Config) -> Verdict;
}

/// Settles events one by one until the host has no more.
pub(crate) fn run<E: Message + Default>(
    batch: Batch,
    routes: &'static [&'static str],
    tombstones: bool,
    changes: bool,
    mut call: impl FnMut(&mut E, &Context) -> Verdict,
) {
    let ctx = Context::new(batch, routes);
    let mut event = E::default();
    let mut settled = Settled::Start;
    while let Some(index) = host::next(settled) {
        ctx.enter(index);
        settled = if ctx.is_tombstone() && !tombstones {
            Settled::Pass
        } else {
            settle(&mut event, &ctx, changes, &mut call)
        };
    }
}

fn settle<E: Message + Default>(
    event: &mut E,
    ctx: &Context,
    changes: bool,
    call: &mut impl FnMut(&mut E, &Context) -> Verdict,
) -> Settled {
    event.clear();
    if let Err(error) = event.merge(ctx.value()) {
        // The contract has decoded these bytes already, so this transform was built from another .proto.
        host::explain("guest-undecodable", "", &error.to_string());
        return Settled::Reject;
    }
    match call(event, ctx) {
        Verdict::Pass => Settled::Pass,
        Verdict::Drop => Settled::Drop,
        Verdict::Replace => {
            // An unchanged event need not be encoded; without this check its encoder would be in every component.
            match (ctx.is_replaced(), changes) {
                (true, _) => {}
                (false, true) => ctx.emit(event),
                (false, false) => ctx.emit_value(),
            }
            Settled::Replace
        }
        Verdict::Emitted => Settled::EMITTED,
        Verdict::Reject(reason) => {
            host::explain(&reason.code, &reason.field, &reason.message);
            Settled::Reject
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod exports {
    use super::{Batch, Transform, run};
    use crate::bindings::exports::tollgate::transform::guest::{BatchMeta, Guest};

    impl<T: Transform> Guest for T {
        fn init(config: Vec<u8>) -> Result<(), String> {
            std::panic::set_hook(Box::new(crate::host::panicked));
            let config = crate::config::read(&config)?;
            // `init` is called once per instance; a second call keeps the first configuration.
            T::config().get_or_init(|| config);
            Ok(())
        }

        fn process(
            meta: BatchMeta,
            arena: Vec<u8>,
            offsets: Vec<u32>,
            flags: Vec<u8>,
            record_offsets: Vec<i64>,
            timestamps: Vec<i64>,
        ) {
            let Some(config) = T::config().get() else { panic!("process was called before init") };
            let BatchMeta { topic, partition, schema_id, batch_time, seed } = meta;
            let batch = Batch {
                topic,
                partition,
                schema_id,
                batch_time,
                seed,
                arena,
                offsets,
                flags,
                record_offsets,
                timestamps,
            };
            run(batch, T::ROUTES, T::TOMBSTONES, T::CHANGES, |event, ctx| T::call(event, ctx, config));
        }
    }
}
