//! Reports an event's result to the host.

/// A verdict in the form of the host interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Start,
    Pass,
    Replace,
    Drop,
    Reject,
    /// Sent to the host as [`Settled::Replace`]; native tests distinguish the two.
    #[cfg(not(target_arch = "wasm32"))]
    Emitted,
}

impl Settled {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const EMITTED: Settled = Settled::Emitted;
    #[cfg(target_arch = "wasm32")]
    pub(crate) const EMITTED: Settled = Settled::Replace;
}
