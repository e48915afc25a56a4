//! PostgreSQL from the machine's own packages, or another version from Maven Central. Its data folder is deleted at the
//! end.
//!
//! PostgreSQL refuses to run as root. As root we start it as the user `postgres`, or `nobody` if there is no such user.
//! That user must reach the data folder. If the cache lies below a folder that the user may not enter (`/root`), the
//! data goes to a new folder below `/tmp`, and programs from the cache are copied there. The permissions of existing
//! folders are not changed.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Certificate, died, explain, free_port, maven, versions, wait_until_ready};
use crate::cache::{Cache, unique};
use crate::failure::{Context, Failure, Result};
use crate::process::{Group, Signal, delete_at_end, is_root};

/// A start takes half a second on an idle machine. A minute covers recovery after a kill on two busy cores.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tollgate</groupId><artifactId>postgres</artifactId><version>1</version>
<packaging>pom</packaging></project>
"#;

/// fsync is off, because test data need not survive a power failure. A killed server loses nothing, since the kernel
/// has its writes. A bench turns fsync on again.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_connections = 200
log_line_prefix = '%m [%p] '
";

/// Options of a server that differ from the default.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// One of [`versions::POSTGRES`](super::versions::POSTGRES), or a prefix of one. If `None`, that module chooses.
    pub version: Option<String>,
    /// Lines of postgresql.conf; this module quotes the values. They come last, so they override the defaults.
    pub settings: Vec<(String, String)>,
    /// Turns `ssl` on. Clients may still connect without it, unless `hba` forbids that.
    pub certificate: Option<Certificate>,
    /// The whole pg_hba.conf, for instance `hostssl all all 127.0.0.1/32 scram-sha-256`. The default trusts all
    /// connections from loopback.
    pub hba: Option<String>,
}

/// A running (or killed, or paused) server. Dropping it stops the server and deletes its data.
pub struct Postgres {
    programs: PathBuf,
    account: Option<Account>,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Group>,
}

