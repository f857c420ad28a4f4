//! The builder of a [`RedisProvider`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "beego")]
use super::beego::BeegoValues;
use super::client::RedisClient;
use super::error::StoreError;
use super::layout::Layout;
use super::old::OldStrings;
use super::settings::{RedisSettings, Secret, Topology};
use super::store::RedisStore;
use super::url::{self, TopologyKind};
use super::{RedisProvider, startup};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::migration::OldRecords;
#[cfg(feature = "beego")]
use crate::provider::AnyProvider;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;

/// Sets up and connects a [`RedisProvider`]. [`RedisProvider::builder`] returns one.
///
/// All errors of settings are reported by [`connect`](Self::connect). `Debug` shows no credentials.
///
/// ```no_run
/// use cloakroom::RedisProvider;
/// use std::time::Duration;
///
/// # async fn connect() -> cloakroom::Result<()> {
/// let provider = RedisProvider::builder("rediss://cache.example/")
///     .credentials("app", "secret")
///     .root_certificates(std::fs::read("ca.pem").unwrap())
///     .pool(4)
///     .call_timeout(Duration::from_millis(800))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `connect` is called"]
pub struct RedisProviderBuilder {
    settings: Result<RedisSettings, StoreError>,
    clock: Clock,
}

impl RedisProviderBuilder {
    pub(super) fn from_url(url: &str) -> Self {
        RedisProviderBuilder::new(url::parse(url, TopologyKind::Server))
    }

    pub(super) fn new(settings: Result<RedisSettings, StoreError>) -> Self {
        RedisProviderBuilder { settings, clock: Clock::system() }
    }

