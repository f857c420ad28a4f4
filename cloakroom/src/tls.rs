//! The parts of a TLS client that several providers need: rustls with ring, and certificates in PEM.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Returns ring. The process's default provider is not used: the application's other crates decide which one it is, if there is one.
pub(crate) fn cryptography() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns the certificates in `pem`. Returns `None` if there are none, or if one cannot be read.
pub(crate) fn certificates_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    Some(all).filter(|all| !all.is_empty())
}

/// Returns the authorities in `pem`. Returns `None` if there are none.
pub(crate) fn authorities_of(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates_of(pem)?);
    (added > 0).then_some(roots)
}

/// Returns the authorities of the operating system. Some of its certificates may not parse. Returns `None` if none does.
pub(crate) fn system_authorities() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (added > 0).then_some(roots)
}
