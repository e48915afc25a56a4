//! The command line: parse, run, say how it ended.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
