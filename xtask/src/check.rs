//! Checks within seconds which programs this machine lacks, and shows the command that installs them.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use xtask::process::is_root;
use xtask::servers::{pgbouncer_program, postgres_programs};
use xtask::{Failure, Result};

use crate::project::{Project, answer};
use crate::say;

/// The kind of work of a verb, which determines the programs that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Uses {
    /// Compiles the host and the guests.
    Build,
    /// Also starts PostgreSQL.
    Postgres,
    /// Also starts Kafka.
    Kafka,
    /// Also starts what single tests need beyond these.
    Tests,
    /// Starts only PostgreSQL and Kafka.
    Servers,
}

impl Uses {
    fn wants(self, need: Uses) -> bool {
        match self {
            Uses::Servers => matches!(need, Uses::Postgres | Uses::Kafka),
            uses @ Uses::Build | uses @ Uses::Postgres | uses @ Uses::Kafka | uses @ Uses::Tests => need <= uses,
        }
    }
}

/// A needed program and the names of its packages. An empty name means that the system includes the program, or that it
/// has no obvious package for it.
struct Need {
    name: &'static str,
    why: &'static str,
    from: Uses,
    found: fn() -> bool,
    apt: &'static str,
    dnf: &'static str,
    brew: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        name: "git",
        why: "components carry their commit",
        from: Uses::Build,
        found: || works("git", &["--version"]),
        apt: "git",
        dnf: "git",
        brew: "git",
    },
    Need {
        name: "a C compiler",
        why: "librdkafka is built from source",
        from: Uses::Build,
        found: || compiles("CC", &["cc", "gcc", "clang"]),
        apt: "gcc libc6-dev",
        dnf: "gcc glibc-devel",
        brew: "gcc",
    },
    Need {
        name: "a C++ compiler",
        why: "librdkafka has parts in C++",
        from: Uses::Build,
        found: || compiles("CXX", &["c++", "g++", "clang++"]),
        apt: "g++",
        dnf: "gcc-c++",
        brew: "gcc",
    },
    Need {
        name: "make",
        why: "librdkafka is built with it",
        from: Uses::Build,
        found: || works("make", &["--version"]),
        apt: "make",
        dnf: "make",
        brew: "make",
    },
    Need {
        name: "OpenSSL's headers and pkg-config",
        why: "librdkafka links OpenSSL for TLS",
        from: Uses::Build,
        found: || env::var_os("OPENSSL_DIR").is_some() || works("pkg-config", &["--exists", "openssl"]),
        apt: "libssl-dev pkg-config",
        dnf: "openssl-devel pkgconf-pkg-config",
        brew: "openssl@3 pkgconf",
    },
    Need {
        name: "PostgreSQL's server programs (initdb, postgres)",
        why: "a throw-away server is started",
        from: Uses::Postgres,
        found: || postgres_programs().is_some(),
        apt: "postgresql",
        dnf: "postgresql-server",
        brew: "postgresql@17",
    },
    Need {
        name: "Java 17 or later",
        why: "Apache Kafka runs on it",
        from: Uses::Kafka,
        found: || {
            answer("java", &["-version"]).and_then(|text| java_version(&text)).is_some_and(|version| version >= 17)
        },
        apt: "default-jre-headless",
        dnf: "java-latest-openjdk-headless",
        brew: "openjdk",
    },
    Need {
        name: "Maven",
        why: "Apache Kafka comes from Maven Central",
        from: Uses::Kafka,
        found: || works("mvn", &["--version"]),
        apt: "maven",
        dnf: "maven",
        brew: "maven",
    },
    Need {
        name: "PgBouncer",
        why: "a test connects through a pooler",
        from: Uses::Tests,
        found: || pgbouncer_program().is_some(),
        apt: "pgbouncer",
        dnf: "pgbouncer",
        brew: "pgbouncer",
    },
];

/// Debian's toolchain for the web: the alternative if rustup cannot download.
const WASM_FROM_DEBIAN: &str =
    "apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src rust-web-llvm libstd-rust-web-dev";
