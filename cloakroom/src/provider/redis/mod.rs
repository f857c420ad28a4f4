//! Sessions in Redis or Valkey: one server, one with sentinels, or a cluster.

mod attempt;
#[cfg(feature = "beego")]
mod beego;
mod builder;
mod call;
mod cluster;
mod connect;
mod crew;
mod description;
mod error;
mod failure;
mod gather;
mod layout;
mod link;
mod moment;
mod news;
mod pool;
mod script;
mod seed;
mod sentinel;
mod server;
mod settings;
mod store;
#[cfg(all(test, feature = "testkit"))]
mod tests;
mod url;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
    Watched, Watcher,
};
use crate::config::{Config, Format};
use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

pub use builder::RedisProviderBuilder;
use store::Store;
use url::Kind;

/// Sessions in Redis 6.2 or later, or Valkey, which any number of processes may share.
///
/// - **A read is one command,** a change one more; each change is one script and so one atomic step, on a cluster, too, but for a new
///   id, which takes three. Scripts are called by their hash, and given to a server that does not know them.
/// - **Connections are shared** by many calls at a time, opened when they are needed and replaced when the server is silent or gone. A
///   reply that nobody waits for any more is dropped, never taken for another's.
/// - **Sessions end by their own deadline,** by the provider's clock. The server drops what has ended by itself a minute later.
/// - **Count, lists and a user's sessions** come from sorted sets that change in the same step as the session. They are exact as long as
///   the server evicts nothing: set `maxmemory-policy` to `noeviction`.
///
/// `docs/redis.md` has every setting, what each operation costs, and what a failover can lose. `docs/format.md` says under which keys
/// sessions lie.
///
/// A clone is a handle on the same store.
///
/// ```no_run
/// use cloakroom::{Manager, RedisProvider};
///
/// # async fn connect() -> cloakroom::Result<()> {
/// let sessions = Manager::builder(RedisProvider::connect("redis://127.0.0.1/").await?).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisProvider(Arc<Store>);

impl RedisProvider {
    /// Connects with the default settings. The URL says to what:
    ///
    /// | URL | to |
    /// |---|---|
    /// | `redis://user:password@host:6379/0` | a server |
    /// | `rediss://..` | the same with TLS |
    /// | `unix:///run/redis.sock?db=0` | a server on this machine |
    /// | `redis+cluster://host,host:6380` | a cluster, some of whose nodes are named |
    /// | `redis+sentinel://host,host/mymaster/0` | the primary that these sentinels call `mymaster` |
    ///
    /// `rediss+cluster` and `rediss+sentinel` are with TLS. Every other setting may stand in the query, by the names in `docs/redis.md`.
    ///
    /// # Errors
    /// As [`RedisProviderBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<RedisProvider> {
        RedisProvider::builder(url).connect().await
    }

    /// Begins a provider with other settings than the defaults.
    pub fn builder(url: impl AsRef<str>) -> RedisProviderBuilder {
        RedisProviderBuilder::from_url(url.as_ref())
    }
}

impl fmt::Debug for RedisProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisProvider").field("cluster", &self.0.is_cluster).finish_non_exhaustive()
    }
}

/// A server tells of changes by client tracking, on a connection of its own. One that dies without a word is noticed within two seconds.
/// A cluster answers [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
impl Watched for RedisProvider {
    async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        self.0.follow(watcher).await
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for RedisProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities { persistent: true, shared: true, native_expiry: true, ..Capabilities::new("redis") }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.0.create(key, record).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.0.load(key).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        self.0.update(key, record, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.0.touch(key, at.into()).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        self.0.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.0.delete(key).await
    }

    async fn count(&self) -> Result<u64> {
        self.0.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.0.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.scan(cursor, limit).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.indexed(entry, cursor, limit).await
    }
}

/// The provider that a configuration text names "redis".
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, Kind::Server).await
}

/// The provider that a configuration text names "redis_cluster".
pub(crate) async fn cluster_from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, Kind::Cluster).await
}

/// The provider that a configuration text names "redis_sentinel".
pub(crate) async fn sentinel_from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, Kind::Sentinels).await
}

async fn of_kind(config: &Config, kind: Kind) -> Result<AnyProvider> {
    if config.durability().is_some() {
        let expected = "nothing: what Redis keeps on disk is a setting of the server (appendfsync)";
        return Err(error::StoreError::setting("durability", expected, "a value").into());
    }
    let builder = RedisProviderBuilder::new(seed::parse(config.provider_config(), kind));
    match config.format() {
        Format::Native => builder.connect().await.map(AnyProvider::new),
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()).await,
        #[allow(unreachable_patterns, reason = "the other formats are a feature")]
        other => Err(error::StoreError::setting("format", "native or beego", other.to_string()).into()),
    }
}
