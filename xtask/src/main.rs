//! The project's menu: `cargo xtask <verb>`.

mod args;
mod bench;
mod cargo_deny;
mod chaos;
mod check;
mod ci;
mod demo;
mod dist;
mod fuzz;
mod golden;
mod guests;
mod menu;
mod play;
mod project;
mod rings;
mod say;
mod tidy;

use std::process::ExitCode;

use xtask::{Result, process};

fn main() -> ExitCode {
    let outcome = run(std::env::args().skip(1).collect());
    // Ends all child processes that still run.
    process::clean_up();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(words: Vec<String>) -> Result<()> {
    process::end_on_signals()?;
    menu::dispatch(words)
}