    /// Sets the user of Redis's ACL and its password. They replace those of the URL.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis://cache.example/").credentials("app", "secret").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn credentials(self, username: impl Into<Box<str>>, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| {
            settings.credentials.username = Some(username.into());
            settings.credentials.password = Some(Secret(password.into()));
        })
    }

    /// Sets the password. It belongs to the default user unless the URL names one. It replaces the password of the URL.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis://cache.example/").password("secret").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn password(self, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| settings.credentials.password = Some(Secret(password.into())))
    }

    /// Sets user and password for the sentinels themselves, which do not know the servers' users. Default: none.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis+sentinel://one,two,three/mymaster").sentinel_credentials(None, "secret").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn sentinel_credentials(self, username: Option<&str>, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| {
            settings.sentinel_credentials.username = username.map(Into::into);
            settings.sentinel_credentials.password = Some(Secret(password.into()));
        })
    }

    /// Sets the number of the database, in the place of the URL's. Default: 0, the only one of a cluster.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, RedisProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cluster = RedisProvider::builder("redis+cluster://one.example,two.example").database(3);
    /// let error = cluster.connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("a cluster has no other database"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn database(self, number: u32) -> Self {
        self.set(|settings| settings.database = number)
    }

    /// Sets the trusted certificate authorities, in PEM, for `rediss://`. Default: those of the system.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, RedisProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// // A certificate for a connection without TLS is a mistake in the URL.
    /// let builder = RedisProvider::builder("redis://cache.example/").root_certificates("-----BEGIN CERTIFICATE-----");
    /// let error = builder.connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("expected TLS, as in rediss://"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        self.set(|settings| settings.certificates.authorities = Some(pem.into()))
    }

    /// Sets the client's certificate and its private key, both in PEM, for `rediss://`. Default: none.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider = RedisProvider::builder("rediss://cache.example/")
    ///     .client_certificate(std::fs::read("client.pem")?, std::fs::read("client.key")?)
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn client_certificate(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.set(|settings| {
            settings.certificates.client = Some(certificate.into());
            settings.certificates.client_key = Some(key.into());
        })
    }

    /// Sets the largest number of connections, to each server and from each tokio runtime. 1 to 10,000; default: 8.
    ///
    /// Many calls share a connection. Another one is opened only when each has 32 calls in progress. So a larger pool seldom helps.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis://cache.example/").pool(2).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn pool(self, connections: usize) -> Self {
        self.set(|settings| settings.pool = connections)
    }

    /// Sets the time after which an unused connection is replaced before its next use. Default: never.
    ///
    /// Set it if a firewall or a NAT gateway between client and server forgets idle connections.
    ///
    /// Zero means never.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // The load balancer forgets a connection after 350 s without traffic.
    /// let builder = RedisProvider::builder("redis://cache.example/").idle_timeout(Duration::from_secs(300));
    /// let provider = builder.connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero()))
    }

    /// Sets the longest that opening a connection may take, including TLS and authentication. 1 ms to 1 h; default: 500 ms.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, RedisProvider};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let builder = RedisProvider::builder("redis://cache.example/").connect_timeout(Duration::ZERO);
    /// let error = builder.connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("expected 1 ms to an hour"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.connect_timeout = timeout)
    }

    /// Sets the longest that one call may take, including its retries. 1 ms to 1 h; default: 1 s.
    ///
    /// It should be less than the manager's deadline, which is 2 s by default. A connection on which calls wait for so long without
    /// any reply is closed.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, RedisProvider};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let redis = RedisProvider::builder("redis://cache.example/").call_timeout(Duration::from_millis(400)).connect().await?;
    /// let sessions = Manager::builder(redis).deadline(Duration::from_secs(1)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn call_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.call_timeout = timeout)
    }

    /// Sets how often a failed call is retried. 0 to 100; default: 2.
    ///
    /// Reads and touches are retried, since they are idempotent. Other calls are retried only if it is certain that the server
    /// did not run them.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // A lost connection is an error at once: 503 for the visitor.
    /// let provider = RedisProvider::builder("redis://cache.example/").retries(0).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn retries(self, retries: u32) -> Self {
        self.set(|settings| settings.retries = retries)
    }

    /// Sets the prefix of every key. 1 to 64 visible ASCII characters without braces; default: `cloakroom`.
    ///
    /// Applications that share a server need different prefixes.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis://cache.example/").prefix("shop").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn prefix(self, prefix: impl Into<Box<str>>) -> Self {
        self.set(|settings| settings.prefix = prefix.into())
    }

    /// Makes every change wait until `replicas` replicas have it, by Redis's `WAIT`. Default: no wait.
    ///
    /// If they do not have it within `limit`, the call is an error of kind [`Unavailable`](crate::ErrorKind::Unavailable). The
    /// change is on the primary nevertheless. `limit` must be less than the [`call_timeout`](Self::call_timeout).
    ///
    /// This reduces what a failover can lose, but a failover may still promote another replica.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis+sentinel://one,two,three/mymaster")
    ///     .wait_for_replicas(1, Duration::from_millis(200))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn wait_for_replicas(self, replicas: u32, limit: Duration) -> Self {
        self.set(|settings| {
            let wait = settings.wait_mut();
            (wait.replicas, wait.limit) = (replicas, limit);
        })
    }

    /// Sets the clock that deadlines are compared with. It must be the manager's clock. Default: the system's.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, ManualClock, RedisProvider};
    /// use std::time::Duration;
    ///
    /// # async fn test() -> cloakroom::Result<()> {
    /// let time = ManualClock::default();
    /// let provider = RedisProvider::builder("redis://127.0.0.1/").clock(time.clock()).connect().await?;
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// time.advance(Duration::from_secs(31 * 60));    // every session is now idle for too long
    /// # Ok(()) }
    /// ```
    pub fn clock(self, clock: Clock) -> Self {
        RedisProviderBuilder { clock, ..self }
    }

    /// Connects, and checks the server's version and the user's rights.
    ///
    /// Nothing is checked before, so every error of the configuration comes from here. The chapter [Redis](crate::guide::redis) lists the
    /// rights that the user needs.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, RedisProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let builder = RedisProvider::builder("redis://cache.example/").password("secret").prefix("two words");
    /// let error = builder.connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("prefix: expected 1 to 64 visible ASCII characters"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Returns an error of kind
    /// - [`Config`](crate::ErrorKind::Config) for a malformed URL, an impossible setting, a missing right, a server older than
    ///   6.2, and a server of another kind than the URL says;
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if it cannot connect;
    /// - [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer in time.
    pub async fn connect(self) -> Result<RedisProvider> {
        let settings = self.settings?;
        settings.check()?;
        let is_cluster = matches!(settings.topology, Topology::Cluster(_));
        let layout = if is_cluster { Layout::cluster } else { Layout::server };
        let client = RedisClient::new(&settings)?;
        startup::inspect(&client, &settings.topology).await?;
        let layout = layout(&settings.prefix);
        let checked = startup::check_rights(&client, &layout, is_cluster).await;
        checked.map_err(|error| match error {
            error @ StoreError::Rights { .. } => Error::new(ErrorKind::Config, error),
            error => error.into(),
        })?;
        Ok(RedisProvider(Arc::new(RedisStore::new(client, layout, self.clock, is_cluster))))
    }

    /// Connects to the Redis server of a Beego service, and shares its sessions. Both may read and change them at the same time.
    ///
    /// A session ends when it was unused for `lifetime`, which must be the manager's idle timeout.
    ///
    /// A manager for it needs [`Codec::GOB`](crate::config::Codec::GOB), plain ids, and no absolute timeout. Counting and listing
    /// sessions reads all keys of the database. An unreadable session is kept under the [`prefix`](Self::prefix) for a week.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, RedisProvider, config::Codec};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let hour = Duration::from_secs(3600);
    /// let provider = RedisProvider::builder("redis://127.0.0.1/").connect_beego(hour).await?;
    /// let sessions = Manager::builder(provider)
    ///     .cookie_name("gosessionid")
    ///     .codec(Codec::GOB)
    ///     .danger_store_ids_in_clear()
    ///     .idle_timeout(hour)
    ///     .absolute_timeout(None)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`connect`](Self::connect). A cluster is an error of kind [`Config`](crate::ErrorKind::Config),
    /// since no script can change two ids there.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let settings = self.settings?;
        settings.check()?;
        if matches!(settings.topology, Topology::Cluster(_)) {
            let expected = "native, since a cluster cannot change two ids in one step";
            return Err(StoreError::setting("format", expected, "beego").into());
        }
        let client = RedisClient::new(&settings)?;
        startup::inspect(&client, &settings.topology).await?;
        let values = BeegoValues::new(client, self.clock, lifetime, &settings.prefix);
        Ok(AnyProvider::new(Foreign::beego(values)))
    }

    /// Connects to the server of another library's sessions, to [move](crate::migration) them.
    ///
    /// The user needs the commands GET, PTTL, DEL, EVAL and EVALSHA on the old keys.
    ///
    /// # Errors
    /// Returns the errors of [`connect`](Self::connect). A cluster is an error of kind [`Config`](crate::ErrorKind::Config).
    pub async fn connect_old(self) -> Result<OldRecords> {
        let settings = self.settings?;
        settings.check()?;
        if matches!(settings.topology, Topology::Cluster(_)) {
            let expected = "one server or sentinels, for the sessions of another library";
            return Err(StoreError::setting("connect_old", expected, "a cluster").into());
        }
        let client = RedisClient::new(&settings)?;
        startup::inspect(&client, &settings.topology).await?;
        Ok(OldRecords::new(OldStrings::new(client, self.clock)))
    }

    fn set(mut self, change: impl FnOnce(&mut RedisSettings)) -> Self {
        if let Ok(settings) = &mut self.settings {
            change(settings);
        }
        self
    }
}

impl fmt::Debug for RedisProviderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisProviderBuilder")
            .field("settings", &self.settings)
            .field("clock", &self.clock)
            .finish()
    }
}
