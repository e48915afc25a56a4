//! A folder and a server that never outlive the demo, however that ends.
//!
//! A *watchman* cleans up: a shell that reads from a pipe. The pipe closes when this process ends, whether by return,
//! panic, signal or SIGKILL. The watchman then stops the server's process group and deletes the folder. There is no
//! other cleanup, so every normal exit also tests the abnormal one. (`PR_SET_PDEATHSIG` would work only on Linux, leave
//! the folder behind, and fire when the thread that started the server ends.)
//!
//! It is not covered if the watchman is killed too.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use tollgate_config::error::Failure;

/// Each line read is a process group to stop, and the last one counts. `$1` is the folder. It waits 6 s, because
/// PostgreSQL's immediate shutdown kills its own children after 5 s.
const WATCHMAN: &str = r#"
trap '' HUP INT QUIT TERM
group=
while IFS= read -r line; do group=$line; done
if [ -n "$group" ]; then
  kill -s QUIT -- "-$group" 2>/dev/null
  tries=0
  while [ $tries -lt 120 ] && kill -s 0 -- "-$group" 2>/dev/null; do
    sleep 0.05
    tries=$((tries + 1))
  done
  kill -s KILL -- "-$group" 2>/dev/null
fi
rm -rf -- "$1"
"#;

/// The folder, and the process that runs in it.
pub struct Scratch {
    path: PathBuf,
    watchman: Child,
    pipe: Option<ChildStdin>,
    child: Option<Child>,
}

impl Scratch {
    /// Creates a folder below `parent`, which others may traverse but not list.
    ///
    /// # Errors
    /// Fails if the folder cannot be created, or if there is no `sh`.
    pub fn new(parent: &Path) -> Result<Scratch, Failure> {
        let failed =
            |what: &str, error: std::io::Error| Failure::environment("demo.folder", format!("{what}: {error}"));
        let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir_in(parent);
        let folder =
            folder.map_err(|error| failed(&format!("cannot create a folder in {}", parent.display()), error))?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711))
            .map_err(|error| failed("cannot set the folder's permissions", error))?;
        let mut watchman = Command::new("sh")
            .args(["-c", WATCHMAN, "sh"])
            .arg(folder.path())
            // Ctrl-C is sent to the terminal's whole foreground group; the watchman must survive it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("cannot start sh, which cleans up after the demo", error))?;
        let pipe = watchman.stdin.take();
        Ok(Scratch { path: folder.keep(), watchman, pipe, child: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program in a separate process group, which ends with this process. Only one program can run at a time.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start(&mut self, command: &mut Command) -> std::io::Result<()> {
        let child = self.child.insert(command.process_group(0).spawn()?);
        let group = child.id();
        match &mut self.pipe {
            Some(pipe) => writeln!(pipe, "{group}"),
            None => Err(std::io::Error::other("the demo is ending")),
        }
    }

    /// Returns the program's exit status, if it has ended.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            // Its number may be reused for another group from now on.
            self.child = None;
            if let Some(pipe) = &mut self.pipe {
                writeln!(pipe)?;
            }
        }
        Ok(status)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The child is reaped here, because the watchman would take the zombie for a process that does not end.
        let reaped = self.child.take().map(|mut child| child.wait());
        let cleaned = self.watchman.wait();
        if let (Some(Err(error)), _) | (_, Err(error)) = (reaped, cleaned) {
            tracing::warn!(%error, folder = %self.path.display(), "cannot confirm the cleanup after the demo");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_the_program_are_gone_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(parent.path()).unwrap();
        let path = scratch.path().to_path_buf();
        std::fs::write(path.join("file"), "x").unwrap();
        scratch.start(Command::new("sleep").arg("1000")).unwrap();
        let pid = scratch.child.as_ref().unwrap().id();
        assert!(scratch.ended().unwrap().is_none());
        drop(scratch);
        assert!(!path.exists());
        let alive = Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        assert!(!alive.success());
    }

    #[test]
    fn a_program_that_ended_by_itself_is_told() {
        let parent = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(parent.path()).unwrap();
        scratch.start(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let status = loop {
            if let Some(status) = scratch.ended().unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(7));
    }
}
