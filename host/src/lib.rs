//! Tollgate's command line: verbs over the libraries, and the demo.

pub mod cli;
pub mod compiler;
pub mod demo;
