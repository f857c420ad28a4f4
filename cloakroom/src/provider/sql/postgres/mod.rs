//! The PostgreSQL provider: sessions in a table of PostgreSQL.
//!
//! | file | part |
//! |---|---|
//! | `settings/`, `builder.rs` | the connection string as libpq reads it, and the settings of this provider |
//! | `start.rs`, `name.rs`, `schema.rs`, `form.rs` | finds the tables' schema, creates them, or checks existing ones |
//! | `connection.rs`, `facts.rs`, `backend.rs` | a connection: its session, its prepared statements, and whether a pooler is in between |
//! | `statements.rs`, `value.rs` | the SQL, and the values that are bound to it |
//! | `store.rs`, `list.rs`, `collect.rs` | the methods of the contract |
//! | `listen.rs` | notifications of changes, for the near cache |
//! | `error.rs` | the server's errors by SQLSTATE, each with a cause and a cure |
//! | `beego.rs` | the table of Beego's provider |
//!
//! # A session in the table
//!
//! One row of the main table is one key, and a second table has a row for each index entry (user or label). Both have the columns of
//! the other SQL providers, and one more: `due`.
//!
//! `due` is the time at which collection looks at a row. It is indexed, and `expires` is not. A use moves `expires` and leaves `due`,
//! so the update touches no index and PostgreSQL can keep the new row version on the same page (a HOT update). Collection reads the
//! rows that are due, deletes those that have expired, and moves `due` of the others to their present deadline.
//!
//! # One step is one statement
//!
//! Each step of the contract is one statement, and so one transaction. A pooler such as PgBouncer may give every transaction to another
//! server process, and nothing here notices: no statement needs the state of a session, and unprepared ones go out in one packet.
//!
//! | step | guarantee of its statement |
//! |---|---|
//! | `create` | `INSERT .. ON CONFLICT DO UPDATE .. WHERE` the old record has expired; a live one stays, and no row comes back |
//! | `update` | changes the row only at the base's version; otherwise returns the version that it found |
//! | `touch` | moves `touched` and `expires` forward only, and computes the deadline from the stored columns |
//! | `rename` | locks the old row, inserts the new one, and ends the old one only if the insert succeeded |
//! | `delete` | deletes the row and its index rows; says whether the row had changed since the snapshot |
//! | `delete_expired` | takes an advisory lock without waiting, so one node collects at a time; skips rows that others have locked |
//!
//! In READ COMMITTED, a statement that waits for a row's lock sees the newest version of that row, but the snapshot of everything else.
//! So the version that `update` returns may be one that another call has already replaced. If it equals the expected version, the step
//! asks again ([`version`](store::PostgresStore::version)), at most four times.
//!
//! # Failures
//!
//! | failure | effect |
//! |---|---|
//! | serialization conflict, deadlock, lock timeout | the step is repeated after a random pause |
//! | connection refused, too many connections, read-only server | the step is repeated after a pause, perhaps on another host; a read-only answer drops the idle connections first |
//! | connection lost before the statement was sent | the step is repeated at once |
//! | connection lost after it was sent | a load, touch or walk is repeated; a change is not, since it may have been made: the caller gets `Unavailable` |
//! | the caller gives up | a task awaits the reply for half a second, then the connection goes back to the pool or is closed; the server ends a statement after 20 s |
//! | a prepared statement is unknown to the server | from then on, new connections send statements unprepared |
//!
//! # Notifications
//!
//! With `notify`, each change of a session names its key on a channel of the table, within the same transaction. A connection of its own
//! listens. PostgreSQL delivers notifications in the order of commits, so a heartbeat that returns proves that no earlier change is
//! missing. After 3 s without one, the near cache is bypassed.

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
mod old;
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
use start::Losses;
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
    losses: Losses,
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
        .may_lose(self.0.losses)
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
