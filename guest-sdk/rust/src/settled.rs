//! How the host is told of an event's end.

/// A verdict as the border knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Start,
    Pass,
    Replace,
    Drop,
    Reject,
    /// At the border the same as [`Settled::Replace`]; native tests tell the two apart.
    #[cfg(not(target_arch = "wasm32"))]
    Emitted,
}

impl Settled {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const EMITTED: Settled = Settled::Emitted;
    #[cfg(target_arch = "wasm32")]
    pub(crate) const EMITTED: Settled = Settled::Replace;
}
