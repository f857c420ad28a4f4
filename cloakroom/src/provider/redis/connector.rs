//! Opens connections: TCP, TLS or a Unix socket, then user, password and database.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio_rustls::TlsConnector;

use super::coalesce::CoalescingStream;
use super::connection::{Commands, Health, RedisConnection};
use super::error::{StoreError, io_cause};
use super::server_info::{EvictionPolicy, ServerInfo};
use super::settings::{Certificates, Credentials, RedisSettings, ServerAddress};
use crate::tls::{authorities_of, certificates_of, cryptography, system_authorities};

/// The number of concurrent attempts to connect, each begun a while after the previous one. An attempt that was begun while
/// the network lost packets can stay stuck after the network has recovered; a later one succeeds at once.
const ATTEMPTS: u32 = 4;

/// Opens connections. All servers of an installation share one.
pub(super) struct RedisConnector {
    tls: Option<TlsConnector>,
    data: RedisConnectionInfo,
    sentinel: RedisConnectionInfo,
    limit: Duration,
    policy: EvictionPolicy,
}

/// The purpose of a connection, which decides its credentials and its protocol.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Data,
    /// Receives the invalidations of client tracking, which go to the sender.
    Invalidations(UnboundedSender<PushInfo>),
    Sentinel,
    /// Receives a sentinel's messages about failovers, which go to the sender.
    SentinelEvents(UnboundedSender<PushInfo>),
}

/// True while a connection waits for the server's part of the TLS handshake.
#[derive(Default)]
struct TlsHandshake(AtomicBool);

impl RedisConnector {
    pub(super) fn new(settings: &RedisSettings) -> Result<RedisConnector, StoreError> {
        let tls = settings.tls.then(|| tls(&settings.certificates)).transpose()?;
        let data = info(&settings.credentials).set_db(i64::from(settings.database));
        let sentinel = info(&settings.sentinel_credentials);
        let limit = settings.connect_timeout;
        Ok(RedisConnector { tls, data, sentinel, limit, policy: EvictionPolicy::default() })
    }

    /// Returns the longest that opening a connection may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the eviction policies that the servers have reported.
    pub(super) fn policy(&self) -> &EvictionPolicy {
        &self.policy
    }

    /// Opens a connection to a sentinel.
    pub(super) async fn open_sentinel(
        &self,
        address: &ServerAddress,
        purpose: Purpose,
    ) -> Result<RedisConnection, StoreError> {
        let encrypting = TlsHandshake::default();
        self.in_time(address, &encrypting, self.open_unbounded(address, purpose, &encrypting)).await
    }

    /// Opens a connection to a server that holds sessions, and returns it with the server's reply to `INFO`.
    pub(super) async fn open(
        &self,
        address: &ServerAddress,
        purpose: Purpose,
    ) -> Result<(RedisConnection, ServerInfo), StoreError> {
        let encrypting = TlsHandshake::default();
        let opening = async {
            let attempt = || self.attempt(address, purpose.clone(), &encrypting);
            let mut attempts = FuturesUnordered::from_iter([attempt()]);
            // Several connections would send their pushes to the one receiver.
            let mut more = if matches!(purpose, Purpose::Data) { ATTEMPTS - 1 } else { 0 };
            while more > 0 {
                match tokio::time::timeout(self.limit / ATTEMPTS, attempts.next()).await {
                    Ok(Some(opened)) if opened.is_ok() || attempts.is_empty() => return opened,
                    Ok(_) => {}
                    Err(_) => {
                        attempts.push(attempt());
                        more -= 1;
                    }
                }
            }
            let mut last = Err(StoreError::NoNode);
            while let Some(opened) = attempts.next().await {
                last = opened;
                if last.is_ok() {
                    break;
                }
            }
            last
        };
        let (connection, info) = self.in_time(address, &encrypting, opening).await?;
        self.policy.note(&info);
        Ok((connection, info))
    }

