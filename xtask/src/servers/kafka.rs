//! Apache Kafka from Maven Central: one KRaft node, broker and controller in one JVM, up in about two seconds.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{Certificate, died, explain, free_port, maven, versions, wait_until_ready};
use crate::cache::{Cache, unique};
use crate::failure::{Context, Failure, Result};
use crate::process::{Group, Signal, delete_at_end};

/// A start takes two seconds on an idle machine. A minute is enough on two cores that also compile.
const START: Duration = Duration::from_secs(60);
/// A broker that is asked to stop flushes and deregisters from its controller, which is itself. After this time it is
/// killed.
const STOP: Duration = Duration::from_secs(20);
/// Any id will do, because each data folder is its own cluster.
const CLUSTER: &str = "dG9sbGdhdGUtdGVzdHMtMQ";
const READY: &[u8] = b"Kafka Server started";

/// slf4j-simple is the logging binding. Without one Kafka logs nothing, and a broker that fails to start could not
/// report why.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tollgate</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>VERSION</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"#;

/// Settings that differ from Kafka's defaults, and why:
/// - One node holds every internal topic (replication 1).
/// - Internal topics have few partitions, so that the first group and the first transaction do not wait for fifty logs.
/// - A group does not wait for more members, and a session timeout of one second is allowed.
/// - Expired transactions are aborted every second, not every ten.
/// - Missing topics are not created.
///
/// Older versions of Kafka ignore settings that they do not know.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
";

/// A login for the secure listener, which accepts it by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub password: String,
}

/// A SASL_SSL listener beside the plain one. It advertises `localhost`, so the certificate must be issued for that
/// name.
#[derive(Debug, Clone)]
pub struct SecureListener {
    pub certificate: Certificate,
    pub users: Vec<User>,
}

/// Options of a broker that differ from the default.
#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    /// One of [`versions::KAFKA`](super::versions::KAFKA), or a prefix of one. If `None`, that module chooses.
    pub version: Option<String>,
    /// Lines of server.properties. They come last, so they override the defaults. For ACLs set `authorizer.class.name`
    /// to `org.apache.kafka.metadata.authorizer.StandardAuthorizer` and `super.users` to `User:ANONYMOUS`. The plain
    /// listener then still has all permissions.
    pub properties: Vec<(String, String)>,
    pub secure: Option<SecureListener>,
    /// A second plain listener that advertises this port, which is a proxy's.
    pub proxied: Option<u16>,
    /// Further JVM options, placed after `-Xmx512m`, so a later `-Xmx` overrides it. `-XX:TieredStopAtLevel=1` halves
    /// the CPU time of a start, for tests that need their own broker and no throughput.
    pub jvm: Vec<String>,
}

/// A running (or killed, or paused) broker. Dropping it kills it and deletes its data.
pub struct Kafka {
    version: &'static str,
    java: Vec<String>,
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    secure_port: Option<u16>,
    proxied_port: Option<u16>,
    process: Option<Group>,
}

impl Kafka {
    /// Starts a broker with an empty data folder, and downloads Kafka on first use. Returns when the broker serves
    /// requests.
    ///
    /// # Errors
    /// Fails if Kafka cannot be downloaded, or does not start within a minute. The message then ends with the log's
    /// last lines.
    pub fn start(cache: &Cache, options: &KafkaOptions) -> Result<Self> {
        let version = versions::kafka(options.version.as_deref())?;
        let jars = fetch_kafka(cache, version)?;
        let folder = cache.folder("run")?.join(unique("kafka"));
        delete_at_end(&folder)?;
        fs::create_dir(&folder).context(|| format!("cannot create {}", folder.display()))?;
        let (log, _) = cache.log("kafka")?;
        let mut kafka = Kafka {
            version,
            java: java_arguments(&jars, &options.jvm),
            port: free_port()?,
            secure_port: options.secure.as_ref().map(|_| free_port()).transpose()?,
            proxied_port: options.proxied.map(|_| free_port()).transpose()?,
            folder,
            log,
            process: None,
        };
        kafka.configure(options)?;
        kafka.format(options)?;
        kafka.restart()?;
        Ok(kafka)
    }

    /// `host:port` of the plain listener, without authentication.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the SASL_SSL listener, if there is one.
    pub fn secure_brokers(&self) -> Option<String> {
        self.secure_port.map(|port| format!("localhost:{port}"))
    }

    /// The port that the proxy must forward to, if there is a proxy.
    pub fn proxied_port(&self) -> Option<u16> {
        self.proxied_port
    }

