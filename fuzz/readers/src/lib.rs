//! The product's own files that read what `tollgate check` is configured with (tollgate-check.yaml, contracts.lock), compiled without the
//! rest of `host/`: wasmtime, librdkafka and OpenSSL with coverage counters would take minutes and change nothing here.
//! The modules stand as they do in `host/src`, so that their paths mean the same.
#![allow(dead_code, unused_imports, reason = "most of what these modules offer is for the rest of the product")]

#[path = "../../../host/src"]
mod host {
    pub mod cli {
        pub mod table;

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
