//! The product's own readers of the configuration of `tollgate check` (tollgate-check.yaml, contracts.lock), compiled
//! without the rest of `host/`. With coverage counters, wasmtime, librdkafka and OpenSSL would take minutes to compile
//! and change nothing here. The modules have the same structure as in `host/src`, so that their paths mean the same.
#![allow(dead_code, unused_imports, reason = "most items of these modules are used by the rest of the product")]

#[path = "../../../host/src"]
mod host {
    pub mod cli {
        pub mod check {
            pub mod lock;
            pub mod strictness;
            pub mod suppress;

            pub use strictness::{Direction, Level};
        }
    }
}

use host::cli;
pub use host::cli::check::lock::Lock;
pub use host::cli::check::suppress;
