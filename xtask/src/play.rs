//! `servers`: a Kafka and a PostgreSQL for manual experiments. They run in the foreground, so that nothing is left
//! behind.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use xtask::failure::Context;
use xtask::process::Signal;
use xtask::servers::kafka_tools;
use xtask::{Failure, Result};

use crate::args::Args;
use crate::check::{self, Uses};
use crate::project::{Project, answer};
use crate::{rings, say};

/// The interval at which the command checks that both servers still run.
const LOOK: Duration = Duration::from_millis(500);

/// Runs `up` until Ctrl-C or until `down` is called in another terminal.
///
/// # Errors
/// Fails if the servers do not start, or if there are none to stop (exit code 3).
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    match args.words.first().map(String::as_str) {
        Some("up") => up(project, args),
        Some("down") => down(project),
        _ => Err(Failure::usage("say `cargo xtask servers up` or `cargo xtask servers down`")),
    }
}

fn note(project: &Project) -> PathBuf {
    project.cache.root().join("servers.pid")
}

fn up(project: &Project, args: &Args) -> Result<()> {
    if let Some(pid) = running(project) {
        return Err(Failure::environment(format!(
            "servers are already running (process {pid}); `cargo xtask servers down` stops them"
        )));
    }
    check::check(project, Uses::Servers, args.has("--install"))?;
    say::line("now: download Kafka and its tools at the first time (44 MB), start both servers, about 5 s");
    let began = Instant::now();
    let (kafka, postgres) = rings::servers(project, args)?;
    let tools = kafka_tools(&project.cache, kafka.version())?;
    let note = note(project);
    fs::write(&note, process::id().to_string()).context(|| format!("cannot write {}", note.display()))?;
    say::line(&format!(
        "up in {:.1} s\n\nexport KAFKA_BROKERS={}\nexport DATABASE_URL={}\nexport PATH=\"{}:$PATH\"   # kafka-console-producer.sh \
         and the others\n\nlogs: {} and {}\nCtrl-C ends both and deletes their data",
        began.elapsed().as_secs_f64(),
        kafka.brokers(),
        postgres.url(),
        tools.display(),
        kafka.log().display(),
        postgres.log().display()
    ));
    loop {
        thread::sleep(LOOK);
        if let Some(failure) = kafka.died().or_else(|| postgres.died()) {
            let _absent = fs::remove_file(note);
            return Err(failure);
        }
    }
}

fn down(project: &Project) -> Result<()> {
    let Some(pid) = running(project) else {
        return Err(Failure::environment("no servers are up"));
    };
    let gone = || running(project).is_none();
    if !Signal::TERM.send(pid) {
        return Err(Failure::environment(format!("cannot end process {pid}: does it belong to another user?")));
    }
    let until = Instant::now() + Duration::from_secs(20);
    while !gone() {
        if Instant::now() > until {
            return Err(Failure::environment(format!("process {pid} has not ended within 20 s")));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _absent = fs::remove_file(note(project));
    say::line("down");
    Ok(())
}

/// Returns the process that holds the servers. The system may have reused its number, so its arguments must be those of
/// `servers up`.
fn running(project: &Project) -> Option<i32> {
    let pid = fs::read_to_string(note(project)).ok()?;
    let arguments = answer("ps", &["-o", "stat=,args=", "-p", pid.trim()])?;
    let alive = !arguments.trim_start().starts_with('Z') && arguments.contains("xtask servers up");
    alive.then(|| pid.trim().parse().ok()).flatten()
}
