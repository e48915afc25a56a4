//! Every bound of the host, each with the reason for its number. The sandbox's own bounds live in its crate.

/// Bytes of a pipeline.yaml or transform.yaml. The largest sensible one (hundreds of columns) has some 50 kB.
pub const CONFIG_BYTES: u64 = 1 << 20;

/// Nesting of a configuration file. Our own keys need 5; `config:` blocks are free, and trees are walked recursively.
pub const CONFIG_DEPTH: usize = 64;

/// Bytes of a file named by `${file:…}`. Keys and certificates have a few kB; the bound keeps `/dev/zero` out.
pub const SECRET_FILE_BYTES: u64 = 64 << 10;
