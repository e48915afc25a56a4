//! The calls to the host: the imports of wit/transform.wit, or on any other target a recording host.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::recorder::{delete, emit, explain, header, log, next, set_header, set_key};
#[cfg(target_arch = "wasm32")]
pub(crate) use component::{delete, emit, explain, header, log, next, panicked, set_header, set_key};

#[cfg(target_arch = "wasm32")]
mod component {
    use crate::bindings::tollgate::transform::host::{self, Verdict};
    use crate::bindings::tollgate::transform::log;
    use crate::level::Level;
    use crate::settled::Settled;

    pub(crate) use host::{delete, emit, explain, header, set_header, set_key};

    const END: u32 = u32::MAX;

    #[inline]
    pub(crate) fn next(settled: Settled) -> Option<usize> {
        let index = host::next(match settled {
            Settled::Start => Verdict::Start,
            Settled::Pass => Verdict::Pass,
            Settled::Replace => Verdict::Replace,
            Settled::Drop => Verdict::Drop,
            Settled::Reject => Verdict::Reject,
        });
        (index != END).then_some(index as usize)
    }

    pub(crate) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::write(level, message);
    }

    /// The panic hook: without it a panic reaches the host as a bare trap without a message.
    pub(crate) fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
        let message = panic.payload_as_str().unwrap_or("panic without a message");
        match panic.location() {
            Some(at) => host::fail(&format!("{message} at {}:{}", at.file(), at.line())),
            None => host::fail(message),
        }
    }
}
