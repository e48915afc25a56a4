//! `tollgate` with failpoints, which only the rings start: see hazards.rs.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
