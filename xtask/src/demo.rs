//! `demo`: shows the gate at work, starting from a checkout.

use xtask::Result;
use xtask::servers::{Kafka, KafkaOptions};

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, succeed};
use crate::{guests, say};

/// Builds `tollgate` and the transforms and runs `tollgate demo`.
///
/// # Errors
/// Fails if a program is missing (exit code 3) or a step fails (1).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let real = args.has("--real");
    check::check(project, if real { Uses::Kafka } else { Uses::Postgres }, args.has("--install"))?;
    check::foretell(project, "build the example transforms and show them at work, about a minute");
    project.build_tollgate()?;
    guests::build_all(project)?;
    let mut command = project.tollgate(&["demo", "--assets", "."]);
    if args.has("--keep") {
        command.arg("--keep");
    }
    // The broker must live until the demo ends.
    let kafka = if real { Some(Kafka::start(&project.cache, &KafkaOptions::default())?) } else { None };
    if let Some(kafka) = &kafka {
        say::line(&format!("Apache Kafka 4.1.0 is up: {}", kafka.brokers()));
        command.args(["--real", &kafka.brokers()]);
    }
    succeed("tollgate demo", &mut command)
}
