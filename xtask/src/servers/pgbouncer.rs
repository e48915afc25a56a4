//! PgBouncer from the machine's own packages, in front of a PostgreSQL server of this crate.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::postgres::{Account, data_folder, give, run_as, unprivileged};
use super::{free_port, wait_until_ready};
use crate::cache::Cache;
use crate::failure::{Context, Failure, Result};
use crate::process::{Group, Signal, is_root};

/// A start takes milliseconds.
const START: Duration = Duration::from_secs(20);

/// The time for which a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    Session,
    Transaction,
}

/// A running pooler. Dropping it stops it.
pub struct PgBouncer {
    program: PathBuf,
    account: Option<Account>,
    folder: PathBuf,
    log: PathBuf,
    /// The port of the PostgreSQL server behind the pooler.
    server: u16,
    port: u16,
    process: Option<Group>,
}

impl PgBouncer {
    /// Starts a pooler in front of the server on this port. It accepts every client as the server's user `postgres`.
    ///
    /// # Errors
    /// Fails if the program is missing, or if it does not start.
    pub fn start(cache: &Cache, server: u16, mode: PoolMode) -> Result<Self> {
        let program = pgbouncer_program()
            .ok_or_else(|| Failure::environment("PgBouncer is missing: install the package pgbouncer"))?;
        // PgBouncer refuses to run as root, as PostgreSQL does.
        let account = if is_root() { Some(unprivileged()?) } else { None };
        let folder = data_folder(cache, account)?;
        let (log, _) = cache.log("pgbouncer")?;
        let mut pooler = PgBouncer { program, account, folder, log, server, port: free_port()?, process: None };
        pooler.restart(mode)?;
        Ok(pooler)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the pooler again on its port. A running pooler is killed first.
    ///
    /// # Errors
    /// Fails if the pooler does not start.
    pub fn restart(&mut self, mode: PoolMode) -> Result<()> {
        drop(self.process.take());
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let settings = self.folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
            self.server, self.port
        );
        fs::write(&settings, text).context(|| format!("cannot write {}", settings.display()))?;
        give(&settings, self.account)?;
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        run_as(&mut command, self.account);
        command.arg(&settings).current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = self.process.insert(Group::spawn(&mut command, Signal::KILL)?);
        let port = self.port;
        wait_until_ready("PgBouncer", process, &self.log, START, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the program on the `PATH`, or in the folder that Debian and Fedora use, which is not on an ordinary user's
/// `PATH`.
pub fn pgbouncer_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}