    async fn attempt(
        &self,
        address: &ServerAddress,
        purpose: Purpose,
        encrypting: &TlsHandshake,
    ) -> Result<(RedisConnection, ServerInfo), StoreError> {
        let connection = self.open_unbounded(address, purpose, encrypting).await?;
        // Without password and database nothing was sent so far: only the kernel has answered, not the server.
        let info = Commands::One(redis::cmd("INFO"));
        let answers = connection.ask_all(&info, self.limit).await.map_err(|error| match error {
            StoreError::Lost(cause) => StoreError::Dropped { address: address.to_string(), cause },
            error => error,
        });
        Ok((connection, ServerInfo::from_replies(answers?)?))
    }

    async fn in_time<T>(
        &self,
        address: &ServerAddress,
        encrypting: &TlsHandshake,
        opening: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Ok(opened) = tokio::time::timeout(self.limit, opening).await else {
            let (address, limit) = (address.to_string(), self.limit);
            return Err(if encrypting.0.load(Ordering::Relaxed) {
                StoreError::TlsLate { address, limit }
            } else {
                StoreError::ConnectLate { address, limit }
            });
        };
        opened
    }

    async fn open_unbounded(
        &self,
        address: &ServerAddress,
        purpose: Purpose,
        encrypting: &TlsHandshake,
    ) -> Result<RedisConnection, StoreError> {
        let failed = |cause| StoreError::Connect { address: address.to_string(), cause };
        // `ServerPool` measures the time that a call may take.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (info, config) = match purpose {
            Purpose::Data => (self.data.clone(), config),
            Purpose::Sentinel => (self.sentinel.clone(), config),
            Purpose::Invalidations(sender) => (with_pushes(&self.data), config.set_push_sender(sender)),
            Purpose::SentinelEvents(sender) => (with_pushes(&self.sentinel), config.set_push_sender(sender)),
        };
        match address {
            ServerAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                greet(stream, &info, config, address).await
            }
            ServerAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                let Some(tls) = &self.tls else { return greet(stream, &info, config, address).await };
                let name = ServerName::try_from(host.to_string())
                    .map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidInput)))?;
                encrypting.0.store(true, Ordering::Relaxed);
                let failed = |cause| StoreError::Tls { address: address.to_string(), cause };
                let stream = tls.connect(name, stream).await.map_err(failed)?;
                encrypting.0.store(false, Ordering::Relaxed);
                greet(stream, &info, config, address).await
            }
        }
    }
}

fn with_pushes(info: &RedisConnectionInfo) -> RedisConnectionInfo {
    info.clone().set_protocol(ProtocolVersion::RESP3)
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

/// Authenticates and selects the database.
async fn greet<S>(
    stream: S,
    info: &RedisConnectionInfo,
    config: AsyncConnectionConfig,
    address: &ServerAddress,
) -> Result<RedisConnection, StoreError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let health = Health::new();
    let stream = CoalescingStream::new(stream, Arc::clone(&health));
    let opened = MultiplexedConnection::new_with_config(info, stream, config).await;
    let (connection, driver) = opened.map_err(|error| match error.kind() {
        redis::ErrorKind::Io => StoreError::Dropped { address: address.to_string(), cause: io_cause(&error) },
        redis::ErrorKind::Parse => StoreError::NotRedis { address: address.to_string() },
        _ => refused(&error),
    })?;
    Ok(RedisConnection::new(connection, driver, health))
}

/// Returns an error with the server's code alone, since a server's message may quote what it was sent.
fn refused(error: &redis::RedisError) -> StoreError {
    let code = match error.code() {
        Some(code) => code.chars().take(24).collect(),
        None => format!("{:?}", error.kind()),
    };
    StoreError::Refused { code }
}

fn tls(certificates: &Certificates) -> Result<TlsConnector, StoreError> {
    let builder = ClientConfig::builder_with_provider(cryptography()).with_safe_default_protocol_versions();
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

/// Returns the configured authorities, or the system's if none are configured.
fn authorities(given: Option<&[u8]>) -> Result<RootCertStore, StoreError> {
    match given {
        Some(pem) => authorities_of(pem)
            .ok_or(StoreError::Certificate { what: "ca_file", expected: "certificates of authorities" }),
        None => system_authorities().ok_or(StoreError::NoAuthorities),
    }
}