const WASM_FROM_RUSTUP: &str = "rustup target add wasm32-unknown-unknown";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manager {
    Apt,
    Dnf,
    Brew,
    Unknown,
}

/// Something that is missing, with commands that install it. The first command that succeeds is sufficient.
#[derive(Debug, PartialEq)]
struct Missing {
    what: String,
    lines: Vec<String>,
}

/// Shows what is missing for `uses`, and installs it if `install` is set or the user is root.
///
/// # Errors
/// Fails if something is missing and was not installed (exit code 3).
pub(crate) fn check(project: &Project, uses: Uses, install: bool) -> Result<()> {
    let root = is_root();
    let missing = look(uses, manager(), root);
    if missing.is_empty() {
        say::line(&format!("needed programs: all here (cache {})", project.cache.root().display()));
        return Ok(());
    }
    for one in &missing {
        say::line(&format!(
            "missing: {}\n    {}",
            one.what,
            one.lines.join("\n    or, where that cannot download:\n    ")
        ));
    }
    if !root && !install {
        return Err(Failure::environment(
            "install what is missing, or repeat the command with --install, which runs these lines",
        ));
    }
    for one in &missing {
        if !one.lines.iter().any(|line| attempt(line)) {
            return Err(Failure::environment(format!("could not install {}", one.what)));
        }
    }
    let left: Vec<String> = look(uses, manager(), root).into_iter().map(|one| one.what).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::environment(format!("still missing after the installation: {}", left.join("; "))))
}

/// Shows what comes next, and how long the build takes if it takes minutes.
pub(crate) fn foretell(project: &Project, then: &str) {
    if project.is_cold() {
        say::line(&format!("now: compile Kafka's client and wasmtime, once, 6 to 8 minutes on two cores; then {then}"));
    } else {
        say::line(&format!("now: compile what changed; then {then}"));
    }
}

fn look(uses: Uses, manager: Manager, root: bool) -> Vec<Missing> {
    let needed = NEEDS.iter().filter(|need| uses.wants(need.from) && !(need.found)());
    let mut missing: Vec<Missing> = needed.map(|need| describe(need, manager, root)).collect();
    if uses.wants(Uses::Build) && !wasm_std_is_here() {
        let mut lines = Vec::new();
        if works("rustup", &["--version"]) {
            lines.push(WASM_FROM_RUSTUP.to_owned());
        }
        if manager == Manager::Apt || lines.is_empty() {
            lines.push(as_root(WASM_FROM_DEBIAN, root));
        }
        let what = "the standard library for wasm32-unknown-unknown (transforms are built for it)".to_owned();
        missing.push(Missing { what, lines });
    }
    missing
}

fn describe(need: &Need, manager: Manager, root: bool) -> Missing {
    let line = match manager {
        Manager::Apt => as_root(&format!("apt-get install -y --no-install-recommends {}", need.apt), root),
        Manager::Dnf => as_root(&format!("dnf install -y {}", need.dnf), root),
        // Homebrew refuses to run as root.
        Manager::Brew => format!("brew install {}", need.brew),
        Manager::Unknown => format!("install {} with your system's packages (Debian calls it {})", need.name, need.apt),
    };
    Missing { what: format!("{} ({})", need.name, need.why), lines: vec![line] }
}

fn as_root(line: &str, root: bool) -> String {
    if root { line.to_owned() } else { format!("sudo {line}") }
}

/// Runs an install command. It stays in our process group, because `sudo` asks for the password at the terminal.
fn attempt(line: &str) -> bool {
    // A fresh container has no package lists, and outdated lists name packages that no longer exist.
    let refreshed = match line.split_once("apt-get install") {
        Some((sudo, _)) => format!("{sudo}apt-get update -qq && {line}"),
        None => line.to_owned(),
    };
    say::line(&format!("installing: {line}"));
    let mut command = Command::new("sh");
    command.args(["-c", &refreshed]).env("DEBIAN_FRONTEND", "noninteractive");
    // Debian's packages start their servers when they are installed. With this run level they do not.
    command.env("RUNLEVEL", "1");
    if !line.starts_with("sudo") {
        command.stdin(Stdio::null());
    }
    command.status().is_ok_and(|status| status.success())
}