/// The account for a program that refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Creates a cluster with the superuser `postgres` and the database `postgres`, and starts it. Returns when it
    /// accepts connections.
    ///
    /// # Errors
    /// Fails if the server programs are missing, or if the server does not start within a minute. The message then ends
    /// with the log's last lines.
    pub fn start(cache: &Cache, options: &PostgresOptions) -> Result<Self> {
        let version = versions::postgres(options.version.as_deref())?;
        let account = if is_root() { Some(unprivileged()?) } else { None };
        let folder = data_folder(cache, account)?;
        let programs = programs(cache, version, account, &folder)?;
        let (log, _) = cache.log("postgres")?;
        let mut postgres = Postgres { programs, account, folder, log, port: free_port()?, process: None };
        postgres.initialise(options)?;
        postgres.restart()?;
        Ok(postgres)
    }

    /// Returns `postgres://postgres@127.0.0.1:<port>/postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Returns the URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Returns the version that the program reports: `15.13`, followed by the packager's addition.
    pub fn version(&self) -> String {
        let said = Command::new(self.programs.join("postgres")).arg("--version").stdin(Stdio::null()).output();
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
        said.strip_prefix("postgres (PostgreSQL) ").unwrap_or(&said).to_owned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id while the server runs.
    pub fn id(&self) -> Option<i32> {
        self.process.as_ref().map(Group::id)
    }

    /// Returns the server's log, which covers all its restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the server again on its port and its data, after [`Postgres::stop`] or [`Postgres::kill`]. A running
    /// server is killed first.
    ///
    /// # Errors
    /// Fails as [`Postgres::start`] does.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut command = self.program("postgres")?;
        command.arg("-D").arg(self.data());
        let group = self.process.insert(Group::spawn(&mut command, Signal::QUIT)?);
        // The server writes its state to the last line of this file, which `pg_ctl -w` reads too.
        let state = self.folder.join("data/postmaster.pid");
        wait_until_ready("PostgreSQL", group, &self.log, START, || {
            fs::read_to_string(&state).is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
        })
    }

    /// Returns the failure of a server that was running and has ended by itself, with its log's last lines.
    pub fn died(&self) -> Option<Failure> {
        let status = self.process.as_ref()?.status()?;
        Some(died("PostgreSQL", status, &self.log))
    }

    /// Shuts down fast: ends connections, rolls transactions back, and writes everything.
    pub fn stop(&mut self) {
        self.resume();
        if let Some(group) = self.process.take() {
            group.end(Signal::INT, STOP);
        }
    }

    /// Shuts down immediately: all processes end at once, and the next start recovers from the log.
    pub fn kill(&mut self) {
        self.resume();
        if let Some(group) = self.process.take() {
            group.end(Signal::QUIT, STOP);
            // The next start must not mistake this file for a running server.
            let _absent = fs::remove_file(self.folder.join("data/postmaster.pid"));
        }
    }

    /// Freezes the server and all its connections (SIGSTOP): they stay open, and the server does not answer.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Ends [`Postgres::pause`].
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Each connection is a process in its own process group, so a signal to the server's group would not reach it.
    fn signal_all(&self, signal: Signal) {
        let Some(group) = &self.process else { return };
        group.signal(signal);
        let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).stdin(Stdio::null()).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for child in children(&listed, group.id()) {
            let _gone = signal.send(child);
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns a command for one of PostgreSQL's programs, run as the right user and with its output in the log.
    fn program(&self, name: &str) -> Result<Command> {
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new(self.programs.join(name));
        run_as(&mut command, self.account);
        // The other user may not be allowed to enter our working directory.
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.env_remove("PGDATA").env_remove("PGPORT").env_remove("PGOPTIONS");
        Ok(command)
    }

    fn initialise(&self, options: &PostgresOptions) -> Result<()> {
        let mut command = self.program("initdb")?;
        command.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "-D"]);
        let status = Group::spawn(command.arg(self.data()), Signal::TERM)?.wait();
        if !status.success() {
            return Err(explain("PostgreSQL's initdb failed", &self.log));
        }
        let mut settings = format!("{SETTINGS}port = {}\n", self.port);
        if let Some(certificate) = &options.certificate {
            settings += "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n";
            self.install(&certificate.chain, "server.crt", 0o644)?;
            self.install(&certificate.key, "server.key", 0o600)?;
        }
        for (key, value) in &options.settings {
            settings += &format!("{key} = '{}'\n", value.replace('\'', "''"));
        }
        let path = self.data().join("postgresql.conf");
        let defaults = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, defaults + &settings).context(|| format!("cannot write {}", path.display()))?;
        let Some(hba) = &options.hba else { return Ok(()) };
        let path = self.data().join("pg_hba.conf");
        fs::write(&path, hba).context(|| format!("cannot write {}", path.display()))
    }

    fn install(&self, from: &Path, name: &str, mode: u32) -> Result<()> {
        let to = self.data().join(name);
        fs::copy(from, &to).context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        let permitted = fs::set_permissions(&to, Permissions::from_mode(mode));
        permitted.context(|| format!("cannot set the rights of {}", to.display()))?;
        give(&to, self.account)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the folder of `initdb` and `postgres`: the one on the `PATH`, else the newest that Debian, Fedora or
/// Homebrew installed.
pub fn postgres_programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut packaged: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            packaged.extend(version.map(|version| (version, entry.path().join("bin"))));
        }
    }
    packaged.sort();
    folders.extend(packaged.into_iter().rev().map(|(_, folder)| folder));
    let found =
        folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())?;
    // Resolves links on the PATH, because the programs find each other and their libraries relative to their real
    // folder.
    let real = found.join("initdb").canonicalize().ok()?;
    real.parent().map(Path::to_path_buf)
}

/// Returns the folder of the programs that this account may start: those of `version`, or the machine's own.
fn programs(cache: &Cache, version: Option<&str>, account: Option<Account>, folder: &Path) -> Result<PathBuf> {
    let Some(version) = version else {
        return postgres_programs().ok_or_else(|| {
            Failure::environment(
                "PostgreSQL's server programs (initdb, postgres) are missing: install the package postgresql",
            )
        });
    };
    let cached = fetch_postgres(cache, version)?;
    if account.is_none_or(|account| reachable(&cached, account)) {
        return Ok(cached.join("bin"));
    }
    let copy = folder.join("programs");
    let copied = Command::new("cp").arg("-R").arg(&cached).arg(&copy).stdin(Stdio::null()).status();
    let copied = copied.context(|| "cannot start cp".to_owned())?;
    copied
        .success()
        .then_some(copy.join("bin"))
        .ok_or_else(|| Failure::environment(format!("cannot copy {} to {}", cached.display(), copy.display())))
}

