//! What the fuzz targets do with a fuzzer's bytes. A finding is a panic.
//!
//! Two ways into each: the bytes are the input (a payload, a text), or they are *decisions* from which an input grows along
//! a schema (`grow`), so that single mutations reach deep places. What is expected stands beside the product's own
//! tests (`reference`, `agreement`) and is included from there: one idea of what is right.

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
