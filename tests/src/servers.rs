//! Kafka and PostgreSQL: the servers that `cargo xtask test` started, or one pair for this test program. A test that
//! breaks a server starts its own.

use std::sync::OnceLock;

use xtask::Cache;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions};

/// The addresses of a test's servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// `host:port`
    pub brokers: String,
    /// A superuser's URL.
    pub postgres: String,
}

/// Returns the pair that all tests of this program share. Each test uses only its own topics and its own database.
pub fn shared() -> &'static Servers {
    static SHARED: OnceLock<(Servers, Option<(Kafka, Postgres)>)> = OnceLock::new();
    let (servers, _) = SHARED.get_or_init(|| {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(brokers), Some(postgres)) = (named("TOLLGATE_TEST_KAFKA"), named("TOLLGATE_TEST_POSTGRES")) {
            return (Servers { brokers, postgres }, None);
        }
        // A static is never dropped, so the library's watchman ends the servers with this program.
        let (kafka, postgres) = own(&KafkaOptions::default(), &PostgresOptions::default());
        (Servers { brokers: kafka.brokers(), postgres: postgres.url() }, Some((kafka, postgres)))
    });
    servers
}

/// Starts a pair of servers that the test may break.
pub fn own(kafka: &KafkaOptions, postgres: &PostgresOptions) -> (Kafka, Postgres) {
    let cache = Cache::open().unwrap();
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&cache, kafka).unwrap());
        let postgres = Postgres::start(&cache, postgres).unwrap();
        (kafka.join().unwrap(), postgres)
    })
}
