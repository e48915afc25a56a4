//! A schema registry with Confluent's API: Apicurio from Maven Central. It stores schemas in memory and starts within
//! some seconds.

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

/// The last release series that runs on Java 17.
const VERSION: &str = "2.6.13.Final";
/// A start takes three seconds on an idle machine. A minute is enough on two cores that also compile.
const START: Duration = Duration::from_secs(60);
const API: &str = "/apis/ccompat/v7";

/// A running (or killed, or paused) registry. Its schemas are lost when its process ends. Dropping it kills it.
pub struct Registry {
    home: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Group>,
}

impl Registry {
    /// Starts an empty registry, and downloads it on first use (140 MB). Returns when it serves requests.
    ///
    /// # Errors
    /// Fails if the registry cannot be downloaded, or does not start within a minute. The message then ends with the
    /// log's last lines.
    pub fn start(cache: &Cache) -> Result<Self> {
        let home = fetch_registry(cache)?;
        let (log, _) = cache.log("registry")?;
        let mut registry = Registry { home, log, port: free_port()?, process: None };
        registry.restart()?;
        Ok(registry)
    }

    /// Returns the base URL of Confluent's API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Returns the registry's log, which covers all its restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts an empty registry on the same port. A running registry is killed first.
    ///
    /// # Errors
    /// Fails as [`Registry::start`] does.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("java");
        // The first compiler tier is enough for some hundred requests, and the registry starts in half the time.
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!("-Dquarkus.http.port={}", self.port));
        // The default is to listen on every interface.
        command.arg("-Dquarkus.http.host=127.0.0.1");
        command.arg("-jar").arg(self.home.join(format!("apicurio-registry-app-{VERSION}-runner.jar")));
        command.current_dir(&self.home).stdin(Stdio::null()).stdout(log).stderr(errors);
        let group = self.process.insert(Group::spawn(&mut command, Signal::KILL)?);
        let port = self.port;
        wait_until_ready("the schema registry", group, &self.log, START, || serves(port))
    }

    /// Kills the registry with SIGKILL.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Freezes the registry (SIGSTOP): connections stay open, and it does not answer.
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

/// Returns whether the application answers. The port opens earlier.
fn serves(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let request = format!("GET {API}/subjects HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = [0; 15];
    stream.set_read_timeout(Some(Duration::from_secs(10))).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP/1.1 200 OK"
}

/// Returns the registry's folder. It is downloaded from Maven Central on first use.
///
/// # Errors
/// Fails if Maven or tar is missing or fails; the message ends with its output.
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
