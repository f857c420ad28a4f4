//! The PostgreSQL provider: sessions in a table of PostgreSQL.

mod backend;
#[cfg(feature = "beego")]
mod beego;
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
use std::time::{Duration, SystemTime};

use super::batch::BatchSize;
use super::pool::SqlPool;
use super::row::{StoredRow, millis};
use super::step::StepLimits;
use super::table::TableName;
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
    Watched, Watcher,
};
use crate::record::{IndexEntry, Record};

use connection::PostgresConnector;
use error::PostgresError;
use listen::ChangeChannel;
use name::{ConfiguredName, TablePair};
use settings::{CommitDurability, Settings};
use statements::PostgresStatements;
use store::PostgresStore;

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
        PostgresProviderBuilder {
            text: text.as_ref().into(),
            table: None,
            pool: None,
            connect_timeout: None,
            deadline: None,
            retries: PostgresProviderBuilder::RETRIES,
            create_table: None,
            relaxed: None,
            time_zone: None,
            notifies: false,
            clock: None,
        }
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
            ..Capabilities::new("postgres")
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

/// The settings of a [`PostgresProvider`]; [`PostgresProvider::builder`] returns it. The connection string gives the initial values.
#[derive(Clone)]
#[must_use = "a builder connects to nothing before `connect`"]
pub struct PostgresProviderBuilder {
    text: Box<str>,
    table: Option<Box<str>>,
    pool: Option<usize>,
    connect_timeout: Option<Duration>,
    deadline: Option<Duration>,
    retries: usize,
    create_table: Option<bool>,
    relaxed: Option<bool>,
    time_zone: Option<Box<str>>,
    notifies: bool,
    clock: Option<Clock>,
}

impl PostgresProviderBuilder {
    const POOL: usize = 10;
    const TIME: Duration = Duration::from_secs(2);
    const RETRIES: usize = 3;

    /// Returns the settings as `Debug` shows them, or the error that `connect` would report about the connection string. The fuzz target
    /// calls it.
    #[doc(hidden)]
    pub fn check(&self) -> Result<String> {
        let settings = Settings::parse(&self.text).map_err(PostgresError::from)?;
        Ok(format!("{settings:?}"))
    }

    /// Sets the table's name: 1 to 57 letters, digits and `_`; `cloakroom_sessions` by default. `schema.table` names its schema too, which
    /// `search_path` decides otherwise.
    pub fn table(self, name: &str) -> Self {
        PostgresProviderBuilder { table: Some(name.into()), ..self }
    }

    /// Sets the greatest number of open connections, 1 to 10,000; 10 by default. Further calls wait for a connection, within their deadline.
    pub fn pool(self, size: usize) -> Self {
        PostgresProviderBuilder { pool: Some(size), ..self }
    }

    /// Sets the time limit for opening a connection; 2 s by default. Zero means no limit.
    pub fn connect_timeout(self, limit: Duration) -> Self {
        PostgresProviderBuilder { connect_timeout: Some(limit), ..self }
    }

    /// Sets the deadline of one call, including the wait for a connection; 2 s by default. Zero means no deadline.
    /// Counts, lists and collections have ten times as long.
    pub fn deadline(self, limit: Duration) -> Self {
        PostgresProviderBuilder { deadline: Some(limit), ..self }
    }

    /// Sets the greatest number of retries of a call, within its deadline; 3 by default.
    ///
    /// A call is retried after a conflict, which the server has undone, and after a refusal: by a standby, or by a server that is not
    /// ready or has no connection left. After a lost connection it is retried only if it may run twice: `load`, `touch` and the lists.
    pub fn retries(self, most: usize) -> Self {
        PostgresProviderBuilder { retries: most, ..self }
    }

    /// Sets whether [`connect`](Self::connect) creates missing tables; true by default. Existing ones are always checked.
    pub fn create_table(self, make: bool) -> Self {
        PostgresProviderBuilder { create_table: Some(make), ..self }
    }

    /// Sets whether a commit returns before it is on the disk (`synchronous_commit = off`); false by default.
    ///
    /// Changes are then faster on a slow disk. A crash of the server may undo the changes of the last moments, a logout included, and
    /// leaves no record damaged.
    pub fn relaxed(self, relaxed: bool) -> Self {
        PostgresProviderBuilder { relaxed: Some(relaxed), ..self }
    }

    /// Sets whether each change of a session tells its key to all who listen (`NOTIFY`), for
    /// `Cached::builder(..).watching()`; false by default. Set it in every process that uses the table.
    ///
    /// Such commits happen one after the other, since the server orders notifications by a lock of the whole server. A site with many changes
    /// a second has a near cache `within` a bound instead.
    pub fn notify(self, notifies: bool) -> Self {
        PostgresProviderBuilder { notifies, ..self }
    }

    /// Sets the clock that deadlines are compared with, for tests; the server's clock by default. It must be the manager's clock.
    pub fn clock(self, clock: Clock) -> Self {
        PostgresProviderBuilder { clock: Some(clock), ..self }
    }

