//! What an instance of a transform may do.

use crate::limits::Limits;
use crate::manifest::Manifest;

/// The manifest of a transform, with the limits and the configuration that hold for it.
pub(crate) struct Terms {
    pub manifest: Manifest,
    pub limits: Limits,
    /// JSON, for `init`.
    pub config: Vec<u8>,
    /// Epochs that an event may last.
    pub ticks: u64,
    /// Epochs that starting an instance may last.
    pub start_ticks: u64,
}