    pub fn version(&self) -> &'static str {
        self.version
    }

    /// Returns the process id while the broker runs.
    pub fn id(&self) -> Option<i32> {
        self.process.as_ref().map(Group::id)
    }

    /// Returns the failure of a broker that was running and has ended by itself, with its log's last lines.
    pub fn died(&self) -> Option<Failure> {
        let status = self.process.as_ref()?.status()?;
        Some(died("Kafka", status, &self.log))
    }

    /// Returns the broker's log, which covers all its restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the broker again on its ports and its data, after [`Kafka::stop`] or [`Kafka::kill`]. A running broker is
    /// killed first.
    ///
    /// # Errors
    /// Fails as [`Kafka::start`] does.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let before = usize::try_from(log.metadata().map_or(0, |meta| meta.len())).unwrap_or(0);
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("java");
        command.args(&self.java).arg("kafka.Kafka").arg(self.properties()).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let group = self.process.insert(Group::spawn(&mut command, Signal::KILL)?);
        let started = || fs::read(&self.log).is_ok_and(|text| contains(text.get(before..).unwrap_or_default(), READY));
        wait_until_ready("Kafka", group, &self.log, START, || {
            started() && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        })
    }

    /// Shuts the broker down in order. Returns its exit status, or `None` if it was not running.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.resume();
        self.process.take().map(|group| group.end(Signal::TERM, STOP))
    }

    /// Kills the broker with SIGKILL. Data that it had not written is lost; the data folder stays.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Freezes the broker (SIGSTOP): connections stay open, and it does not answer.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Kafka::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = &self.process {
            group.signal(signal);
        }
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn configure(&self, options: &KafkaOptions) -> Result<()> {
        let controller = free_port()?;
        let mut text = SETTINGS.to_owned();
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller}", self.port);
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{}", self.port);
        if let (Some(secure), Some(port)) = (&options.secure, self.secure_port) {
            let _infallible = write!(listeners, ",SASL_SSL://127.0.0.1:{port}");
            let _infallible = write!(advertised, ",SASL_SSL://localhost:{port}");
            text += &self.secure_settings(secure)?;
        }
        if let (Some(proxy), Some(port)) = (options.proxied, self.proxied_port) {
            let _infallible = write!(listeners, ",PROXIED://127.0.0.1:{port}");
            let _infallible = write!(advertised, ",PROXIED://127.0.0.1:{proxy}");
        }
        let data = self.folder.join("data");
        text += &format!("listeners={listeners}\nadvertised.listeners={advertised}\n");
        text += &format!("controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\n", data.display());
        for (key, value) in &options.properties {
            text += &format!("{key}={value}\n");
        }
        let path = self.properties();
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
    }

    fn secure_settings(&self, secure: &SecureListener) -> Result<String> {
        let read = |path: &Path| fs::read_to_string(path).context(|| format!("cannot read {}", path.display()));
        let keystore = self.folder.join("keystore.pem");
        let pem = read(&secure.certificate.key)? + &read(&secure.certificate.chain)?;
        fs::write(&keystore, pem).context(|| format!("cannot write {}", keystore.display()))?;
        let mut text = format!("ssl.keystore.type=PEM\nssl.keystore.location={}\n", keystore.display());
        let logins: String =
            secure.users.iter().map(|user| format!(" user_{}=\"{}\"", user.name, user.password)).collect();
        for (mechanism, module, logins) in [
            ("plain", "plain.PlainLoginModule", logins.as_str()),
            ("scram-sha-256", "scram.ScramLoginModule", ""),
            ("scram-sha-512", "scram.ScramLoginModule", ""),
        ] {
            text += &format!(
                "listener.name.sasl_ssl.{mechanism}.sasl.jaas.config=\
                 org.apache.kafka.common.security.{module} required{logins};\n"
            );
        }
        Ok(text)
    }

    fn format(&self, options: &KafkaOptions) -> Result<()> {
        let log =
            File::options().append(true).open(&self.log).context(|| format!("cannot open {}", self.log.display()))?;
        let errors = log.try_clone().context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("java");
        command.args(&self.java).args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]);
        command.args(["--cluster-id", CLUSTER, "--config"]).arg(self.properties());
        for user in options.secure.iter().flat_map(|secure| &secure.users) {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let login = format!("{mechanism}=[name={},password={}]", user.name, user.password);
                command.args(["--add-scram", &login]);
            }
        }
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        let status = Group::spawn(&mut command, Signal::KILL)?.wait();
        if status.success() { Ok(()) } else { Err(explain("Kafka's storage cannot be formatted", &self.log)) }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
        let _left = fs::remove_dir_all(&self.folder);
    }
}

fn java_arguments(jars: &Path, extra: &[String]) -> Vec<String> {
    // The serial collector starts fastest, and with 512 MB of heap it is no slower than the others.
    let mut arguments: Vec<String> = ["-Xmx512m", "-XX:+UseSerialGC"].map(str::to_owned).into();
    arguments.push("-Dorg.slf4j.simpleLogger.showDateTime=true".to_owned());
    arguments.push("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS".to_owned());
    arguments.extend(extra.iter().cloned());
    arguments.extend(["-cp".to_owned(), format!("{}/*", jars.display())]);
    arguments
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// Returns the folder of Kafka's jars. They are downloaded from Maven Central on first use (43 MB).
///
/// # Errors
/// Fails if Maven is missing or cannot download; the message ends with Maven's output.
pub fn fetch_kafka(cache: &Cache, version: &str) -> Result<PathBuf> {
    let home = cache.folder(&format!("kafka-{version}"))?;
    maven::once(&home, "lib", |part| {
        let pom = home.join("pom.xml");
        let text = POM.replace("VERSION", version);
        fs::write(&pom, text).context(|| format!("cannot write {}", pom.display()))?;
        let fault = format!("Maven cannot download Kafka {version}");
        let into = format!("-DoutputDirectory={}", part.display());
        let (file, pom) = ("-f".to_owned(), pom.display().to_string());
        maven::goal(cache, &home, &fault, "copy-dependencies", [file, pom, "-DincludeScope=runtime".to_owned(), into])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_found_only_where_it_is() {
        assert!(contains(b"x\n[KafkaRaftServer nodeId=1] Kafka Server started\n", READY));
        assert!(!contains(b"Kafka Server starte", READY));
        assert!(!contains(b"", READY));
    }
}
