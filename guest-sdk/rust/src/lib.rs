//! Write a Tollgate transform as one plain function.
//!
//! ```
//! # mod protos { #[derive(Clone, PartialEq, ::tollgate::prost::Message)] #[prost(prost_path = "::tollgate::prost")]
//! # pub struct PaymentEvent { #[prost(double, tag = "2")] pub amount: f64 } }
//! use protos::PaymentEvent;
//! use tollgate::{Context, Verdict};
//!
//! #[tollgate::transform]
//! fn check(event: &PaymentEvent, ctx: &Context) -> Verdict {
//!     if event.amount > 0.0 {
//!         Verdict::Pass
//!     } else {
//!         ctx.reject("amount-not-positive", "amount", format!("{} is not above zero", event.amount))
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! The attribute does everything else: taking events from the host, decoding, settling, encoding, and
//! reporting a panic to the host as a message. `tollgate build` makes the component. On any other target
//! than `wasm32-unknown-unknown` the same code runs against a recording host, so `cargo test` needs no
//! sandbox: see [`testing`].
//!
//! # What a transform can do
//!
//! | to | write |
//! |---|---|
//! | let the event through unchanged | [`Verdict::Pass`] |
//! | change the event, which was passed by `&mut` | [`Verdict::Replace`] |
//! | send another message in its place, or several | [`Context::emit`], then [`Verdict::Replace`] |
//! | send it, or something else, to another topic as well | [`Context::emit_to`], then [`Verdict::Replace`] |
//! | send it only to another topic | [`Context::emit_to`], then [`Verdict::Emitted`] |
//! | discard it; only a counter records it | [`Verdict::Drop`] |
//! | make it a dead letter with a reason | [`Context::reject`] |
//!
//! There is no clock, file, socket, environment or random number; use [`Context::batch_time`] and
//! [`Context::seed`] instead, which return the same values when a batch is run again.

mod batch;
mod config;
mod context;
#[doc(hidden)]
pub mod guest;
mod host;
mod level;
mod settled;
mod verdict;

#[cfg(not(target_arch = "wasm32"))]
mod recorder;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all, reason = "generated from wit/transform.wit")]
#[rustfmt::skip]
pub mod bindings;

pub use context::Context;
pub use level::Level;
pub use tollgate_sdk_macros::transform;
pub use verdict::{Rejection, Verdict};
pub use {prost, prost_types};

/// Includes the modules that `tollgate_build::protos` generated: package `payments.v1` is `payments::v1`.
#[macro_export]
macro_rules! include_protos {
    () => {
        include!(concat!(env!("OUT_DIR"), "/protos.rs"));
    };
}
