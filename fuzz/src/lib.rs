//! The fuzz targets: each runs one test on a fuzzer's bytes. A finding is a panic.
//!
//! Each target has two modes: the bytes are the input (a payload, a text), or they are *decisions* from which an input
//! is generated along a schema (`grow`), so that single mutations reach deep places. The expected results are defined
//! beside the product's own tests (`reference`, `agreement`) and included from there, so that both use the same
//! definition.

pub mod arrival;
pub mod choices;
pub mod compat;
pub mod decode;
pub mod files;
pub mod frame;
pub mod grow;
pub mod json;
pub mod rules;
pub mod schemas;

#[path = "../../host/contract/tests/rules/agreement.rs"]
mod agreement;
#[path = "../../host/contract/tests/contract/reference.rs"]
mod reference;
