//! Reads files of a commit through the `git` program, which everybody with a repository has.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tollgate_config::error::Failure;

/// A repository, identified by its top-level folder.
#[derive(Debug)]
pub struct Repository {
    pub top: PathBuf,
}

fn failed(message: impl std::fmt::Display) -> Failure {
    Failure::configuration("check.git", message)
}

impl Repository {
    /// Returns the repository that contains a path.
    ///
    /// # Errors
    /// Fails if there is no repository, or no git.
    pub fn of(path: &Path) -> Result<Repository, Failure> {
        let path = std::fs::canonicalize(path).map_err(|error| {
            Failure::configuration("check.path", format!("{} cannot be read: {error}", path.display()))
        })?;
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
        let top = Repository { top: folder.to_owned() }.text(&["rev-parse", "--show-toplevel"]);
        let top = top.map_err(|error| {
            failed(format!(
                "{} is in no git repository that can be read, so no ref names an earlier version; give a folder or a \
                 descriptor set to --against ({error})",
                folder.display()
            ))
        })?;
        let top = PathBuf::from(top);
        Ok(Repository { top: std::fs::canonicalize(&top).unwrap_or(top) })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        // Messages are shown to people, and no code matches them. They are in English, as all of Tollgate's messages
        // are.
        command.arg("-C").arg(&self.top).args(arguments).env("LC_ALL", "C");
        command
    }

    /// Runs git. Returns its output without the final newline, or the first line of its error message.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other variants are treated alike")]
    fn text(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "the program git is missing; install it".to_owned(),
            _ => format!("cannot run git: {error}"),
        })?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(complaint.lines().next().unwrap_or("git failed without a message").trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Returns the commit that a ref names.
    ///
    /// # Errors
    /// Fails if there is no such ref. If the clone is shallow, the message shows how to deepen it.
    pub fn commit(&self, reference: &str) -> Result<String, Failure> {
        if reference.is_empty() || reference.starts_with('-') {
            return Err(failed(format!("`{reference}` is not a git ref")));
        }
        let commit = format!("{reference}^{{commit}}");
        if let Ok(commit) = self.text(&["rev-parse", "--verify", &commit]) {
            return Ok(commit);
        }
        let shallow = self.text(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|answer| answer == "true");
        Err(failed(if shallow {
            format!("this clone is shallow and lacks {reference}; {}", deepen(reference))
        } else {
            let near = self.near(reference);
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            format!(
                "`{reference}` is neither a folder, a file, nor a ref of the git repository {}{near}",
                self.top.display()
            )
        }))
    }

    fn near(&self, reference: &str) -> Option<String> {
        let all = self.text(&["for-each-ref", "--format=%(refname:short)"]).ok()?;
        tollgate_config::reader::nearest(reference, all.lines())
    }

    /// Returns a path relative to the repository's top-level folder, `.` for that folder itself.
    pub fn relative(&self, path: &Path) -> Option<String> {
        let path = std::fs::canonicalize(path).ok()?;
        let inside = path.strip_prefix(&self.top).ok()?.to_str()?.to_owned();
        Some(if inside.is_empty() { ".".to_owned() } else { inside })
    }

    /// Returns the commit's files below `paths` for which `wanted` returns true.
    ///
    /// # Errors
    /// Fails if git fails.
    pub fn list(
        &self,
        commit: &str,
        paths: &BTreeSet<String>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let mut arguments = vec!["ls-tree", "-r", "-z", "--full-tree", "--name-only", commit, "--"];
        // ls-tree does not accept `.` at the top; without a path it lists everything.
        if !paths.contains(".") {
            arguments.extend(paths.iter().map(String::as_str));
        }
        let output = self.command(&arguments).output().map_err(failed)?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr)));
        }
        let names = output.stdout.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
        Ok(names.filter(|name| !name.is_empty() && wanted(name)).map(str::to_owned).collect())
    }

    /// Returns the contents of files, read by one process. A file that the commit lacks is `None`.
    ///
    /// # Errors
    /// Fails if git fails.
    pub fn read(&self, commit: &str, files: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        // The requests come from a file: git may answer before it has read all of them, and a pipe would fill.
        let mut questions = tempfile::tempfile().map_err(failed)?;
        for file in files {
            writeln!(questions, "{commit}:{file}").map_err(failed)?;
        }
        questions.rewind().map_err(failed)?;
        let mut command = self.command(&["cat-file", "--batch"]);
        let mut child =
            command.stdin(questions).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
        let mut answer = Vec::new();
        if let Some(mut out) = child.stdout.take() {
            out.read_to_end(&mut answer).map_err(failed)?;
        }
        child.wait().map_err(failed)?;
        let mut rest = answer.as_slice();
        files.iter().map(|_| next(&mut rest).ok_or_else(|| failed("git cat-file ended early"))).collect()
    }
}

/// Parses the next answer of `git cat-file`: `<name> blob <size>\n<content>\n`, or `<request> missing\n`.
fn next(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    *rest = &rest[end + 1..];
    if head.ends_with(" missing") || head.ends_with(" ambiguous") {
        return Some(None);
    }
    let size: usize = head.rsplit(' ').next()?.parse().ok()?;
    let content = rest.get(..size)?.to_vec();
    *rest = rest.get(size + 1..)?;
    Some(Some(content))
}

/// Returns how a shallow clone gets a ref.
fn deepen(reference: &str) -> String {
    let checkout = "in GitHub Actions give actions/checkout `fetch-depth: 0`";
    match reference.split_once('/') {
        Some(("origin", branch)) => {
            format!("fetch it: git fetch --depth=1 origin {branch}:refs/remotes/origin/{branch}, or {checkout}")
        }
        _ if reference.contains(['~', '^', '@']) => format!("deepen it: git fetch --unshallow, or {checkout}"),
        _ => format!(
            "fetch it: git fetch --depth=1 origin {reference}:{reference} (tags: git fetch --depth=1 origin tag {reference}), or {checkout}"
        ),
    }
}
