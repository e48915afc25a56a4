//! `tollgate` with failpoints. Only the test rings start it; see hazards.rs.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
