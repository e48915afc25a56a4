//! Kafka and PostgreSQL: the ones that `cargo xtask test` started, or one pair for this test program. A test that breaks
//! a server starts its own.

use std::sync::OnceLock;

use xtask::Cache;
use xtask::servers::{Kafka, KafkaOptions, Postgres, PostgresOptions};

/// Where the servers of a test are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// `host:port`
    pub brokers: String,
    /// A superuser's URL.
    pub postgres: String,
}

/// The pair that all tests of this program share: each keeps to its own topics and its own database.
pub fn shared() -> &'static Servers {
    static SHARED: OnceLock<(Servers, Option<(Kafka, Postgres)>)> = OnceLock::new();
    let (servers, _) = SHARED.get_or_init(|| {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(brokers), Some(postgres)) = (named("TOLLGATE_TEST_KAFKA"), named("TOLLGATE_TEST_POSTGRES")) {
            return (Servers { brokers, postgres }, None);
        }
        // A static is never dropped; the library's watchman ends them with this program.
        let (kafka, postgres) = own(&KafkaOptions::default(), &PostgresOptions::default());
        (Servers { brokers: kafka.brokers(), postgres: postgres.url() }, Some((kafka, postgres)))
    });
    servers
}

/// A pair of one's own, to be broken at will.
pub fn own(kafka: &KafkaOptions, postgres: &PostgresOptions) -> (Kafka, Postgres) {
    let cache = Cache::open().unwrap();
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::start(&cache, kafka).unwrap());
        let postgres = Postgres::start(&cache, postgres).unwrap();
        (kafka.join().unwrap(), postgres)
    })
}
