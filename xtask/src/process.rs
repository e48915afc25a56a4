//! Child processes that never outlive their owner.
//!
//! Each child leads its own process group, so that a signal reaches everything it started, and nothing else. `Drop`
//! ends the group in the ordinary case. But a test binary ends by `exit` (statics are not dropped), Ctrl-C ends it by a
//! signal, and SIGKILL allows no cleanup. `PR_SET_PDEATHSIG` covers SIGKILL on Linux alone, and only for the child
//! itself, not for what it started. It also fires when the *thread* that forked ends, which in a test is too early.
//!
//! So each owner has a *watchman*: a shell that holds the reading end of a pipe and a list of groups and folders. The
//! pipe closes when the owner ends, however it ends. The watchman then stops the groups and deletes the folders. Ctrl-C
//! uses the same mechanism: [`end_on_signals`] closes the pipe and waits for the watchman.
//!
//! Two cases are not covered: the watchman is killed too, or the child moves to another process group. PostgreSQL's
//! backends do the latter, and end by themselves with their postmaster.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Context, Failure, Result};

/// Reads `group <pgid> <signal>`, `gone <pgid>` and `dir <path>` until the pipe closes, then cleans up. A paused group
/// gets SIGCONT, because otherwise it could not act on its signal. It waits 6 s, because PostgreSQL's immediate
/// shutdown kills its own children after 5 s.
const WATCHMAN: &str = r#"
trap '' HUP INT QUIT TERM
groups= dirs=
newline='
'
while IFS= read -r line; do
  case $line in
    'group '*) groups="$groups$newline${line#group }" ;;
    'dir '*) dirs="$dirs$newline${line#dir }" ;;
    'gone '*)
      kept=
      IFS=$newline
      for entry in $groups; do
        [ "${entry%% *}" = "${line#gone }" ] || kept="$kept$newline$entry"
      done
      groups=$kept ;;
  esac
done
IFS=$newline
for entry in $groups; do
  kill -s "${entry#* }" -- "-${entry%% *}" 2>/dev/null
  kill -s CONT -- "-${entry%% *}" 2>/dev/null
done
tries=0
while [ $tries -lt 120 ]; do
  alive=
  for entry in $groups; do
    kill -s 0 -- "-${entry%% *}" 2>/dev/null && alive=yes
  done
  [ -z "$alive" ] && break
  sleep 0.05
  tries=$((tries + 1))
done
for entry in $groups; do
  kill -s KILL -- "-${entry%% *}" 2>/dev/null
done
set -f
for dir in $dirs; do
  rm -rf -- "$dir"
done
"#;

struct Watchman {
    shell: Child,
    orders: Option<ChildStdin>,
}

/// A signal by the name that `kill` uses.
///
/// The shell's own `kill` sends the signals. The standard library cannot, and libc alone would require unsafe code. A
/// crate that can would change the features of shared dependencies and compile wasmtime a second time, which takes
/// minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(&'static str);

impl Signal {
    pub const CONT: Signal = Signal("CONT");
    pub const HUP: Signal = Signal("HUP");
    pub const INT: Signal = Signal("INT");
    pub const KILL: Signal = Signal("KILL");
    pub const QUIT: Signal = Signal("QUIT");
    pub const STOP: Signal = Signal("STOP");
    pub const TERM: Signal = Signal("TERM");

    /// Sends the signal to one process, or to a whole group if the number is negative. Returns false if there is no
    /// such process, or if it belongs to another user.
    pub fn send(self, to: i32) -> bool {
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -s \"$0\" -- \"$1\"", self.0, &to.to_string()]);
        kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }
}

static WATCH: Mutex<Option<Watchman>> = Mutex::new(None);

/// Set while a signal ends this program. A thread that waits for a child then does not report the child's end as a
/// failure.
static ENDING: AtomicBool = AtomicBool::new(false);

fn stay_if_ending() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

impl Watchman {
    fn hire() -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHMAN])
            // Ctrl-C goes to the terminal's foreground group; the watchman must survive it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| "cannot start sh, which ends what this program leaves behind".to_owned())?;
        let orders = shell.stdin.take();
        Ok(Watchman { shell, orders })
    }

    fn order(&mut self, line: &str) -> std::io::Result<()> {
        match &mut self.orders {
            Some(orders) => orders.write_all(format!("{line}\n").as_bytes()),
            None => Err(std::io::Error::other("this program is ending")),
        }
    }
}

