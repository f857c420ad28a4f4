//! The settings of a provider, one by one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "beego")]
use super::beego::Strings;
use super::call::Caller;
use super::error::StoreError;
use super::layout::Layout;
use super::settings::{Secret, Settings, Topology};
use super::store::Store;
use super::url::{self, Kind};
use super::{RedisProvider, server};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "beego")]
use crate::provider::AnyProvider;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;

/// The settings of a [`RedisProvider`]; begun by [`RedisProvider::builder`]. `Debug` shows no credential.
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
#[must_use = "nothing is connected to before `connect`"]
pub struct RedisProviderBuilder {
    settings: Result<Settings, StoreError>,
    clock: Clock,
}

impl RedisProviderBuilder {
    pub(super) fn from_url(url: &str) -> Self {
        RedisProviderBuilder::new(url::parse(url, Kind::Server))
    }

    pub(super) fn new(settings: Result<Settings, StoreError>) -> Self {
        RedisProviderBuilder { settings, clock: Clock::system() }
    }

    /// The user of Redis's ACL and its password, in the place of the URL's.
    pub fn credentials(self, username: impl Into<Box<str>>, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| {
            settings.credentials.username = Some(username.into());
            settings.credentials.password = Some(Secret(password.into()));
        })
    }

    /// The default user's password, in the place of the URL's.
    pub fn password(self, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| settings.credentials.password = Some(Secret(password.into())))
    }

    /// User and password for the sentinels themselves, which know nothing of the servers' users. None if not set.
    pub fn sentinel_credentials(self, username: Option<&str>, password: impl Into<Box<str>>) -> Self {
        self.set(|settings| {
            settings.sentinel_credentials.username = username.map(Into::into);
            settings.sentinel_credentials.password = Some(Secret(password.into()));
        })
    }

    /// The number of the database; 0 if not set. A cluster has no other.
    pub fn database(self, number: u32) -> Self {
        self.set(|settings| settings.database = number)
    }

    /// The certificates of the authorities that are trusted, in PEM, for `rediss://`. The system's if not set.
    pub fn root_certificates(self, pem: impl Into<Vec<u8>>) -> Self {
        self.set(|settings| settings.certificates.authorities = Some(pem.into()))
    }

    /// The certificate by which the server knows us, and its key, both in PEM, for `rediss://`.
    pub fn client_certificate(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.set(|settings| {
            settings.certificates.client = Some(certificate.into());
            settings.certificates.client_key = Some(key.into());
        })
    }

    /// The most connections to a server, on a cluster to each node; 8 if not set. Many calls share one, and a further one is opened
    /// only when each has 32 calls under way.
    pub fn pool(self, connections: usize) -> Self {
        self.set(|settings| settings.pool = connections)
    }

    /// A connection that nobody has used for so long is opened anew before the next use, for networks that forget idle connections.
    /// Never if not set.
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero()))
    }

    /// The longest that opening a connection may take, with TLS and authentication; 500 ms if not set.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.connect_timeout = timeout)
    }

    /// The longest that one call may take, with what is tried again; 1 s if not set. It should be less than the manager's deadline. A
    /// connection on which something was asked and nothing answered for so long is closed.
    pub fn call_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.call_timeout = timeout)
    }

    /// How often a call is tried again; 2 if not set. Only those are that do the same if they are done twice, such as reads, and those
    /// of which it is known that they were not done.
    pub fn retries(self, retries: u32) -> Self {
        self.set(|settings| settings.retries = retries)
    }

    /// What every key begins with, before a colon; `cloakroom` if not set. Applications that share a server should each have their own.
    pub fn prefix(self, prefix: impl Into<Box<str>>) -> Self {
        self.set(|settings| settings.prefix = prefix.into())
    }

    /// Answers a change only when so many replicas have it (`WAIT`), and otherwise, after `limit`, with an error: the change is then on
    /// the primary alone. Narrows what a failover can lose; does not close it. Not asked if not set.
    pub fn wait_for_replicas(self, replicas: u32, limit: Duration) -> Self {
        self.set(|settings| {
            let wait = settings.wait_mut();
            (wait.replicas, wait.limit) = (replicas, limit);
        })
    }

    /// The clock that deadlines are compared with, which must be the manager's; the system's if not set.
    pub fn clock(self, clock: Clock) -> Self {
        RedisProviderBuilder { clock, ..self }
    }

    /// Connects, and looks at the server's version and settings.
    ///
    /// # Errors
    /// Of kind [`Config`](crate::ErrorKind::Config) for a URL or a setting that cannot work, a server that is older than 6.2, and one that is
    /// something else than the URL says; of kind [`Unavailable`](crate::ErrorKind::Unavailable) where no connection comes to be.
    pub async fn connect(self) -> Result<RedisProvider> {
        let settings = self.settings?;
        settings.check()?;
        let is_cluster = matches!(settings.topology, Topology::Cluster(_));
        let layout = if is_cluster { Layout::cluster } else { Layout::server };
        let caller = Caller::new(&settings)?;
        server::inspect(&caller, &settings.topology).await?;
        let layout = layout(&settings.prefix);
        let checked = server::check_rights(&caller, &layout, is_cluster).await;
        checked.map_err(|error| match error {
            error @ StoreError::Rights { .. } => Error::new(ErrorKind::Config, error),
            error => error.into(),
        })?;
        Ok(RedisProvider(Arc::new(Store::new(caller, layout, self.clock, is_cluster))))
    }

    /// Connects to the server of a Beego service's `redis` provider: sessions in its layout, which it reads and changes at the same
    /// time. A session unused for `lifetime` has ended; that must be the manager's idle timeout.
    ///
    /// For a manager that is built by hand the settings are [`Codec::GOB`](crate::config::Codec::GOB), ids in clear, and no absolute timeout. To
    /// count or list sessions goes over all keys of the database. What cannot be read is put aside under the
    /// [`prefix`](Self::prefix), for a week.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) for a cluster, on which two ids can not be
    /// changed in one step.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let settings = self.settings?;
        settings.check()?;
        if matches!(settings.topology, Topology::Cluster(_)) {
            let expected = "native on a cluster, where two ids cannot be changed in one step";
            return Err(StoreError::setting("format", expected, "beego").into());
        }
        let caller = Caller::new(&settings)?;
        server::inspect(&caller, &settings.topology).await?;
        let strings = Strings::new(caller, self.clock, lifetime, &settings.prefix);
        Ok(AnyProvider::new(Foreign::beego(strings)))
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
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
