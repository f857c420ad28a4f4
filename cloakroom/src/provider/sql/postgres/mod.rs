//! The PostgreSQL provider: sessions in a table of PostgreSQL.

mod backend;
#[cfg(feature = "beego")]
mod beego;
mod builder;
mod collect;
mod connection;
mod error;
mod facts;
mod form;
mod list;
mod listen;
mod name;
mod schema;
mod settings;
mod start;
mod statements;
mod store;
mod value;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::row::{StoredRow, millis};
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
    Watched, Watcher,
};
use crate::record::{IndexEntry, Record};

use error::PostgresError;
use listen::ChangeChannel;
use name::{ConfiguredName, TablePair};
use store::PostgresStore;

pub use builder::PostgresProviderBuilder;

/// A provider that keeps sessions in a table of PostgreSQL, 12 and later.
///
/// Any number of machines may share the table. [The guide](crate::guide::postgres) lists the settings, the columns, the privileges and the
/// cost of each operation.
///
/// - **Each step is one statement,** and each statement a transaction of its own: a read, a change with its answer, a new id with its
///   tombstone, a logout. So a step costs one round trip and holds no lock between two of them.
/// - **The server's clock decides what has expired,** so that machines whose clocks differ agree.
/// - **It works behind PgBouncer in transaction mode,** which it recognises: nothing depends on the state of a session.
/// - **An acknowledged change is on the disk.** Each statement sets the level of its own commit, whatever the role or the database has set.
/// - **Most changes leave all indexes as they are** (HOT updates), since no indexed column moves when a session is used or changed.
/// - **Several runtimes may share a provider:** a connection serves only the runtime that opened it.
/// - **No error, log line or `Debug` output contains a credential.**
///
/// The provider needs a [tokio](https://docs.rs/tokio) runtime with I/O and time enabled. A clone is a handle on the same connections.
///
/// ```no_run
/// use cloakroom::{Manager, PostgresProvider};
///
/// # async fn start() -> cloakroom::Result<()> {
/// let provider = PostgresProvider::connect("postgres://app:secret@db.internal/app?sslmode=verify-full").await?;
/// let sessions = Manager::builder(provider).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresProvider(Arc<PostgresState>);

struct PostgresState {
    store: PostgresStore,
    tables: TablePair,
    /// The channel on which changes are told, if they are.
    channel: Option<ChangeChannel>,
}

impl PostgresProvider {
    /// Connects to the database that `text` names, and creates the table `cloakroom_sessions` if it is missing.
    ///
    /// `text` is a `postgres://` URL, or a string of `name=value` as libpq reads it.
    ///
    /// ```no_run
    /// # async fn show() -> cloakroom::Result<()> {
    /// use cloakroom::{Manager, PostgresProvider};
    ///
    /// let postgres = PostgresProvider::connect("host=/run/postgresql dbname=app user=app").await?;
    /// let sessions = Manager::builder(postgres).build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Config`](crate::ErrorKind::Config) for an invalid `text`, a refused login, a server that is too old, a missing right, or an existing
    ///   table of another form. The message then contains the statements that fix the table.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) if the server cannot be reached.
    pub async fn connect(text: impl AsRef<str>) -> Result<PostgresProvider> {
        PostgresProvider::builder(text).connect().await
    }

    /// Returns a builder for the database that `text` names, for settings other than the defaults.
    ///
    /// Neither the builder nor its setters fail. [`connect`](PostgresProviderBuilder::connect) reports what is wrong.
    ///
    /// ```no_run
    /// use cloakroom::PostgresProvider;
    /// use std::time::Duration;
    ///
    /// # async fn start() -> cloakroom::Result<()> {
    /// let provider = PostgresProvider::builder("postgres://app:secret@db.internal/app")
    ///     .table("web.visitors")
    ///     .pool(20)
    ///     .deadline(Duration::from_millis(500))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(text: impl AsRef<str>) -> PostgresProviderBuilder {
        PostgresProviderBuilder::new(text.as_ref())
    }

    /// Returns the statements that create the table `name` and its index, for your own migrations. `name` may have a schema.
    ///
    /// ```
    /// use cloakroom::PostgresProvider;
    ///
    /// let statements = PostgresProvider::schema("web.sessions")?;
    /// assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS \"web\".\"sessions\""));
    /// assert!(PostgresProvider::schema("no\"name").is_err());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if `name` is not 1 to 57 letters, digits and `_`, with or without a schema and a dot.
    pub fn schema(name: &str) -> Result<Vec<String>> {
        let name = ConfiguredName::new(name).map_err(PostgresError::from)?;
        Ok(schema::create(&name.as_given()))
    }
}

