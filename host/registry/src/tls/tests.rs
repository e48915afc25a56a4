use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tollgate_contract::frame::SchemaId;

use super::*;
use crate::{Client, ClientError};
use tollgate_config::error::Class;
use tollgate_config::registry::{Config, Url};

struct Files {
    folder: TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Creates `ca.pem`, `server` and `client` with certificates signed by it, and `other.key` without one.
fn files() -> Files {
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let named = |names: Vec<String>, name: &str| {
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters
    };
    let mut authority = named(Vec::new(), "the authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let certificate = named(vec!["localhost".to_owned()], name).signed_by(&key, &authority).unwrap();
        fs::write(files.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    fs::write(files.path("ca.pem"), authority.pem()).unwrap();
    fs::write(files.path("other.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    files
}

/// Answers every request with one schema, but only for clients with a certificate of the authority.
fn serve(files: &Files) -> Url {
    let mut roots = RootCertStore::empty();
    roots.add(read_certificates(&files.path("ca.pem")).unwrap().remove(0)).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::from_pem_file(files.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(read_certificates(&files.path("server.pem")).unwrap(), key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            // A failed handshake ends the connection here.
            if stream.read(&mut request).is_ok() {
                let body = r#"{"schema":"{}"}"#;
                _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.conn.send_close_notify();
                _ = stream.flush();
            }
        }
    });
    url
}

#[test]
fn both_sides_show_a_certificate_or_nothing_is_said() {
    let files = files();
    let url = serve(&files);
    let ask = |ca: Option<&str>, identity: bool| {
        let tls = Tls {
            ca: ca.map(|name| files.path(name)),
            certificate: identity.then(|| files.path("client.pem")),
            key: identity.then(|| files.path("client.key")),
        };
        let config = Config { tls, retries: 0, backoff: Duration::ZERO, ..Config::new(vec![url.clone()]) };
        Client::new(config).unwrap().schema(SchemaId::Id(1))
    };
    assert_eq!(ask(Some("ca.pem"), true).unwrap().schema, "{}");
    for (ca, identity) in [(Some("ca.pem"), false), (None, true), (Some("client.pem"), true)] {
        let error = ask(ca, identity).unwrap_err();
        assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
        assert_eq!(error.class(), Class::Transient);
    }
    let error = ask(None, true).unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_found_before_it_is_used() {
    let files = files();
    let fault = |certificate: &str, key: &str| {
        let tls = Tls { ca: None, certificate: Some(files.path(certificate)), key: Some(files.path(key)) };
        configure(&tls).unwrap_err().to_string()
    };
    assert!(fault("client.pem", "other.key").contains("it is not the key of"));
    assert!(fault("client.pem", "ca.pem").contains("no private key"));
    assert!(fault("client.key", "client.key").contains("no certificate"));
}
