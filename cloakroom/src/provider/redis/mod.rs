//! The Redis provider: keeps sessions on one server, on one watched by sentinels, or on a cluster.
//!
//! | layer | files | part |
//! |---|---|---|
//! | contract | `store/`, `script.rs`, `scripts/` | the methods as commands; each change is one Lua script |
//! | names | `layout.rs` | the keys in Redis, and the partitions of a cluster |
//! | calls | `client.rs`, `failure.rs`, `send_once.rs` | sends commands within a deadline, and retries what may be repeated |
//! | routing | `sentinel.rs`, `cluster.rs`, `server_info.rs` | finds the primary or the node, and notices another server behind an address |
//! | connections | `pool.rs`, `runtime_pool.rs`, `connection.rs`, `connector.rs`, `coalesce.rs` | connections that many calls share, for each tokio runtime |
//! | changes | `invalidations.rs` | the server's reports of changed sessions, for the near cache |
//! | start | `builder.rs`, `settings.rs`, `url.rs`, `provider_config.rs`, `startup.rs` | settings, and the checks before the first use |
//! | Beego | `beego.rs` | the records of Beego's provider |
//!
//! A promise depends on this: all connections of a pool lead to one server. After a failover, every connection to the former
//! primary is closed, so that no request reads an ended session there.
//!
//! # The keys
//!
//! Each key begins with the prefix and the partition, such as `cloakroom:{0}:`. One server has one partition, a cluster has 64. The
//! braces keep a partition in one slot, so that a script may change all of its keys.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `session:KEY` | string | the record, with a time to live of its deadline and a minute |
//! | `deadlines` | sorted set | the keys of all sessions, by deadline; collection and the count use it |
//! | `keys` | sorted set | the same keys in alphabetical order, for `scan` |
//! | `user:NAME`, `label:VALUE` | sorted set | the keys of the sessions under an index entry, by deadline |
//! | `users`, `labels` | sorted set | the values that have such a set, by the time at which its last entry ends |
//! | `corrupt:KEY` | string | an unreadable value that was set aside, for a week |
//! | `moving:KEY`, `arriving:KEY` | string | a rename between two slots of a cluster that is under way |
//!
//! The record alone decides. A set may name a session that has ended, or give an earlier deadline: a change moves an entry only when
//! the deadline enters another eighth of the idle timeout. Readers of a set look at each record before they believe the entry.
//!
//! # One call
//!
//! 1. `store/` chooses the script and its keys, and tells `client.rs` whether the call may run twice.
//! 2. The client finds the pool of the partition's server. A cluster follows `MOVED` and `ASK`, and asks for the slot map again after
//!    a failure.
//! 3. The pool gives the connection with the fewest pending calls, or opens another one. Calls share connections, so a slow caller
//!    holds up no other.
//! 4. If the server has been silent for a while, a second connection is opened beside the first. The first is closed if only the
//!    second one is answered.
//! 5. The reply is an outcome, or an error as data.
//!
//! # Retries
//!
//! | failure | a call that may run twice | a change |
//! |---|---|---|
//! | the command was not sent | up to `retries` times | up to `retries` times |
//! | the server refused it for now (`LOADING`, `READONLY`, `MOVED`, ...) | until the deadline | until the deadline |
//! | the server refused it for another reason | never | never |
//! | the connection broke, or a script failed after its first write | up to `retries` times | never: the change may have been made |
//! | the deadline passed | never | never |
//!
//! A change that may have been made is the error `Unavailable` or `Timeout`, and stays pending in its request. If the request saves again,
//! the version tells: an `update` that was made before is now *stale*, so the record is loaded and the changes are replayed on it.
//!
//! # Epochs
//!
//! A pool numbers the servers that its address has led to. A new epoch begins if `run_id` changes, if a server answers that it is a
//! replica now (`READONLY`, `MASTERDOWN`), or if the sentinels name another primary. It closes every connection of the former epoch,
//! those of invalidations too, and the near cache drops its copies. A connection that was opened in an earlier epoch is never added.
//!
//! With sentinels, a connection is used only if they confirmed the primary within 1.5 s. This is shorter than a failover takes, so
//! a former primary that was cut off with its clients answers no request.

mod atomic_instant;
#[cfg(feature = "beego")]
mod beego;
mod builder;
mod client;
mod cluster;
mod coalesce;
mod connection;
mod connector;
mod error;
mod failure;
mod invalidations;
mod layout;
mod old;
mod pool;
mod provider_config;
mod runtime_pool;
mod script;
mod send_once;
mod sentinel;
mod server_info;
mod settings;
mod startup;
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
use store::RedisStore;
use url::TopologyKind;

