//! How a connection comes to be: TCP, TLS or a Unix socket, then user, password and database.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::TlsConnector;

use super::error::{StoreError, io_cause};
use super::gather::Gather;
use super::link::Link;
use super::settings::{Address, Certificates, Credentials, Settings};

/// Opens connections; the same for every server of an installation.
pub(super) struct Connector {
    tls: Option<TlsConnector>,
    data: RedisConnectionInfo,
    sentinel: RedisConnectionInfo,
    limit: Duration,
}

/// As whom a connection is opened, and to what.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Data,
    /// To be told of changes, which go to the sender.
    News(UnboundedSender<PushInfo>),
    Sentinel,
}

impl Connector {
    pub(super) fn new(settings: &Settings) -> Result<Connector, StoreError> {
        let tls = settings.tls.then(|| tls(&settings.certificates)).transpose()?;
        let data = info(&settings.credentials).set_db(i64::from(settings.database));
        let sentinel = info(&settings.sentinel_credentials);
        Ok(Connector { tls, data, sentinel, limit: settings.connect_timeout })
    }

    /// How long opening one may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// A connection that is ready for use.
    pub(super) async fn open(&self, address: &Address, purpose: Purpose) -> Result<Link, StoreError> {
        match tokio::time::timeout(self.limit, self.open_unbounded(address, purpose)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::ConnectLate { address: address.to_string(), limit: self.limit }),
        }
    }

    async fn open_unbounded(&self, address: &Address, purpose: Purpose) -> Result<Link, StoreError> {
        let failed = |cause| StoreError::Connect { address: address.to_string(), cause };
        // The time that a call may take is ours to measure.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (info, config) = match purpose {
            Purpose::Data => (self.data.clone(), config),
            Purpose::Sentinel => (self.sentinel.clone(), config),
            Purpose::News(sender) => {
                (self.data.clone().set_protocol(ProtocolVersion::RESP3), config.set_push_sender(sender))
            }
        };
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                greet(stream, &info, config, address).await
            }
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let Some(tls) = &self.tls else { return greet(stream, &info, config, address).await };
                let name = ServerName::try_from(host.to_string())
                    .map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
                let stream = tls.connect(name, stream).await.map_err(failed)?;
                greet(stream, &info, config, address).await
            }
        }
    }
}

fn info(credentials: &Credentials) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(username) = &credentials.username {
        info = info.set_username(username);
    }
    if let Some(password) = &credentials.password {
        info = info.set_password(&password.0);
    }
    info
}

/// Authenticates and chooses the database.
async fn greet<S>(
    stream: S,
    info: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
    address: &Address,
) -> Result<Link, StoreError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = MultiplexedConnection::new_with_config(info, Gather::new(stream), config).await;
    let (connection, driver) = opened.map_err(|error| match error.is_io_error() {
        true => StoreError::Connect { address: address.to_string(), cause: io_cause(&error) },
        false => refused(&error),
    })?;
    Ok(Link::new(connection, driver))
}

/// Only the code: a message may quote what it was sent.
fn refused(error: &redis::RedisError) -> StoreError {
    let code = match error.code() {
        Some(code) => code.chars().take(24).collect(),
        None => format!("{:?}", error.kind()),
    };
    StoreError::Refused { code }
}

fn tls(certificates: &Certificates) -> Result<TlsConnector, StoreError> {
    // Named, not the process's default: which one that is, and whether there is any, depends on the application's other crates.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let unusable = |what, expected| StoreError::Certificate { what, expected };
    let builder = builder.map_err(|_| unusable("tls", "protocol versions that ring can do"))?;
    let builder = builder.with_root_certificates(authorities(certificates.authorities.as_deref())?);
    let config = match (&certificates.client, &certificates.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates_of(certificate).ok_or(unusable("cert_file", "a certificate"))?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|_| unusable("key_file", "a private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| unusable("key_file", "the certificate's key"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Those that were given, or else the system's.
fn authorities(given: Option<&[u8]>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    match given {
        Some(pem) => {
            let unusable =
                StoreError::Certificate { what: "ca_file", expected: "certificates of authorities" };
            let Some(all) = certificates_of(pem) else { return Err(unusable) };
            if roots.add_parsable_certificates(all).0 == 0 {
                return Err(unusable);
            }
        }
        // Some of a system's may be odd; none at all is an error.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    match roots.is_empty() {
        true => Err(StoreError::NoAuthorities),
        false => Ok(roots),
    }
}

fn certificates_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    Some(all).filter(|all| !all.is_empty())
}