    /// Sets the time zone of the Go server for [`connect_beego`](Self::connect_beego), such as `Asia/Shanghai`; the connection's `timezone` by
    /// default.
    #[cfg(feature = "beego")]
    pub fn time_zone(self, name: &str) -> Self {
        PostgresProviderBuilder { time_zone: Some(name.into()), ..self }
    }

    /// Connects, creates the tables if they are missing, and checks them; [`PostgresProvider::connect`] lists the errors.
    pub async fn connect(self) -> Result<PostgresProvider> {
        let opening = self.parsed(&TableName::default())?;
        let (limits, notifies) = (opening.limits, opening.notifies);
        let opened = limits.within_long_deadline(opening.native()).await;
        let (store, tables) = opened.map_err(PostgresError::at_start)?;
        let settings = || store.pool.connector().settings.clone();
        let channel = notifies.then(|| ChangeChannel::new(settings(), store.sql.lock, limits));
        Ok(PostgresProvider(Arc::new(PostgresState { store, tables, channel })))
    }

    /// Connects to the database of a Beego application's `postgresql` provider, and uses Beego's table. The application may run at the same
    /// time. The table is `session` unless another name is set, and is never changed. A session ends when it was unused for `lifetime`,
    /// which must be the manager's idle timeout.
    ///
    /// Beego stores the time of the last save as the Go server's clock on the wall shows it, without its zone. Set that server's
    /// [`time_zone`](Self::time_zone) if it is not the connection's.
    ///
    /// A manager built with the builder needs the codec [`Codec::GOB`](crate::config::Codec::GOB), ids in clear and no absolute timeout.
    ///
    /// # Errors
    /// The errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing, or the server does not know
    /// the time zone.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let zone = self.time_zone.clone();
        let opening = self.parsed(&TableName::new(beego::TABLE).map_err(PostgresError::from)?)?;
        let (limits, durable) = (opening.limits, opening.durable);
        let opened = async {
            let (store, tables) = opening.store().await?;
            beego::PostgresBeegoRows::open(store, &tables, durable, lifetime, zone).await
        };
        let rows = limits.within_long_deadline(opened).await.map_err(PostgresError::at_start)?;
        Ok(AnyProvider::new(Foreign::beego(rows)))
    }

    /// Parses the connection string and checks the settings. `table` is the default.
    fn parsed(self, table: &TableName) -> Result<Opening, PostgresError> {
        let mut settings = Settings::parse(&self.text)?;
        settings.params.connect_timeout = self.connect_timeout.or(settings.params.connect_timeout);
        let params = &settings.params;
        let name = match (&self.table, &params.table) {
            (Some(name), _) => ConfiguredName::new(name)?,
            (None, Some(table)) => ConfiguredName::of(params.schema.as_deref(), table)?,
            (None, None) => table.clone().into(),
        };
        let size = self.pool.or(params.pool).unwrap_or(Self::POOL);
        if !(1..=SqlPool::<PostgresConnector>::MAX_SIZE).contains(&size) {
            let (what, expected) = ("the size of the pool", "1 to 10,000 connections");
            return Err(PostgresError::Setting { what, expected, found: size.to_string() });
        }
        let relaxed = self.relaxed.unwrap_or(params.durability == Some(CommitDurability::Relaxed));
        let deadline = self.deadline.or(params.deadline).unwrap_or(Self::TIME);
        Ok(Opening {
            name,
            limits: StepLimits::new(deadline, self.retries),
            create_table: self.create_table.or(params.create_table).unwrap_or(true),
            durable: if relaxed { statements::RELAXED } else { statements::SYNCHRONOUS },
            notifies: self.notifies,
            clock: self.clock,
            pool: SqlPool::new(PostgresConnector::new(settings), size, true),
        })
    }
}

impl fmt::Debug for PostgresProviderBuilder {
    /// Leaves out the connection string.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProviderBuilder")
            .field("table", &self.table)
            .field("pool", &self.pool)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A provider that is about to connect.
struct Opening {
    name: ConfiguredName,
    limits: StepLimits,
    create_table: bool,
    durable: &'static str,
    notifies: bool,
    clock: Option<Clock>,
    pool: SqlPool<PostgresConnector>,
}

impl Opening {
    /// Opens a first connection and writes the statements.
    async fn store(self) -> Result<(PostgresStore, TablePair), PostgresError> {
        let tables = start::tables(&self.pool, &self.name).await?;
        let store = PostgresStore {
            sql: PostgresStatements::of(&tables, self.durable, self.notifies),
            pool: self.pool,
            clock: self.clock,
            limits: self.limits,
            batch: BatchSize::default(),
        };
        Ok((store, tables))
    }

    /// Opens a store of native records. Creates and checks its tables.
    async fn native(self) -> Result<(PostgresStore, TablePair), PostgresError> {
        let make = self.create_table;
        let (store, tables) = self.store().await?;
        let mut connection = store.connection().await?;
        schema::prepare(&mut connection, &tables, store.sql.lock, make).await?;
        if let Some(facts) = connection.facts() {
            start::warn_about_server(facts, store.clock.is_some());
        }
        drop(connection);
        Ok((store, tables))
    }
}