/// Keeps sessions in Redis 6.2 or later, or in Valkey. Any number of processes may share them.
///
/// The servers may be a single one, one watched by sentinels, or a cluster. TLS, users of the ACL and Unix sockets are
/// supported.
///
/// - **A read is one command,** and a change is one more. Each change is one script, and so one atomic step. A new session id
///   on a cluster takes several, which are undone if the process dies in between.
/// - **Many calls share a connection.** Connections are opened when needed. A silent one is checked while calls wait, and
///   replaced if it is dead.
/// - **Sessions end at their own deadline,** by the provider's clock. The server deletes an ended session a minute later.
/// - **Counts, lists and a user's sessions** come from sorted sets that change in the same step as the session. They are exact
///   as long as the server evicts nothing, so set `maxmemory-policy` to `noeviction`.
/// - **A failover can lose the last changes,** since Redis replicates asynchronously.
///
/// [The guide](crate::guide::redis) lists every setting, the cost of each operation, and the exact losses of each kind of failover.
///
/// A clone is a handle on the same store and shares its connections.
///
/// ```no_run
/// use cloakroom::{Manager, RedisProvider};
///
/// # async fn connect() -> cloakroom::Result<()> {
/// let provider = RedisProvider::connect("redis://127.0.0.1/").await?;
/// let sessions = Manager::builder(provider).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisProvider(Arc<RedisStore>);

impl RedisProvider {
    /// Connects with the default settings.
    ///
    /// | URL | connects to |
    /// |---|---|
    /// | `redis://user:password@host:6379/0` | a server; the path is the database |
    /// | `rediss://..` | the same with TLS |
    /// | `unix:///run/redis.sock?db=0` | a server on this machine, by its Unix socket |
    /// | `redis+cluster://host,host:6380` | a cluster; the URL names some of its nodes |
    /// | `redis+sentinel://host,host/mymaster/0` | the primary that these sentinels know as `mymaster` |
    ///
    /// `rediss+cluster` and `rediss+sentinel` use TLS. The query takes every other setting, such as `?timeout=800ms&pool=4`.
    /// Percent-encode user and password.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let cluster = RedisProvider::connect("redis+cluster://node-1,node-2:6380").await?;
    /// let sentinels = RedisProvider::connect("redis+sentinel://one,two,three/mymaster/0?timeout=800ms").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`RedisProviderBuilder::connect`].
    pub async fn connect(url: impl AsRef<str>) -> Result<RedisProvider> {
        RedisProvider::builder(url).connect().await
    }

    /// Returns a builder, to change the settings before connecting. `url` is as in [`connect`](Self::connect).
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = RedisProvider::builder("redis://127.0.0.1/1").prefix("shop").connect().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A malformed `url` is an error of [`RedisProviderBuilder::connect`].
    pub fn builder(url: impl AsRef<str>) -> RedisProviderBuilder {
        RedisProviderBuilder::from_url(url.as_ref())
    }
}

impl fmt::Debug for RedisProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisProvider").field("cluster", &self.0.is_cluster).finish_non_exhaustive()
    }
}

/// Reports changes by Redis's client tracking, on a separate connection. If that connection dies silently, this is noticed
/// within two seconds. A cluster answers [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
impl Watched for RedisProvider {
    async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        self.0.subscribe(watcher).await
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for RedisProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            shared: true,
            native_expiry: true,
            ..Capabilities::new("redis").with_clock(self.0.clock.clone())
        }
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

/// Builds the provider that a configuration names "redis".
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, TopologyKind::Server).await
}

/// Builds the provider that a configuration names "redis_cluster".
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn cluster_from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, TopologyKind::Cluster).await
}

/// Builds the provider that a configuration names "redis_sentinel".
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn sentinel_from_config(config: Config) -> Result<AnyProvider> {
    of_kind(&config, TopologyKind::Sentinels).await
}

async fn of_kind(config: &Config, kind: TopologyKind) -> Result<AnyProvider> {
    if config.durability().is_some() {
        let expected = "no value, since the server decides what it keeps on disk (appendfsync)";
        return Err(error::StoreError::setting("durability", expected, "a value").into());
    }
    let builder = RedisProviderBuilder::new(provider_config::parse(config.provider_config(), kind));
    match config.format() {
        Format::Native => builder.connect().await.map(AnyProvider::new),
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()).await,
        #[allow(unreachable_patterns, reason = "the other formats are a feature")]
        other => Err(error::StoreError::setting("format", "native or beego", other.to_string()).into()),
    }
}
