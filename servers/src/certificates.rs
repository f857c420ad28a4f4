//! Certificates of an authority made for the test.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// PEM files in a folder: an authority, a server's certificate for `localhost` and `127.0.0.1`, and a client's.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// The client's certificate.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes the certificates and writes them into `folder`.
    ///
    /// # Panics
    /// If the folder cannot be written to.
    pub fn write(folder: &Path) -> Certificates {
        let mut params = named("authority of the tests", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).expect("a certificate");
        let put = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("the folder can be written to");
            path
        };
        let issue = |name: &str| {
            let key = key();
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let certificate = named(name, &names).signed_by(&key, &authority).expect("a certificate");
            let files = [format!("{name}.crt"), format!("{name}.key")];
            (put(&files[0], certificate.pem()), put(&files[1], key.serialize_pem()))
        };
        let ((server, server_key), (client, client_key)) = (issue("server"), issue("client"));
        Certificates {
            authority: put("authority.crt", authority.pem()),
            server,
            server_key,
            client,
            client_key,
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn named(name: &str, hosts: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("plain names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
