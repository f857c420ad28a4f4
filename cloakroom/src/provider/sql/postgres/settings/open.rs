//! Opens connections: the choice of the host, its addresses, encryption, and the check of the server's state.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::hosts::{HostName, ServerHost, TargetSession};
use super::open_error::{DriverError, OpenError};
use super::ssl::{BindingMode, SslMode};
use super::{Settings, handshake};

/// The default time limit for one host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection, and the task that reads and writes its socket.
pub(in super::super) struct OpenConnection {
    pub(in super::super) client: Client,
    task: ConnectionTask,
}

/// The task of a connection. It ends when this is dropped.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OpenConnection {
    /// Returns true if the connection has ended.
    pub(in super::super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.task.0.is_finished()
    }

    /// Says goodbye to the server and closes the connection, within a second.
    pub(in super::super) async fn close(self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let OpenConnection { client, mut task } = self;
        drop(client);
        // The connection ends here, even if the goodbye was not sent.
        let _ = tokio::time::timeout(PATIENCE, &mut task.0).await;
    }
}

/// The parts of an attempt that all addresses of a host share.
struct Attempt<'a> {
    settings: &'a Settings,
    /// The host's number from 1.
    number: usize,
    host: &'a ServerHost,
    password: Option<Vec<u8>>,
    tls: Option<MakeRustlsConnect>,
    messages: Option<&'a UnboundedSender<AsyncMessage>>,
}

impl Settings {
    /// Opens a connection to the first host that can be used.
    pub(in super::super) async fn open(&self) -> Result<OpenConnection, OpenError> {
        self.open_with(None).await
    }

    /// Opens a connection whose notifications and notices go to the receiver.
    pub(in super::super) async fn open_listening(
        &self,
    ) -> Result<(OpenConnection, UnboundedReceiver<AsyncMessage>), OpenError> {
        let (sender, receiver) = unbounded_channel();
        Ok((self.open_with(Some(&sender)).await?, receiver))
    }

    /// Tries the hosts in order until one can be used. `prefer-standby` goes through all of them twice: first for a standby, then for any.
    ///
    /// A refused login ends the search, as in libpq.
    async fn open_with(
        &self,
        messages: Option<&UnboundedSender<AsyncMessage>>,
    ) -> Result<OpenConnection, OpenError> {
        let targets: &[_] = match self.target {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            ref target => std::slice::from_ref(target),
        };
        let order = self.order();
        // A list, since a future with an iterator over both would not be `Send`.
        let pairs = |target: &TargetSession| order.iter().map(|host| (*target, *host)).collect::<Vec<_>>();
        let attempts: Vec<_> = targets.iter().flat_map(pairs).collect();
        let mut last = None;
        for (target, host) in attempts {
            self.failures.begin(host);
            let opened = self.open_host(host, target, messages).await;
            self.failures.end(host, opened.is_ok());
            match opened {
                Err(error) if !error.ends_search() => last = Some(error),
                opened => return opened,
            }
        }
        // There is at least one host.
        Err(last.unwrap_or(OpenError::Lookup { host: 1, cause: None }))
    }

    /// Returns the places of the hosts in the order of the attempts.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if self.shuffled {
            shuffle(&mut order);
        }
        order.sort_by_key(|host| self.failures.is_suspect(*host));
        order
    }

    async fn open_host(
        &self,
        at: usize,
        target: TargetSession,
        messages: Option<&UnboundedSender<AsyncMessage>>,
    ) -> Result<OpenConnection, OpenError> {
        let limit = self.connect_limit();
        let until = Instant::now() + limit;
        let opening = async {
            let (password, tls) = self.read_files(at).await?;
            let attempt =
                Attempt { settings: self, number: at + 1, host: &self.hosts[at], password, tls, messages };
            let connection = attempt.open(until).await?;
            attempt.check(&connection, target).await?;
            Ok(connection)
        };
        let opened = tokio::time::timeout(limit, opening).await;
        opened.unwrap_or(Err(OpenError::Late { host: at + 1, limit }))
    }

    /// Returns the time limit for one host. A year stands for no limit.
    fn connect_limit(&self) -> Duration {
        const NO_LIMIT: Duration = Duration::from_secs(365 * 86_400);
        match self.params.connect_timeout {
            None => CONNECT_TIMEOUT,
            Some(Duration::ZERO) => NO_LIMIT,
            Some(limit) => limit.min(NO_LIMIT),
        }
    }

    /// Reads the password file and the certificates' files, on a thread for blocking calls.
    async fn read_files(&self, at: usize) -> Result<(Option<Vec<u8>>, Option<MakeRustlsConnect>), OpenError> {
        let host = &self.hosts[at];
        let encrypts = self.ssl.mode != SslMode::Disable && !host.is_socket();
        let given = self.login.password.as_ref().map(|password| password.as_bytes().to_vec());
        if !encrypts && self.login.file.is_none() {
            return Ok((given, None));
        }
        let (login, ssl, host) = (self.login.clone(), self.ssl.clone(), host.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let stored = match &login.file {
                Some(file) => file.password(&host, login.database(), &login.user)?,
                None => None,
            };
            let tls = if encrypts { Some(MakeRustlsConnect::new(ssl.client_config()?)) } else { None };
            Ok((given.or(stored), tls))
        });
        reading.await.map_err(OpenError::Cancelled)?
    }
}

