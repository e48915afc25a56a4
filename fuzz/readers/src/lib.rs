//! The product's own files that read users' files (pipeline.yaml, tollgate-check.yaml, contracts.lock), compiled without the
//! rest of `host/`: wasmtime, librdkafka and OpenSSL with coverage counters would take minutes and change nothing here.
//! The modules stand as they do in `host/src`, so that their paths mean the same.
#![allow(dead_code, unused_imports, reason = "most of what these modules offer is for the rest of the product")]

#[path = "../../../host/src"]
mod host {
    pub mod config;
    pub mod error;
    pub mod iso;
    pub mod limits;

    pub mod cli {
        pub mod table;

        pub mod check {
            pub mod lock;
            pub mod strictness;
            pub mod suppress;

            pub use strictness::{Direction, Level};
        }
    }

    pub mod registry {
        mod config;
        mod error;

        pub use config::{Auth, Config, Tls, Url};
        pub use error::{ClientError, ConfigFault, SchemaError};
    }
}

/// What the lock file's reader takes from `host/src/sinks`, which knows Kafka.
mod sinks {
    pub mod dead_letter {
        pub fn hex(bytes: &[u8]) -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

pub use host::cli::check::{lock::Lock, suppress};
pub use host::config::{ConfigErrors, Pipeline};
use host::{cli, config, error, iso, limits, registry};
