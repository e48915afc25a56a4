//! Certificates from PEM files, checked before the first request: the TLS library would panic on a key that does not
//! belong to its certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::ConfigFault;
use tollgate_config::registry::Tls;

/// Returns the TLS configuration for the HTTP client.
///
/// # Errors
/// Fails for a file that cannot be read or has other contents, or a key of another certificate.
pub(crate) fn configure(tls: &Tls) -> Result<TlsConfig, ConfigFault> {
    let mut builder = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    if let Some(ca) = &tls.ca {
        let certificates: Vec<_> = read_certificates(ca)?.iter().map(owned).collect();
        builder = builder.root_certs(RootCerts::new_with_certs(&certificates));
    }
    match (&tls.certificate, &tls.key) {
        (None, None) => {}
        (Some(certificate), Some(key)) => builder = builder.client_cert(Some(identity(certificate, key)?)),
        _ => return Err(ConfigFault::HalfIdentity),
    }
    Ok(builder.build())
}

fn identity(certificate: &Path, key: &Path) -> Result<ClientCert, ConfigFault> {
    let chain = read_certificates(certificate)?;
    let text = read(key)?;
    let pem = |detail: String| ConfigFault::Pem { path: key.to_owned(), detail };
    let der = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| pem("it has no private key in PEM format without a password".to_owned()))?;
    let own: Vec<_> = chain.iter().map(owned).collect();
    let own_key = PrivateKey::from_pem(&text).map_err(|error| pem(error.to_string()))?;
    CertifiedKey::from_der(chain, der, &ring::default_provider())
        .map_err(|error| pem(format!("it is not the key of {}: {error}", certificate.display())))?;
    Ok(ClientCert::new_with_certs(&own, own_key))
}

fn owned(certificate: &CertificateDer<'static>) -> Certificate<'static> {
    Certificate::from_der(certificate.as_ref()).to_owned()
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigFault> {
    let text = read(path)?;
    let pem = |detail: &str| ConfigFault::Pem { path: path.to_owned(), detail: detail.to_owned() };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| pem("it has an invalid certificate"))?;
    if certificates.is_empty() { Err(pem("it has no certificate in PEM format")) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigFault> {
    std::fs::read(path).map_err(|source| ConfigFault::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