fn manager() -> Manager {
    let known = [("apt-get", Manager::Apt), ("dnf", Manager::Dnf), ("brew", Manager::Brew)];
    known
        .into_iter()
        .find(|(program, _)| works(program, &["--version"]))
        .map_or(Manager::Unknown, |(_, manager)| manager)
}

fn works(program: &str, arguments: &[&str]) -> bool {
    answer(program, arguments).is_some()
}

fn compiles(variable: &str, usual: &[&str]) -> bool {
    let named = env::var(variable).ok().filter(|name| !name.is_empty());
    named.map_or_else(|| usual.iter().any(|name| works(name, &["--version"])), |name| works(&name, &["--version"]))
}

/// Returns whether the toolchain in use has the wasm32 standard library, or Debian's toolchain is installed, which
/// builds the library from source.
fn wasm_std_is_here() -> bool {
    let toolchain = answer("rustc", &["--print", "sysroot"]);
    let has = |root: &str| Path::new(root).join("lib/rustlib/wasm32-unknown-unknown/lib").is_dir();
    toolchain.is_some_and(|root| has(root.trim())) || debian_web_toolchain()
}

fn debian_web_toolchain() -> bool {
    answer(
        "dpkg-query",
        &["-W", "-f=${Status}\n", "rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "libstd-rust-web-dev"],
    )
    .is_some_and(|text| text.lines().filter(|line| line.ends_with("ok installed")).count() == 5)
}

/// Parses the major version from the output of `java -version`: `"17.0.15"` is 17, `"1.8.0_442"` is 8.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    match numbers.next()?? {
        1 => numbers.next()?,
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_old_and_new() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_442\""), Some(8));
        assert_eq!(java_version("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(java_version("The operation couldn’t be completed"), None);
        assert_eq!(java_version("version \"\""), None);
    }

    #[test]
    fn each_system_gets_its_own_line() {
        let need = NEEDS.iter().find(|need| need.name == "a C++ compiler").unwrap();
        let line = |manager, root| describe(need, manager, root).lines.concat();
        assert_eq!(line(Manager::Apt, true), "apt-get install -y --no-install-recommends g++");
        assert_eq!(line(Manager::Apt, false), "sudo apt-get install -y --no-install-recommends g++");
        assert_eq!(line(Manager::Dnf, false), "sudo dnf install -y gcc-c++");
        assert_eq!(line(Manager::Brew, false), "brew install gcc");
        assert!(line(Manager::Unknown, false).starts_with("install a C++ compiler with"));
    }

    #[test]
    fn every_need_has_a_reason_and_a_package_everywhere() {
        for need in NEEDS {
            assert!([need.why, need.apt, need.dnf, need.brew].iter().all(|text| !text.is_empty()), "{}", need.name);
        }
    }

    #[test]
    fn a_verb_asks_for_what_it_uses_alone() {
        let wanted = |uses: Uses| [Uses::Build, Uses::Postgres, Uses::Kafka, Uses::Tests].map(|need| uses.wants(need));
        assert_eq!(wanted(Uses::Build), [true, false, false, false]);
        assert_eq!(wanted(Uses::Postgres), [true, true, false, false]);
        assert_eq!(wanted(Uses::Kafka), [true, true, true, false]);
        assert_eq!(wanted(Uses::Tests), [true, true, true, true]);
        assert_eq!(wanted(Uses::Servers), [false, true, true, false]);
    }

    #[test]
    fn a_program_that_is_not_there_or_fails_does_not_work() {
        assert!(works("sh", &["-c", "exit 0"]));
        assert!(!works("sh", &["-c", "exit 1"]));
        assert!(!works("no-such-program-here", &[]));
    }
}