impl Attempt<'_> {
    /// Opens a connection to the first address that can be used. Each gets a share of the time that is left.
    async fn open(&self, until: Instant) -> Result<OpenConnection, OpenError> {
        let addresses = self.addresses().await?;
        let (count, mut last) = (addresses.len(), OpenError::Lookup { host: self.number, cause: None });
        for (at, address) in addresses.into_iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let limit = left / u32::try_from(count - at).unwrap_or(u32::MAX);
            let opened = tokio::time::timeout(limit, self.open_address(address)).await;
            match opened.unwrap_or(Err(OpenError::Late { host: self.number, limit })) {
                Err(error) if !error.ends_search() => last = error,
                opened => return opened,
            }
        }
        Err(last)
    }

    /// Returns the addresses of the host. A socket has none.
    async fn addresses(&self) -> Result<Vec<Option<IpAddr>>, OpenError> {
        let name = match (&self.host.name, self.host.address) {
            (_, Some(address)) => return Ok(vec![Some(address)]),
            (HostName::Tcp(name), None) => name,
            (HostName::Socket(_) | HostName::Unnamed, None) => return Ok(vec![None]),
        };
        let found = tokio::net::lookup_host((&**name, self.host.port)).await;
        let found = found.map_err(|cause| OpenError::Lookup { host: self.number, cause: Some(cause) })?;
        let mut addresses: Vec<_> = found.map(|address: SocketAddr| Some(address.ip())).collect();
        if self.settings.shuffled {
            shuffle(&mut addresses);
        }
        Ok(addresses)
    }

    /// Opens a connection. `allow` and `prefer` have a second attempt with the other kind of connection.
    async fn open_address(&self, address: Option<IpAddr>) -> Result<OpenConnection, OpenError> {
        let (first, second) = match self.settings.ssl.mode {
            _ if self.tls.is_none() => (DriverSslMode::Disable, None),
            SslMode::Disable => (DriverSslMode::Disable, None),
            SslMode::Allow => (DriverSslMode::Disable, Some(DriverSslMode::Require)),
            SslMode::Prefer => (DriverSslMode::Prefer, Some(DriverSslMode::Disable)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (DriverSslMode::Require, None),
        };
        let refusal = match (self.connect(address, first).await, second) {
            (Err(error), Some(_)) if depends_on_encryption(&error) => error,
            (opened, _) => return opened,
        };
        match self.connect(address, second.unwrap_or(first)).await {
            // The first error tells the cause: the second attempt had to fail.
            Err(error) if depends_on_encryption(&error) || matches!(error, OpenError::NoTls { .. }) => {
                Err(refusal)
            }
            opened => opened,
        }
    }

    async fn connect(
        &self,
        address: Option<IpAddr>,
        mode: DriverSslMode,
    ) -> Result<OpenConnection, OpenError> {
        let config = self.config(address, mode);
        let host = self.number;
        match &self.tls {
            Some(tls) if mode != DriverSslMode::Disable => {
                let (tls, progress) = handshake::observed(tls.clone());
                let opened = config.connect(tls).await;
                opened.map(|opened| self.start_task(opened)).map_err(|cause| {
                    if progress.has_failed() {
                        OpenError::Handshake { host, cause: DriverError(cause) }
                    } else if !progress.has_begun()
                        && mode == DriverSslMode::Require
                        && is_refusal_of_driver(&cause)
                    {
                        OpenError::NoTls { host }
                    } else {
                        failed(host, cause)
                    }
                })
            }
            _ => config
                .connect(NoTls)
                .await
                .map(|opened| self.start_task(opened))
                .map_err(|cause| failed(host, cause)),
        }
    }

    fn config(&self, address: Option<IpAddr>, mode: DriverSslMode) -> Config {
        let Settings { login, ssl, transport, .. } = self.settings;
        let mut config = Config::new();
        config.user(&*login.user).dbname(login.database()).port(self.host.port).ssl_mode(mode);
        config.application_name(&*self.settings.application_name).keepalives(transport.keepalives);
        match (&self.host.name, address) {
            #[cfg(unix)]
            (HostName::Socket(folder), None) => config.host_path(folder),
            (HostName::Tcp(name), _) => config.host(&**name),
            (_, Some(address)) => config.host(address.to_string()),
            (_, None) => &mut config,
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        if let Some(password) = &self.password {
            config.password(password);
        }
        if let Some(options) = self.settings.startup_options() {
            config.options(options);
        }
        if let Some(idle) = transport.idle {
            config.keepalives_idle(idle);
        }
        if let Some(interval) = transport.interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = transport.count {
            config.keepalives_retries(count);
        }
        if let Some(limit) = transport.user_timeout {
            config.tcp_user_timeout(limit);
        }
        if ssl.direct && mode == DriverSslMode::Require {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        config.channel_binding(match ssl.binding {
            BindingMode::Disable => ChannelBinding::Disable,
            BindingMode::Prefer => ChannelBinding::Prefer,
            BindingMode::Require => ChannelBinding::Require,
        });
        config
    }

    /// Spawns the task of a connection on the current runtime.
    fn start_task<T>(&self, (client, mut connection): (Client, Connection<Socket, T>)) -> OpenConnection
    where
        T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let messages = self.messages.cloned();
        let task = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match (message, &messages) {
                    // A receiver that was dropped wants no more messages.
                    (Ok(message), Some(messages)) => drop(messages.send(message)),
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        let code = error.code().map(SqlState::code);
                        tracing::debug!(code, "a connection to PostgreSQL has ended");
                        return;
                    }
                }
            }
        });
        OpenConnection { client, task: ConnectionTask(task) }
    }

    /// Checks that the server is in the state that `target` asks for.
    async fn check(&self, connection: &OpenConnection, target: TargetSession) -> Result<(), OpenError> {
        if target == TargetSession::Any {
            return Ok(());
        }
        const STATE: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')";
        let rows = connection.client.simple_query(STATE).await;
        let rows = rows.map_err(|cause| failed(self.number, cause))?;
        let is = |row: &SimpleQueryMessage, column, word| match row {
            SimpleQueryMessage::Row(row) => row.try_get(column).ok().flatten() == Some(word),
            _ => false,
        };
        let standby = rows.iter().any(|row| is(row, 0, "t"));
        let read_only = standby || rows.iter().any(|row| is(row, 1, "on"));
        let (fits, expected) = match target {
            TargetSession::Any | TargetSession::PreferStandby => (true, "any"),
            TargetSession::ReadWrite => (!read_only, "read-write"),
            TargetSession::ReadOnly => (read_only, "read-only"),
            TargetSession::Primary => (!standby, "primary"),
            TargetSession::Standby => (standby, "standby"),
        };
        if fits { Ok(()) } else { Err(OpenError::Target { host: self.number, expected }) }
    }
}

/// Returns true if the other kind of connection may succeed: the handshake failed, or pg_hba.conf has no entry for this kind.
fn depends_on_encryption(error: &OpenError) -> bool {
    let code = error.driver_error().and_then(tokio_postgres::Error::code);
    matches!(error, OpenError::Handshake { .. })
        || code == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

fn failed(host: usize, cause: tokio_postgres::Error) -> OpenError {
    let refused = is_refusal_of_driver(&cause);
    let cause = DriverError(cause);
    if refused { OpenError::Login { host, cause } } else { OpenError::Connect { host, cause } }
}

/// Returns true if the driver itself has given up: neither the network nor the server has failed.
fn is_refusal_of_driver(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error);
    error.code().is_none() && cause.is_some_and(|cause| !cause.is::<io::Error>())
}

fn shuffle<T>(list: &mut [T]) {
    for at in (1..list.len()).rev() {
        let mut bytes = [0; 8];
        // Without random numbers the order is as good as another.
        if crate::sync::fill_random(&mut bytes).is_ok() {
            let other = u64::from_le_bytes(bytes) % (at as u64 + 1);
            list.swap(at, usize::try_from(other).unwrap_or(at));
        }
    }
}
