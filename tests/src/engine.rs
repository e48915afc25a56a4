//! Runs the product's binary as a child process.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tollgate_engine::hazards::VARIABLES;
use xtask::process::{Group, Signal, last_lines};

use crate::{PATIENCE, http, wait_for};

/// Returns `TOLLGATE_BIN`, else `tollgate` in the folder above this test program's.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let found = BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("TOLLGATE_BIN").filter(|name| !name.is_empty()) {
            return named.into();
        }
        let own = std::env::current_exe().unwrap();
        own.parent().and_then(Path::parent).unwrap().join("tollgate")
    });
    assert!(found.is_file(), "{} is not there: build it with `cargo build --release -p tollgate`", found.display());
    found.clone()
}

/// Returns the program with failpoints: `TOLLGATE_HAZARDS_BIN`, else `tollgate-hazards` beside [`binary`].
fn with_hazards() -> PathBuf {
    let named = std::env::var_os("TOLLGATE_HAZARDS_BIN").filter(|name| !name.is_empty());
    let found = named.map_or_else(|| binary().with_file_name("tollgate-hazards"), PathBuf::from);
    assert!(found.is_file(), "{} is not there: `cargo xtask test e2e` builds it", found.display());
    found
}

/// Returns the binary of the previous release, if `TOLLGATE_PREVIOUS` names one.
pub fn previous() -> Option<PathBuf> {
    let named = PathBuf::from(std::env::var_os("TOLLGATE_PREVIOUS").filter(|name| !name.is_empty())?);
    assert!(named.is_file(), "TOLLGATE_PREVIOUS: {} is not there", named.display());
    Some(named)
}

/// A running `tollgate` in its own process group. Dropping it kills it.
pub struct Engine {
    group: Group,
    stdout: PathBuf,
    log: PathBuf,
    url: OnceLock<String>,
}

impl Engine {
    /// Starts `tollgate <arguments>` in a folder, with additional variables. Its output goes to files in that folder.
    pub fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Engine {
        Engine::start_as(&binary(), folder, arguments, variables)
    }

    /// Does the same with another build's binary. If a failpoint is set for this build, the program with failpoints is
    /// started.
    pub fn start_as(program: &Path, folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Engine {
        let armed = variables.iter().any(|(name, value)| VARIABLES.contains(name) && !value.is_empty());
        let program = if armed && program == binary() { with_hazards() } else { program.to_owned() };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (stdout, log) = (folder.join(format!("stdout.{number}")), folder.join(format!("log.{number}")));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(File::create(&stdout).unwrap()).stderr(File::create(&log).unwrap());
        let group = Group::spawn(&mut command, Signal::KILL).unwrap();
        Engine { group, stdout, log, url: OnceLock::new() }
    }

    pub fn id(&self) -> i32 {
        self.group.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the log from this byte up to its last complete line.
    pub fn log_from(&self, byte: usize) -> String {
        let mut file = File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(byte as u64)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap()
    }

    /// Waits for a text in the log.
    pub fn logged(&self, text: &str) {
        wait_for(&format!("{text:?} in the log of tollgate"), || {
            let log = self.log();
            assert!(log.contains(text) || self.running(), "tollgate ended before it said {text:?}");
            log.contains(text).then_some(())
        });
    }

    pub fn running(&self) -> bool {
        self.group.status().is_none()
    }

    /// Returns the admin server's address from the log: the tests let it listen on port 0.
    pub fn url(&self) -> &str {
        self.url.get_or_init(|| {
            wait_for("the admin server's address in the log", || {
                assert!(self.running(), "tollgate ended at its start");
                let log = self.log();
                let (_, rest) = log.split_once("url=\"")?;
                Some(rest.split_once('"')?.0.to_owned())
            })
        })
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        http::request("GET", self.url(), path).unwrap()
    }

    pub fn post(&self, path: &str) -> (u16, Value) {
        let (status, body) = http::request("POST", self.url(), path).unwrap();
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Waits until both servers are connected and the group is joined.
    pub fn ready(&self) {
        wait_for("/readyz to say 200", || {
            assert!(self.running(), "tollgate ended at its start");
            (self.get("/readyz").0 == 200).then_some(())
        });
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// Returns a value from /proc about the process's memory (`VmRSS`, `VmHWM`) in bytes, or `None` if it has ended.
    pub fn memory(&self, line: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let said = status.lines().find_map(|said| said.strip_prefix(line)?.strip_prefix(':'))?;
        Some(said.split_whitespace().next()?.parse::<u64>().unwrap() * 1024)
    }

    /// Returns a counter or gauge of /metrics, summed over the label sets that contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.get("/metrics").1;
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && rest.contains(labels)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn signal(&self, signal: Signal) {
        self.group.signal(signal);
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.group.wait();
    }

    /// Sends SIGTERM. The engine must drain and succeed.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "tollgate ended with {status} after SIGTERM");
    }

    /// Waits until the engine ends by itself.
    pub fn wait(&self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    pub fn wait_within(&self, patience: Duration) -> ExitStatus {
        let status = self.group.wait_for(patience);
        status.unwrap_or_else(|| panic!("tollgate has not ended after {} s", patience.as_secs()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the end of {}:\n{}", self.log.display(), last_lines(&self.log, 40));
        }
    }
}