impl fmt::Debug for PostgresProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProvider")
            .field("settings", &self.0.store.pool.connector().settings)
            .field("table", &self.0.tables.table())
            .field("pool", &self.0.store.pool)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for PostgresProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            shared: true,
            max_record: Some(store::LARGEST_RECORD),
            ..Capabilities::new("postgres").with_clock(self.0.store.clock.clone().unwrap_or_default())
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let store = &self.0.store;
        Ok(store.step(|| store.create(key, record)).await?)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let store = &self.0.store;
        let Some(found) = store.idempotent_step(|| store.load(key)).await? else { return Ok(None) };
        match found.record() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Box::pin(self.put_aside(key, &found)).await;
                Err(error)
            }
            record => record.map(Some),
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let store = &self.0.store;
        Ok(store.step(|| store.update(key, record, base)).await?)
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let (store, at) = (&self.0.store, millis(at));
        Ok(store.idempotent_step(|| store.touch(key, at)).await?)
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let store = &self.0.store;
        Ok(store.step(|| store.rename([old, new], record, expected, tombstone)).await?)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let store = &self.0.store;
        Ok(store.step(|| store.delete(key)).await?)
    }

    async fn count(&self) -> Result<u64> {
        let store = &self.0.store;
        Ok(store.long_step(|| store.count()).await?)
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let store = &self.0.store;
        Ok(store.long_step(|| store.collect(limit)).await?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let store = &self.0.store;
        Ok(store.long_step(|| store.scan(cursor.as_ref(), limit)).await?)
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Ok(Page { entries: Vec::new(), next: cursor });
        }
        let store = &self.0.store;
        Ok(store.long_step(|| store.indexed(entry, cursor.as_ref(), limit)).await?)
    }
}

impl Watched for PostgresProvider {
    /// Tells `watcher` of every change, on a connection of its own that listens. A task on the current runtime serves it, so that runtime
    /// must live as long as the watcher.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the builder's [`notify`](PostgresProviderBuilder::notify) is off, or a pooler is in between.
    async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        match &self.0.channel {
            Some(channel) => Ok(channel.watch(watcher).await?),
            None => Err(PostgresError::Silent.into()),
        }
    }
}

impl PostgresProvider {
    /// Moves an unreadable record out of the way, so that the visitor gets one error and then a new session.
    async fn put_aside(&self, key: &StoreKey, found: &StoredRow) {
        let store = &self.0.store;
        match store.idempotent_step(|| store.put_aside(key, found.bytes())).await {
            Ok(true) => tracing::warn!(
                table = self.0.tables.table(),
                "a stored session cannot be read; it was moved to an id that begins with ! and is kept for a week"
            ),
            // Another call has changed or moved the row since it was loaded.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "a stored session cannot be read and could not be moved away");
            }
        }
    }
}

/// Connects the provider that a configuration string names "postgres" or "postgresql"; `providerConfig` is its connection string.
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    let mut builder = PostgresProvider::builder(config.provider_config());
    builder = match config.durability() {
        None => builder,
        Some("atomic") => builder.relaxed(false),
        Some("relaxed") => builder.relaxed(true),
        Some(other) => {
            let (what, expected) = ("durability", "atomic or relaxed");
            let found = other.chars().take(40).collect();
            return Err(PostgresError::Setting { what, expected, found }.into());
        }
    };
    match config.format() {
        Format::Native => builder.connect().await.map(AnyProvider::new),
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()).await,
        #[allow(unreachable_patterns, reason = "other formats depend on features")]
        other => {
            let (what, expected) = ("format", "native or beego");
            Err(PostgresError::Setting { what, expected, found: other.to_string() }.into())
        }
    }
}
