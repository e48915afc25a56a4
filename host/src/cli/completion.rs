//! `tollgate completion bash|zsh|fish`: prints a script that completes commands and flags.

use clap_complete::Shell;
use serde_json::json;

use super::Success;
use tollgate_config::error::Failure;

/// Prints a completion script for your shell.
///
/// bash: `tollgate completion bash > ~/.local/share/bash-completion/completions/tollgate`
///
/// zsh:  `tollgate completion zsh > "${fpath[1]}/_tollgate"`
///
/// fish: `tollgate completion fish > ~/.config/fish/completions/tollgate.fish`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// # Errors
/// Never fails. The signature is the same for all verbs.
pub fn run(args: &Args) -> Result<Success, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tollgate", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    let shell = args.shell.to_string();
    Ok(Success::new(format!("the completion script for {shell}"), json!({ "shell": shell, "script": text }), text))
}
