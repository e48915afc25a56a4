use super::super::stub::Stub;
use super::*;
use tollgate_config::registry::Url;
use tollgate_config::secret::Secret;

const TEXT: &str = r#"{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\";"}"#;
const NO_SCHEMA: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

fn ask(config: Config, id: u32) -> Result<Registered, ClientError> {
    Client::new(config).unwrap().schema(SchemaId::Id(id))
}

#[test]
fn outages_are_tried_again_and_refusals_are_not() {
    let stub = Stub::start();
    stub.reply("/schemas/ids/1", 503, "");
    stub.reply("/schemas/ids/1", 0, "");
    stub.reply("/schemas/ids/1", 200, TEXT);
    assert_eq!(ask(stub.config(), 1).unwrap().schema_type, "PROTOBUF");
    assert_eq!(stub.count("/schemas/ids/1"), 3);

    stub.reply("/schemas/ids/2", 500, r#"{"error_code":50001,"message":"backend"}"#);
    let error = ask(stub.config(), 2).unwrap_err();
    assert_eq!(error, ClientError::Unavailable { detail: format!("{}: status 500", stub.url()) });
    assert_eq!(stub.count("/schemas/ids/2"), 4);

    for (id, status, body, part) in [
        (3, 401, "", "check user and password"),
        (4, 403, r#"{"error_code":40301,"message":"no"}"#, "has no permission"),
        // The path is wrong, so nothing is known about the id.
        (5, 404, "<html>\nNot Found</html>", "check the URL's path"),
        (6, 404, r#"{"error_code":0,"message":"no resource"}"#, "check the URL's path"),
    ] {
        let path = format!("/schemas/ids/{id}");
        stub.reply(&path, status, body);
        let error = ask(stub.config(), id).unwrap_err();
        assert!(error.to_string().contains(part) && error.class() == tollgate_config::error::Class::Fatal, "{error}");
        assert_eq!(stub.count(&path), 1);
    }
    stub.reply("/schemas/ids/7", 404, NO_SCHEMA);
    assert!(matches!(ask(stub.config(), 7).unwrap_err(), ClientError::NotFound { code: 40_403, .. }));
    assert_eq!(stub.count("/schemas/ids/7"), 1);
}

#[test]
fn what_is_no_registrys_answer_is_an_outage() {
    let stub = Stub::start();
    stub.reply("/schemas/ids/1", 200, "<html>Log in</html>");
    stub.reply("/schemas/ids/2", 200, &format!("{{\"schema\":\"{}\"}}", "x".repeat(2_000)));
    let config = Config { answer_bytes: 1_000, retries: 0, ..stub.config() };
    let error = ask(config.clone(), 1).unwrap_err();
    assert!(error.to_string().contains("not that of a schema registry"), "{error}");
    let error = ask(config, 2).unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable { detail } if detail.contains("1000 bytes")), "{error}");
}

#[test]
fn retry_after_is_heeded_within_the_patience() {
    let stub = Stub::start();
    stub.reply_with("/schemas/ids/1", (429, "retry-after: 1\r\n", String::new()));
    stub.reply("/schemas/ids/1", 200, TEXT);
    let began = Instant::now();
    ask(stub.config(), 1).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    stub.reply_with("/schemas/ids/2", (503, "retry-after: 60\r\n", String::new()));
    let began = Instant::now();
    ask(stub.config(), 2).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(stub.count("/schemas/ids/2"), 1);
}

#[test]
fn a_silent_registry_is_given_up() {
    let stub = Stub::start();
    stub.reply("/schemas/ids/1", 200, TEXT);
    stub.slow(Duration::from_secs(20));
    let config = Config { request_timeout: Duration::from_millis(200), retries: 1, ..stub.config() };
    let began = Instant::now();
    let error = ask(config, 1).unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_next_replica_is_asked_and_remembered() {
    let (dead, alive) = (Stub::start(), Stub::start());
    dead.reply("/schemas/ids/1", 0, "");
    alive.reply("/schemas/ids/1", 200, TEXT);
    let config = Config { urls: vec![dead.url(), alive.url()], ..dead.config() };
    let client = Client::new(config).unwrap();
    for _ in 0..3 {
        client.schema(SchemaId::Id(1)).unwrap();
    }
    assert_eq!((dead.count("/schemas/ids/1"), alive.count("/schemas/ids/1")), (1, 3));
}

#[test]
fn logins_go_into_the_header_and_nowhere_else() {
    let stub = Stub::start();
    stub.reply("/schemas/ids/1", 200, TEXT);
    stub.reply("/schemas/ids/2", 401, "");
    let word = || Secret::new("hunter2".into());
    for (auth, header) in [
        (Auth::Basic { username: "gate".into(), password: word() }, "authorization: Basic Z2F0ZTpodW50ZXIy"),
        (Auth::Bearer(word()), "authorization: Bearer hunter2"),
    ] {
        ask(Config { auth: auth.clone(), ..stub.config() }, 1).unwrap();
        assert!(stub.requests().last().unwrap().contains(header), "{:?}", stub.requests());
        let client = Client::new(Config { auth, ..stub.config() }).unwrap();
        let shown = format!("{client:?} {:?}", client.schema(SchemaId::Id(2)));
        assert!(!shown.contains("hunter2") && !shown.contains("Z2F0"), "{shown}");
    }
    let broken = Auth::Bearer(Secret::new("a\r\nhost: b".into()));
    assert!(matches!(Client::new(Config { auth: broken, ..stub.config() }), Err(ConfigFault::Login)));
}

fn version(name: &str, references: &str) -> String {
    format!(
        r#"{{"subject":"{name}","version":1,"id":9,"schemaType":"PROTOBUF","schema":"s","references":[{references}]}}"#
    )
}

fn reference(name: &str) -> String {
    format!(r#"{{"name":"{name}.proto","subject":"{name}","version":1}}"#)
}

#[test]
fn references_are_followed_once_round() {
    let stub = Stub::start();
    stub.reply("/subjects/a/versions/1", 200, &version("a", &[reference("b"), reference("c")].join(",")));
    stub.reply("/subjects/b/versions/1", 200, &version("b", &reference("c")));
    stub.reply("/subjects/c/versions/1", 200, &version("c", &reference("a")));
    let client = Client::new(stub.config()).unwrap();
    let schema: Registered =
        serde_json::from_str(&format!(r#"{{"schemaType":"PROTOBUF","schema":"s","references":[{}]}}"#, reference("a")))
            .unwrap();
    let names = |files: Vec<Source>| files.into_iter().map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(names(client.references(&schema).unwrap()), ["a.proto", "b.proto", "c.proto"]);
    client.references(&schema).unwrap();
    assert_eq!(stub.requests().len(), 3, "versions never change: each is fetched once");

    let other = r#"{"name":"a.proto","subject":"elsewhere","version":2}"#;
    stub.reply("/subjects/d/versions/1", 200, &version("d", &[other, &reference("a")].join(",")));
    stub.reply("/subjects/elsewhere/versions/2", 200, &version("elsewhere", ""));
    let twice = Registered { references: vec![serde_json::from_str(&reference("d")).unwrap()], ..schema };
    let error = client.references(&twice).unwrap_err();
    assert!(error.to_string().contains("a.proto is referred to as version"), "{error}");
}

#[test]
fn an_endless_chain_of_references_is_cut() {
    let stub = Stub::start();
    for number in 0..=limits::REGISTRY_REFERENCES {
        let next = reference(&format!("r{}", number + 1));
        stub.reply(&format!("/subjects/r{number}/versions/1"), 200, &version("r", &next));
    }
    let client = Client::new(stub.config()).unwrap();
    let schema = Registered {
        schema_type: "PROTOBUF".into(),
        schema: "s".into(),
        references: vec![serde_json::from_str(&reference("r0")).unwrap()],
    };
    let error = client.references(&schema).unwrap_err();
    assert!(matches!(error, ClientError::TooManyReferences), "{error}");
}

#[test]
fn names_are_one_segment_and_answers_of_all_dialects_are_read() {
    assert_eq!(segment("a/b c.proto-value"), "a%2Fb%20c.proto-value");
    let stub = Stub::start();
    let client = Client::new(stub.config()).unwrap();
    let schema = Registered { schema_type: "PROTOBUF".into(), schema: "s".into(), references: Vec::new() };
    let path = "/compatibility/subjects/s/versions/latest?verbose=true";
    for (answer, expected) in [
        (r#"{"is_compatible":true}"#, Compatibility::Compatible),
        (r#"{"is_compatible":false,"messages":["a","b"]}"#, Compatibility::Incompatible(vec!["a".into(), "b".into()])),
        (r#"{"is_compatible":false,"reason":"r"}"#, Compatibility::Incompatible(vec!["r".into()])),
    ] {
        stub.forget(path);
        stub.reply(path, 200, answer);
        assert_eq!(client.check("s", &schema).unwrap(), expected);
    }
    stub.forget(path);
    stub.reply(path, 404, r#"{"error_code":40401,"message":"Subject not found"}"#);
    assert_eq!(client.check("s", &schema).unwrap(), Compatibility::NewSubject);
    stub.reply("/config", 200, r#"{"compatibilityLevel":"FULL"}"#);
    stub.reply("/config/s", 404, r#"{"error_code":40408,"message":"none"}"#);
    assert_eq!(client.compatibility(None).unwrap().as_deref(), Some("FULL"));
    assert_eq!(client.compatibility(Some("s")).unwrap(), None);
    // Avro's type is omitted, and null stands for no references.
    let avro: Registered = serde_json::from_str(r#"{"schema":"{}","references":null}"#).unwrap();
    assert_eq!((avro.schema_type.as_str(), avro.references.len()), ("AVRO", 0));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let url = || vec![Url::parse("https://r").unwrap()];
    let fault = |config: Config| Client::new(config).unwrap_err().to_string();
    assert!(fault(Config::new(Vec::new())).contains("no URL"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let mut config = Config::new(url());
    config.tls.ca = Some(file.clone());
    assert!(fault(config.clone()).contains("has no certificate"));
    config.tls.ca = Some(folder.path().join("absent.pem"));
    assert!(fault(config.clone()).contains("absent.pem cannot be read"));
    config.tls.ca = None;
    config.tls.key = Some(file);
    assert!(fault(config).contains("name both or none"));
}
