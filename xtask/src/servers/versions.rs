//! The available versions of the servers. A server uses the version in its options, else the one that a variable names,
//! else the default. The variable lets a caller choose the version for programs that start their own servers.

use std::env;

use crate::failure::{Failure, Result};

/// Chooses the version of every Kafka that a test, a chaos run or a bench starts.
pub const KAFKA_VARIABLE: &str = "TOLLGATE_TEST_KAFKA_VERSION";
/// The same for PostgreSQL.
pub const POSTGRES_VARIABLE: &str = "TOLLGATE_TEST_POSTGRES_VERSION";

/// The first is the default. 3.7 is the oldest that is tested: its transactions lack the second part of KIP-890.
pub const KAFKA: &[&str] = &["4.1.0", "3.7.2"];

/// These versions come from Maven Central: builds of PostgreSQL by the project zonky, under Apache-2.0 (PostgreSQL
/// itself has its own BSD-like licence). The last number is a revision of the package; PostgreSQL itself has `.0`
/// there. The default is the machine's own version, which is not in this list.
pub const POSTGRES: &[&str] = &["18.6.0", "17.11.0"];

/// Returns the version of Kafka to start.
///
/// # Errors
/// Fails if `wish` is not in the list.
pub fn kafka(wish: Option<&str>) -> Result<&'static str> {
    match wished(wish, KAFKA_VARIABLE) {
        Some(wish) => pick("Kafka", &wish, KAFKA),
        None => Ok(KAFKA[0]),
    }
}

/// Returns the version of PostgreSQL to start; `None` is the machine's own.
///
/// # Errors
/// Fails as [`kafka`] does.
pub fn postgres(wish: Option<&str>) -> Result<Option<&'static str>> {
    wished(wish, POSTGRES_VARIABLE).map(|wish| pick("PostgreSQL", &wish, POSTGRES)).transpose()
}

fn wished(wish: Option<&str>, variable: &str) -> Option<String> {
    wish.map(str::to_owned).or_else(|| env::var(variable).ok()).filter(|wish| !wish.is_empty())
}

/// Finds a version by a prefix: `3.7` selects 3.7.2.
fn pick(server: &str, wish: &str, known: &[&'static str]) -> Result<&'static str> {
    let fits =
        |version: &&&str| version.strip_prefix(wish).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    known.iter().find(fits).copied().ok_or_else(|| {
        Failure::usage(format!("there is no {server} {wish} to be had here; there is: {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_version_is_enough() {
        assert_eq!(pick("Kafka", "3.7", KAFKA).unwrap(), "3.7.2");
        assert_eq!(pick("Kafka", "4.1.0", KAFKA).unwrap(), "4.1.0");
        assert_eq!(pick("PostgreSQL", "18", POSTGRES).unwrap(), "18.6.0");
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_is() {
        for wish in ["3", "3.7.2.1", "3.70", "1", "x"] {
            let failure = pick("Kafka", wish, &["4.1.0", "13.7.2"]).unwrap_err();
            assert_eq!(failure.code, 2);
            assert_eq!(failure.message, format!("there is no Kafka {wish} to be had here; there is: 4.1.0, 13.7.2"));
        }
    }
}
