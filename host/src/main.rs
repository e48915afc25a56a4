//! The program `tollgate`: parses the command line, runs the verb and prints the result.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
