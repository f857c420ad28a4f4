//! The TLS client: which certificates of a server are accepted, and the client's own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::ssl::{Authorities, ClientCertificate, SslMode, SslSettings, TlsVersions};
use crate::tls::{authorities_of, certificates_of, cryptography, system_authorities};

/// The name under which a server of PostgreSQL 17 accepts a handshake at once.
const PROTOCOL: &[u8] = b"postgresql";

/// The faults of the files with certificates and keys.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum CertificateFileError {
    #[error("{name}: expected a readable file, found none; check its path and its permissions")]
    Read {
        name: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("{name}: expected PEM with {expected}, found none that can be used; check its content")]
    Content { name: &'static str, expected: &'static str },
    #[error(
        "sslkey: expected a file that only its owner may read, found that others may; run chmod 600 on it, or chmod 640 if it belongs to root"
    )]
    Exposed,
    #[error(
        "sslmode: expected a file of authorities to verify the server's certificate with, found none; write sslrootcert, or sslrootcert=system"
    )]
    NoAuthorities,
    #[error(
        "sslrootcert=system: expected certificates in the operating system's store, found none; install them, or name a file"
    )]
    NoSystemAuthorities,
}

impl SslSettings {
    /// Reads the files and returns the TLS client. The files are read for each connection, so that renewed ones count at once.
    pub(super) fn client_config(&self) -> Result<ClientConfig, CertificateFileError> {
        let cryptography = cryptography();
        let verifier = self.verifier(Arc::clone(&cryptography))?;
        let versions = versions(self.versions);
        let unusable =
            CertificateFileError::Content { name: "ssl_min_protocol_version", expected: "a version of TLS" };
        let builder = ClientConfig::builder_with_provider(cryptography)
            .with_protocol_versions(&versions)
            .map_err(|_| unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.identity()? {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|_| CertificateFileError::Content {
                    name: "sslkey",
                    expected: "the key of the certificate in sslcert",
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sni;
        if self.direct {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
        }
        Ok(config)
    }

    pub(super) fn verifier(
        &self,
        cryptography: Arc<CryptoProvider>,
    ) -> Result<ServerVerifier, CertificateFileError> {
        let verifies_name = self.mode == SslMode::VerifyFull;
        Ok(ServerVerifier { trust: self.trust()?, verifies_name, cryptography })
    }

    /// Returns the authorities that a server's certificate is verified with. `None` accepts any, as libpq does for `require` without a file.
    fn trust(&self) -> Result<Option<Trust>, CertificateFileError> {
        let pem = match &self.authorities {
            Authorities::System => {
                let roots = system_authorities().ok_or(CertificateFileError::NoSystemAuthorities)?;
                return Ok(Some(Trust { roots, pinned: Vec::new() }));
            }
            Authorities::Inline(pem) => pem.as_bytes().to_vec(),
            Authorities::File(path) => read("sslrootcert", path)?,
            Authorities::Default(path) => match path.as_deref().filter(|path| path.exists()) {
                Some(path) => read("~/.postgresql/root.crt", path)?,
                None if matches!(self.mode, SslMode::VerifyCa | SslMode::VerifyFull) => {
                    return Err(CertificateFileError::NoAuthorities);
                }
                None => return Ok(None),
            },
        };
        let unusable =
            || CertificateFileError::Content { name: "sslrootcert", expected: "certificates of authorities" };
        let roots = authorities_of(&pem).ok_or_else(unusable)?;
        Ok(Some(Trust { roots, pinned: certificates_of(&pem).ok_or_else(unusable)? }))
    }

    /// Returns the client's certificate with its chain, and the key.
    fn identity(&self) -> Result<Option<Identity>, CertificateFileError> {
        let (certificate, key) = match &self.client {
            ClientCertificate::None => return Ok(None),
            ClientCertificate::Default { certificate, .. } if !certificate.exists() => return Ok(None),
            ClientCertificate::Default { certificate, key }
            | ClientCertificate::Files { certificate, key } => {
                (read("sslcert", certificate)?, read_key(key)?)
            }
            ClientCertificate::Inline { certificate, key } => {
                (certificate.as_bytes().to_vec(), key.as_bytes().to_vec())
            }
        };
        let unusable = |name, expected| CertificateFileError::Content { name, expected };
        let chain = certificates_of(&certificate).ok_or(unusable("sslcert", "a certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&key);
        Ok(Some((chain, key.map_err(|_| unusable("sslkey", "a private key that is not encrypted"))?)))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn versions(allowed: TlsVersions) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let all = [(allowed.tls13, &rustls::version::TLS13), (allowed.tls12, &rustls::version::TLS12)];
    all.into_iter().filter_map(|(allowed, version)| allowed.then_some(version)).collect()
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    std::fs::read(path).map_err(|cause| CertificateFileError::Read { name, cause })
}

/// Reads the key's file if only its owner may read it. The group may read a file of root's, as libpq allows.
fn read_key(path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let facts = std::fs::metadata(path);
        let facts = facts.map_err(|cause| CertificateFileError::Read { name: "sslkey", cause })?;
        let others = if facts.uid() == 0 { 0o037 } else { 0o077 };
        if facts.mode() & others != 0 {
            return Err(CertificateFileError::Exposed);
        }
    }
    read("sslkey", path)
}

/// The trusted authorities, and the certificates that are trusted as they are.
#[derive(Debug)]
struct Trust {
    roots: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
}

/// The check of a server's certificate, in libpq's grades: none, the authority, and the host name as well.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    trust: Option<Trust>,
    verifies_name: bool,
    cryptography: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.cryptography.signature_verification_algorithms.all;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &trust.roots,
            intermediates,
            now,
            algorithms,
        );
        match signed {
            // A server with a self-signed certificate, which `sslrootcert` holds. OpenSSL accepts it though it is an authority's.
            Err(TlsError::InvalidCertificate(CertificateError::Other(_)))
                if trust.pinned.iter().any(|pinned| pinned == end_entity) => {}
            signed => signed?,
        }
        if self.verifies_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.cryptography.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.cryptography.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.cryptography.signature_verification_algorithms.supported_schemes()
    }
}
