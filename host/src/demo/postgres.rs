//! A throw-away PostgreSQL from the machine's own packages.
//!
//! PostgreSQL refuses to run as root, so root starts it as the user `postgres` (or `nobody`). It listens on loopback
//! with its own password: a superuser's connection can run programs, and other users may be logged in to this machine.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::scratch::Scratch;
use tollgate_config::error::Failure;
use tollgate_config::limits;

/// fsync is off, because throw-away data need not survive a power failure.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
synchronous_commit = off
max_connections = 40
";

/// Starts a server in the scratch folder, which ends it when dropped, and returns its URL.
///
/// # Errors
/// Fails with exit code 3 if the programs are missing or the server does not start.
pub async fn start(scratch: &mut Scratch) -> Result<String, Failure> {
    let programs = programs().ok_or_else(|| {
        let message = "PostgreSQL's server programs (initdb, postgres) are missing: install the package postgresql, or \
                       name a server of your own with --postgres";
        Failure::environment("demo.postgres", message)
    })?;
    let account = account(scratch.path())?;
    let folder = scratch.path().join("postgres");
    let failed = |what: &str, error: std::io::Error| Failure::environment("demo.postgres", format!("{what}: {error}"));
    // Only its owner may enter the folder, from before it has any contents.
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| failed("cannot create the data folder", error))?;
    let password = password().map_err(|error| failed("cannot create a random password", error))?;
    let secret = folder.join("password");
    write_private(&secret, &password).map_err(|error| failed("cannot write the password file", error))?;
    if let Some((uid, gid)) = account {
        let give = |path: &Path| chown(path, Some(uid), Some(gid));
        give(&secret)
            .and_then(|()| give(&folder))
            .map_err(|error| failed("cannot change the data folder's owner", error))?;
    }
    let log = scratch.path().join("postgres.log");
    let program = |name: &str| -> std::io::Result<Command> {
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(programs.join(name));
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&folder).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        command.env_remove("PGDATA").env_remove("PGPORT").env_remove("PGOPTIONS");
        Ok(command)
    };
    let data = folder.join("data");
    let mut initdb = program("initdb").map_err(|error| failed("cannot prepare initdb", error))?;
    initdb.args(["--no-sync", "--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--no-locale"]);
    initdb.arg("--pwfile").arg(&secret).arg("-D").arg(&data);
    scratch.start(&mut initdb).map_err(|error| failed("cannot start initdb", error))?;
    let status = ended(scratch, limits::DEMO_POSTGRES).await?;
    if !status.is_some_and(|status| status.success()) {
        return Err(explain("PostgreSQL's initdb failed", &log));
    }
    let port = free_port().map_err(|error| failed("cannot find a free port", error))?;
    configure(&data, port).map_err(|error| failed("cannot write postgresql.conf", error))?;
    let mut postgres = program("postgres").map_err(|error| failed("cannot prepare postgres", error))?;
    scratch.start(postgres.arg("-D").arg(&data)).map_err(|error| failed("cannot start postgres", error))?;
    wait_ready(scratch, &data, &log).await?;
    Ok(format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres"))
}

fn configure(data: &Path, port: u16) -> std::io::Result<()> {
    let path = data.join("postgresql.conf");
    let defaults = fs::read_to_string(&path)?;
    fs::write(&path, format!("{defaults}{SETTINGS}port = {port}\n"))
}

/// Waits until the server is ready. It writes its state to the eighth line of postmaster.pid, where `pg_ctl -w` reads
/// it too.
async fn wait_ready(scratch: &mut Scratch, data: &Path, log: &Path) -> Result<(), Failure> {
    let state = data.join("postmaster.pid");
    let until = Instant::now() + limits::DEMO_POSTGRES;
    while Instant::now() < until {
        let text = fs::read_to_string(&state).unwrap_or_default();
        if text.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok(());
        }
        if let Ok(Some(status)) = scratch.ended() {
            return Err(explain(&format!("PostgreSQL ended while it started ({status})"), log));
        }
        tokio::time::sleep(limits::DEMO_LOOK).await;
    }
    Err(explain("PostgreSQL did not start within a minute", log))
}

async fn ended(scratch: &mut Scratch, patience: Duration) -> Result<Option<std::process::ExitStatus>, Failure> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match scratch.ended() {
            Ok(None) => tokio::time::sleep(limits::DEMO_LOOK).await,
            Ok(status) => return Ok(status),
            Err(error) => return Err(Failure::environment("demo.postgres", error)),
        }
    }
    Ok(None)
}

/// Adds the last lines of the server's log.
fn explain(what: &str, log: &Path) -> Failure {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n");
    Failure::environment("demo.postgres", format!("{what}; its log ends with:\n{tail}"))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    File::options().create_new(true).write(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn password() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Returns a port that is free now. Another process is unlikely to take it in the meantime.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Finds `initdb` and `postgres` on the PATH, else where Debian, Fedora and Homebrew install them (the newest version).
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<(u32, PathBuf)> = Vec::new();
    let places = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ];
    for (parent, prefix) in places {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            packaged.extend(version.map(|version| (version, entry.path().join("bin"))));
        }
    }
    packaged.sort();
    let folders = std::env::split_paths(&path).chain(packaged.into_iter().rev().map(|(_, folder)| folder));
    let found = folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    // Resolves links on the PATH, because the programs find each other and their libraries relative to their real
    // folder.
    found?.join("initdb").canonicalize().ok()?.parent().map(Path::to_path_buf)
}

/// Returns the user that the server runs as, if it differs from ours. As root this is `postgres` or `nobody`. The owner
/// of one of our files shows which user we are.
fn account(ours: &Path) -> Result<Option<(u32, u32)>, Failure> {
    let uid = fs::metadata(ours).map_err(|error| Failure::environment("demo.postgres", error))?.uid();
    if uid != 0 {
        return Ok(None);
    }
    let number = |flag: &str, name: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, name]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let found = ["postgres", "nobody"].into_iter().find_map(|name| Some((number("-u", name)?, number("-g", name)?)));
    let message = "PostgreSQL does not run as root, and neither user postgres nor user nobody exists: run the demo as an \
                   ordinary user, or name a server of your own with --postgres";
    found.map(Some).ok_or_else(|| Failure::environment("demo.postgres", message))
}

/// Returns a folder that every user can traverse, because the server's user must reach its data.
pub fn parent() -> PathBuf {
    let usual = std::env::temp_dir();
    let open = |step: &Path| fs::metadata(step).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    let reachable = usual.canonicalize().is_ok_and(|usual| usual.ancestors().all(open));
    if reachable { usual } else { PathBuf::from("/tmp") }
}
