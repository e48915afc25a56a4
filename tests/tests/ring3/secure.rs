//! Tests TLS and SCRAM with Kafka and with PostgreSQL, and that no secret is shown anywhere.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tollgate_tests::case::Case;
use tollgate_tests::events;
use tollgate_tests::guests::Guest;
use tollgate_tests::kafka::Record;
use tollgate_tests::servers::{self, Servers};
use xtask::servers::{Certificate, KafkaOptions, PostgresOptions, SecureListener, User};

const KAFKA_WORD: &str = "correct-horse-battery";
const POSTGRES_WORD: &str = "staple-of-the-database";

/// Creates a certificate authority (`ca.pem`), and a certificate for `localhost` that it has signed.
fn certificates(folder: &Path) -> Certificate {
    // The names differ, because a certificate with the name of its issuer counts as self-signed.
    let named = |names: Vec<String>, name: &str| {
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    };
    let mut authority = named(Vec::new(), "the authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = named(vec!["localhost".to_owned()], "localhost").signed_by(&key, &authority).unwrap();
    let certificate = Certificate { chain: folder.join("server.pem"), key: folder.join("server.key") };
    fs::write(&certificate.chain, server.pem()).unwrap();
    fs::write(&certificate.key, key.serialize_pem()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    certificate
}

#[test]
fn scram_and_tls_on_both_sides_and_no_secret_shown() {
    let folder = TempDir::new().unwrap();
    let certificate = certificates(folder.path());
    let user = User { name: "gate".to_owned(), password: KAFKA_WORD.to_owned() };
    let (kafka, postgres) = servers::own(
        &KafkaOptions {
            secure: Some(SecureListener { certificate: certificate.clone(), users: vec![user] }),
            ..KafkaOptions::default()
        },
        &PostgresOptions {
            certificate: Some(certificate),
            // The engine's account can connect only by TLS and with a password.
            hba: Some("host all postgres 127.0.0.1/32 trust\nhostssl all gate 127.0.0.1/32 scram-sha-256\n".to_owned()),
            ..PostgresOptions::default()
        },
    );
    let plain = Servers { brokers: kafka.brokers(), postgres: postgres.url() };
    let case = Case::on(&plain, "secure").guest(&Guest::revision(1));
    case.database.run(&format!(
        "CREATE ROLE gate LOGIN PASSWORD '{POSTGRES_WORD}'; ALTER DATABASE \"{0}\" OWNER TO gate; ALTER SCHEMA public OWNER TO gate",
        case.name
    ));
    case.put("ca.pem", &fs::read(folder.path().join("ca.pem")).unwrap());
    case.put("kafka.password", format!("{KAFKA_WORD}\n").as_bytes());
    let url =
        format!("postgres://gate:${{GATE_PASSWORD}}@localhost:{}/{}?sslmode=verify-full", postgres.port(), case.name);
    let security = |mechanism: &str, password: &str| json!({ "tls": { "ca": "ca.pem" }, "sasl": { "mechanism": mechanism, "username": "gate", "password": password } });
    let file = "${file:kafka.password}";
    let case = case
        .set("/source/brokers", json!(kafka.secure_brokers().unwrap()))
        .set("/source/security", security("SCRAM-SHA-512", file))
        .set("/postgres/url", json!(url))
        .set("/postgres/tls_ca", json!("ca.pem"))
        .set("/start_deadline", json!("10s"));
    let mut said = String::new();
    let mut run = |case: &Case, arguments: &[&str], word: &str, code: i32| {
        let engine = case
            .tollgate(arguments, &[("GATE_PASSWORD", word), ("TOLLGATE_LOG", "info,tollgate=debug,librdkafka=debug")]);
        let status = engine.wait();
        assert_eq!(status.code(), Some(code), "tollgate {}: {}{}", arguments.join(" "), engine.log(), engine.stdout());
        said += &(engine.log() + &engine.stdout());
    };
    run(&case, &["setup", "pipeline.yaml", "--output", "json"], POSTGRES_WORD, 0);
    run(&case, &["validate", "pipeline.yaml", "--output", "json"], POSTGRES_WORD, 0);
    let event = events::encode(&json!({ "id": "a" }));
    case.kafka.produce(&case.source(), &[Record::new("a", event), Record::new("b", [0x0a])]);
    run(&case, &["run", "pipeline.yaml", "--drain", "--output", "json", "--log-format", "json"], POSTGRES_WORD, 0);
    assert_eq!(case.database.number("SELECT sum(n)::bigint FROM seen"), 1);
    assert_eq!((case.kafka.read(&case.output()).len(), case.kafka.read(&case.dead()).len()), (1, 1));

    // Checks the pages that the running process serves.
    let engine =
        case.run_with(&[("GATE_PASSWORD", POSTGRES_WORD), ("TOLLGATE_LOG", "info,tollgate=debug,librdkafka=debug")]);
    engine.ready();
    let encrypted =
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'gate' AND NOT ssl";
    assert_eq!(case.database.number(encrypted), 0, "a connection without TLS");
    for page in ["/status", "/metrics", "/readyz"] {
        said_by(&engine.get(page).1);
    }
    said_by(&engine.log());
    engine.stop();

    // The other mechanisms are accepted too, and a wrong password is refused at once.
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let case = case.again().set("/source/security", security(mechanism, file));
        run(&case, &["setup", "pipeline.yaml"], POSTGRES_WORD, 0);
    }
    let wrong = case.again().set("/source/security", security("SCRAM-SHA-512", "not-this-word"));
    run(&wrong, &["run", "pipeline.yaml", "--output", "json"], POSTGRES_WORD, 2);
    run(&case.again(), &["run", "pipeline.yaml", "--output", "json"], "another-word", 2);
    said_by(&said);
}

fn said_by(text: &str) {
    for word in [KAFKA_WORD, POSTGRES_WORD, "not-this-word", "another-word"] {
        let at = text.lines().find(|line| line.contains(word));
        assert!(at.is_none(), "{word} was shown: {at:?}");
    }
}