/// Locks a mutex, even after a panic. A thread that panicked while it held the lock leaves consistent values, because
/// each is replaced in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn order(watch: &mut Option<Watchman>, line: &str) -> Result<()> {
    if watch.is_none() {
        *watch = Some(Watchman::hire()?);
    }
    let Some(watchman) = watch.as_mut() else { return Ok(()) };
    watchman.order(line).context(|| format!("cannot register `{line}` for cleaning up"))
}

/// Registers a folder that is deleted when this program ends, however it ends.
///
/// # Errors
/// Fails if the path contains a line break, or if the watchman cannot be started.
pub fn delete_at_end(folder: &Path) -> Result<()> {
    let path = folder.to_str().filter(|path| path.starts_with('/') && path.len() > 1 && !path.contains('\n'));
    let path = path.ok_or_else(|| Failure::environment(format!("unusable folder name {}", folder.display())))?;
    order(&mut locked(&WATCH), &format!("dir {path}"))
}

/// Ends every group that is still running and deletes the folders registered by [`delete_at_end`]. Returns when that is
/// done, within some seconds. Afterwards no process can be started.
pub fn clean_up() {
    let mut watch = locked(&WATCH);
    let Some(watchman) = watch.as_mut() else { return };
    drop(watchman.orders.take());
    let _status = watchman.shell.wait();
}

/// Installs handlers for SIGINT, SIGTERM and SIGHUP that clean up and end the program with 128 + the signal's number.
///
/// # Errors
/// Fails if the handlers cannot be installed.
pub fn end_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context(|| "cannot handle signals".to_owned())?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            ENDING.store(true, Ordering::SeqCst);
            clean_up();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

#[derive(Default)]
struct Exit {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

/// A running program and all processes that it started, as one process group. Dropping it kills the group.
pub struct Group {
    leader: i32,
    exit: Arc<Exit>,
}

impl Group {
    /// Starts `command` as the leader of a new process group. `at_end` is the signal that the group gets if this
    /// program ends first.
    ///
    /// # Errors
    /// Fails if the program cannot be started; the message names it.
    pub fn spawn(command: &mut Command, at_end: Signal) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // The lock is held from before the start until the watchman knows the group, so that `clean_up` cannot miss it.
        let mut watch = locked(&WATCH);
        let mut child = command.process_group(0).spawn().context(|| format!("cannot start {program}"))?;
        let leader = i32::try_from(child.id()).unwrap_or(i32::MAX);
        if let Err(failure) = order(&mut watch, &format!("group {leader} {}", at_end.0)) {
            let _gone = Signal::KILL.send(-leader);
            let _status = child.wait();
            return Err(failure);
        }
        let exit = Arc::new(Exit::default());
        let told = Arc::clone(&exit);
        // One thread reaps the child at once, so that the watchman does not wait for a zombie and nothing has to poll.
        thread::spawn(move || {
            let status = child.wait().ok();
            *locked(&told.status) = status;
            told.changed.notify_all();
        });
        Ok(Group { leader, exit })
    }

    /// Returns the leader's process id, which is also the group's id.
    pub fn id(&self) -> i32 {
        self.leader
    }

    /// Returns the leader's exit status, if it has ended.
    pub fn status(&self) -> Option<ExitStatus> {
        *locked(&self.exit.status)
    }

    /// Waits until the leader ends.
    pub fn wait(&self) -> ExitStatus {
        let mut status = locked(&self.exit.status);
        loop {
            if let Some(status) = *status {
                stay_if_ending();
                return status;
            }
            status = self.exit.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the leader ends, but not longer than `patience`.
    pub fn wait_for(&self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        let mut status = locked(&self.exit.status);
        while status.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            status = self.exit.changed.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        stay_if_ending();
        *status
    }

    /// Sends a signal to the whole group, or does nothing if it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.status().is_none() {
            let _gone = signal.send(-self.leader);
        }
    }

    /// Sends `signal`, and SIGKILL after `patience`. Returns when the leader has ended.
    pub fn end(&self, signal: Signal, patience: Duration) -> ExitStatus {
        self.signal(signal);
        if let Some(status) = self.wait_for(patience) {
            return status;
        }
        self.signal(Signal::KILL);
        self.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // This also runs after the leader's end: processes that it started may still run, and they keep the group's id
        // from being reused.
        let _gone = Signal::KILL.send(-self.leader);
        if self.status().is_none() {
            self.wait();
        }
        let _ending = order(&mut locked(&WATCH), &format!("gone {}", self.id()));
    }
}

/// Returns whether this program runs as root.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Returns the last `count` lines of a file for an error message, or an empty text if the file cannot be read.
pub fn last_lines(path: &Path, count: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
