//! The limits and settings of a transform's instances.

use crate::limits::Limits;
use crate::manifest::Manifest;

/// The manifest of a transform, with its effective limits and configuration.
pub(crate) struct Terms {
    pub manifest: Manifest,
    pub limits: Limits,
    /// The configuration for `init` as JSON.
    pub config: Vec<u8>,
    /// The maximum number of epochs for an event.
    pub ticks: u64,
    /// The maximum number of epochs for starting an instance.
    pub start_ticks: u64,
}
