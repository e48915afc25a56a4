//! A schema registry: Apicurio from Maven Central, in memory, up in some seconds, with Confluent's API.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{free_port, maven, wait_until_ready};
use crate::cache::Cache;
use crate::failure::{Context, Result};
use crate::process::{Group, Signal};

/// The last line for Java 17.
const VERSION: &str = "2.6.13.Final";
/// Three seconds on an idle machine; a minute covers two cores that compile at the same time.
const START: Duration = Duration::from_secs(60);
const API: &str = "/apis/ccompat/v7";

/// A running (or killed, or paused) registry. What is registered is lost with its process. Dropping it kills it.
pub struct Registry {
    home: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Group>,
}

impl Registry {
    /// Starts an empty registry; downloads it at the first time (140 MB). Returns when it serves requests.
    ///
    /// # Errors
    /// Where it cannot be had, or does not start within a minute: the message ends with its log's last lines.
    pub fn start(cache: &Cache) -> Result<Self> {
        let home = fetch_registry(cache)?;
        let (log, _) = cache.log("registry")?;
        let mut registry = Registry { home, log, port: free_port()?, process: None };
        registry.restart()?;
        Ok(registry)
    }

    /// Where Confluent's API begins.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Its log, over all its restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts an empty registry on the same port; one that runs is killed first.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("java");
        // The first compiler's code is enough for some hundred requests, and it starts in half the time.
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!("-Dquarkus.http.port={}", self.port));
        // Its default is every interface.
        command.arg("-Dquarkus.http.host=127.0.0.1");
        command.arg("-jar").arg(self.home.join(format!("apicurio-registry-app-{VERSION}-runner.jar")));
        command.current_dir(&self.home).stdin(Stdio::null()).stdout(log).stderr(errors);
        let group = self.process.insert(Group::spawn(&mut command, Signal::KILL)?);
        let port = self.port;
        wait_until_ready("the schema registry", group, &self.log, START, || serves(port))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Registry::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = &self.process {
            group.signal(signal);
        }
    }
}

/// The port opens before the application answers.
fn serves(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let request = format!("GET {API}/subjects HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = [0; 15];
    stream.set_read_timeout(Some(Duration::from_secs(10))).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP/1.1 200 OK"
}

/// The registry's folder, from the cache or, at the first time, from Maven Central.
///
/// # Errors
/// Where Maven or tar is missing or cannot do its part; the message ends with what it said.
pub fn fetch_registry(cache: &Cache) -> Result<PathBuf> {
    let home = cache.folder(&format!("apicurio-{VERSION}"))?;
    maven::once(&home, "app", |part| {
        let artifact = format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
        let into = format!("-DoutputDirectory={}", home.display());
        let fault = format!("Maven cannot download the schema registry {VERSION}");
        maven::goal(cache, &home, &fault, "copy", [artifact, into])?;
        let archive = home.join(format!("apicurio-registry-app-{VERSION}-all.tar.gz"));
        maven::untar(cache, &archive, part, "tar cannot unpack the schema registry")?;
        let _left = fs::remove_file(&archive);
        Ok(())
    })
}