/// Returns the folder with PostgreSQL's `bin`, `lib` and `share`. They are downloaded from Maven Central on first use
/// (15 MB).
///
/// # Errors
/// Fails if there is no build for this machine, if Maven, tar or xz is missing, or if the download fails.
pub fn fetch_postgres(cache: &Cache, version: &str) -> Result<PathBuf> {
    let machine = match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => "linux-amd64",
        ("linux", "aarch64") => "linux-arm64v8",
        ("macos", "x86_64") => "darwin-amd64",
        ("macos", "aarch64") => "darwin-arm64v8",
        (system, processor) => {
            return Err(Failure::environment(format!("there is no PostgreSQL {version} for {system} on {processor}")));
        }
    };
    let home = cache.folder(&format!("postgres-{version}"))?;
    maven::once(&home, "server", |part| {
        // Outside of a project the goal would write its notes into a folder with a strange name.
        let pom = home.join("pom.xml");
        fs::write(&pom, POM).context(|| format!("cannot write {}", pom.display()))?;
        let jar = home.join("jar");
        let arguments = [
            "-f".to_owned(),
            pom.display().to_string(),
            format!("-Dartifact=io.zonky.test.postgres:embedded-postgres-binaries-{machine}:{version}"),
            format!("-DoutputDirectory={}", jar.display()),
        ];
        maven::goal(cache, &home, &format!("Maven cannot download PostgreSQL {version}"), "unpack", arguments)?;
        let entries = fs::read_dir(&jar).context(|| format!("cannot read {}", jar.display()))?;
        let archive = entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("txz".as_ref()));
        let archive = archive.ok_or_else(|| Failure::environment(format!("no archive is in {}", jar.display())))?;
        maven::untar(cache, &archive, part, "tar cannot unpack PostgreSQL (it needs xz, of the package xz-utils)")?;
        // The plugin's notes about unpacked files must go too, because the plugin would not unpack them again.
        let _left = [jar, home.join("target")].map(fs::remove_dir_all);
        Ok(())
    })
}

pub(super) fn run_as(command: &mut Command, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

pub(super) fn unprivileged() -> Result<Account> {
    for name in ["postgres", "nobody"] {
        let number = |flag: &str| -> Option<u32> {
            let output =
                Command::new("id").args([flag, name]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        if let (Some(uid), Some(gid)) = (number("-u"), number("-g")) {
            return Ok(Account { uid, gid });
        }
    }
    Err(Failure::environment(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody: use an ordinary user",
    ))
}

/// Creates a folder that the account can reach and owns.
pub(super) fn data_folder(cache: &Cache, account: Option<Account>) -> Result<PathBuf> {
    let run = cache.folder("run")?;
    let parent = match account {
        Some(account) if !reachable(&run, account) => env::temp_dir(),
        _ => run,
    };
    let folder = parent.join(unique("tollgate-postgres"));
    delete_at_end(&folder)?;
    fs::create_dir(&folder).context(|| format!("cannot create {}", folder.display()))?;
    give(&folder, account)?;
    Ok(folder)
}

pub(super) fn give(path: &Path, account: Option<Account>) -> Result<()> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).context(|| format!("cannot give {} to PostgreSQL's user", path.display()))
}

/// Returns whether the account may pass through the folder and everything above it.
fn reachable(folder: &Path, account: Account) -> bool {
    folder.ancestors().all(|step| {
        fs::metadata(step).is_ok_and(|meta| {
            let bit = match meta {
                ref meta if meta.uid() == account.uid => 0o100,
                ref meta if meta.gid() == account.gid => 0o010,
                _ => 0o001,
            };
            meta.mode() & bit != 0
        })
    })
}

/// Returns the processes whose parent is `parent`, from lines `<pid> <ppid>`.
fn children(listed: &str, parent: i32) -> Vec<i32> {
    let pairs = listed.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<i32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    pairs.filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_those_of_this_parent() {
        assert_eq!(children("  10 1\n 11 10\n  12 10\n13 11\nnoise\n", 10), [11, 12]);
    }

    #[test]
    fn a_folder_below_a_closed_one_is_out_of_reach() {
        let top = env::temp_dir().join(unique("xtask-reach"));
        let inner = top.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&top, Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { uid: 4_000_001, gid: 4_000_001 };
        let owner = fs::metadata(&top).unwrap();
        assert!(!reachable(&inner, stranger));
        assert!(reachable(&top, Account { uid: owner.uid(), gid: 4_000_001 }));
        fs::set_permissions(&top, Permissions::from_mode(0o755)).unwrap();
        assert!(reachable(&inner, stranger));
        fs::remove_dir_all(top).unwrap();
    }
}
