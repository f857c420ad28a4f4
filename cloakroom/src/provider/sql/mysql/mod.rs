//! The MySQL provider: sessions in a table of MariaDB or MySQL.

#[cfg(feature = "beego")]
mod beego;
mod bound;
mod collect;
mod connection;
mod dsn;
mod error;
mod form;
mod list;
mod rename;
mod schema;
mod session;
mod size;
mod start;
mod statements;
mod store;
mod variables;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::batch::BatchSize;
use super::pool::SqlPool;
use super::row::{StoredRow, millis};
use super::step::{StepLimits, lasting};
use super::table::TableName;
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::record::{IndexEntry, Record};

use connection::MySqlConnector;
use dsn::Dsn;
use error::MySqlError;
use statements::Statements;
use store::MySqlStore;

/// A provider that keeps sessions in a table of MariaDB (10.6 and later) or MySQL (8.0 and later).
///
/// Any number of machines may share the table. [The guide](crate::guide::mysql) lists the settings, the columns, the privileges and the cost of each
/// operation.
///
/// - **A read is one prepared statement, and a change is one more.** The `WHERE` of an `UPDATE` compares the version. No statement is an
///   upsert.
/// - **The server's clock decides what has expired,** so that machines whose clocks differ agree.
/// - **A connection whose call was cancelled, timed out or failed is closed,** so that no other call reads its reply.
/// - **Every setting of the server on which a promise depends** is set on each connection and read back.
/// - **No value is truncated:** the connection uses strict mode, and a record that is too large for the server is an error before it is sent.
/// - **Several runtimes may share a provider:** a connection serves only the runtime that opened it.
/// - **No error, log line or `Debug` output contains a credential.**
///
/// The provider needs a [tokio](https://docs.rs/tokio) runtime with I/O and time enabled. A clone is a handle on the same connections.
///
/// ```no_run
/// use cloakroom::{Manager, MySqlProvider};
///
/// # async fn start() -> cloakroom::Result<()> {
/// let provider = MySqlProvider::connect("app:secret@tcp(db.internal:3306)/app?tls=true").await?;
/// let sessions = Manager::builder(provider).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MySqlProvider(Arc<ProviderState>);

struct ProviderState {
    store: MySqlStore,
    table: TableName,
    max_record: usize,
}

impl MySqlProvider {
    /// Connects to the database that `dsn` names, and creates the table `cloakroom_sessions` if it is missing.
    ///
    /// `dsn` is a data source name of go-sql-driver, `[user[:password]@][net[(addr)]]/dbname[?param1=value1&..]`, or a `mysql://` URL.
    ///
    /// ```no_run
    /// # async fn show() -> cloakroom::Result<()> {
    /// use cloakroom::{Manager, MySqlProvider};
    ///
    /// let mysql = MySqlProvider::connect("app:secret@tcp(127.0.0.1:3306)/app").await?;
    /// let sessions = Manager::builder(mysql).build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Config`](crate::ErrorKind::Config) for an invalid `dsn`, a refused login, a server that is too old, a missing right, or an existing
    ///   table of another form. The message then contains the statement that fixes the table.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) if the server cannot be reached.
    pub async fn connect(dsn: &str) -> Result<MySqlProvider> {
        MySqlProvider::builder(dsn)?.connect().await
    }

    /// Returns a builder for the database that `dsn` names, for settings other than the defaults.
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    /// use std::time::Duration;
    ///
    /// # async fn start() -> cloakroom::Result<()> {
    /// let provider = MySqlProvider::builder("app:secret@unix(/run/mysqld/mysqld.sock)/app")?
    ///     .table("visitors")?
    ///     .pool(20)?
    ///     .deadline(Duration::from_millis(500))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if `dsn` is invalid. The message contains no part of `dsn`.
    pub fn builder(dsn: &str) -> Result<MySqlProviderBuilder> {
        MySqlProviderBuilder::new(dsn)
    }

    /// Returns the statements that create the table `name` and its index, for your own migrations.
    ///
    /// ```
    /// use cloakroom::MySqlProvider;
    ///
    /// let statements = MySqlProvider::schema("cloakroom_sessions")?;
    /// assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS `cloakroom_sessions`"));
    /// assert!(statements[1].starts_with("CREATE TABLE IF NOT EXISTS `cloakroom_sessions_index`"));
    /// assert!(MySqlProvider::schema("no`name").is_err());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if `name` is not 1 to 57 letters, digits and `_`.
    pub fn schema(name: &str) -> Result<Vec<String>> {
        let table = TableName::new(name).map_err(MySqlError::from)?;
        Ok(vec![schema::create(&table), schema::create_index(&table.index())])
    }
}

impl fmt::Debug for MySqlProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlProvider")
            .field("dsn", &self.0.store.pool.connector().dsn)
            .field("table", &self.0.table)
            .field("pool", &self.0.store.pool)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for MySqlProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            shared: true,
            max_record: Some(self.0.max_record),
            ..Capabilities::new("mysql")
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let store = &self.0.store;
        Ok(store.within_deadline(store.retry_undone(|| store.create(key, record))).await?)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let store = &self.0.store;
        let Some(stored) = store.within_deadline(store.retry_idempotent(|| store.load(key))).await? else {
            return Ok(None);
        };
        match stored.record() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Box::pin(self.put_aside(key, &stored)).await;
                Err(error)
            }
            record => record.map(Some),
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let store = &self.0.store;
        Ok(store.within_deadline(store.retry_undone(|| store.update(key, record, base))).await?)
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let store = &self.0.store;
        let at = millis(at);
        Ok(store.within_deadline(store.retry_idempotent(|| store.touch(key, at))).await?)
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
        let renamed = store.retry_undone(|| rename::rename(store, (old, new), record, expected, tombstone));
        Ok(store.within_deadline(renamed).await?)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let store = &self.0.store;
        Ok(store.within_deadline(store.retry_undone(|| store.delete(key))).await?)
    }

    async fn count(&self) -> Result<u64> {
        let store = &self.0.store;
        Ok(store.within_long_deadline(store.retry_idempotent(|| store.count())).await?)
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let store = &self.0.store;
        Ok(store.within_long_deadline(store.retry_undone(|| store.collect(limit))).await?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let store = &self.0.store;
        Ok(store.within_long_deadline(store.retry_idempotent(|| store.scan(cursor.as_ref(), limit))).await?)
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Ok(Page { entries: Vec::new(), next: cursor });
        }
        let store = &self.0.store;
        let page = store.retry_idempotent(|| store.indexed(entry, cursor.as_ref(), limit));
        Ok(store.within_long_deadline(page).await?)
    }
}

impl MySqlProvider {
    /// Moves an unreadable record out of the way, so that the visitor gets one error and then a new session.
    async fn put_aside(&self, key: &StoreKey, stored: &StoredRow) {
        let store = &self.0.store;
        let aside = store.retry_idempotent(|| store.put_aside(key, stored.bytes()));
        match store.within_deadline(aside).await {
            Ok(true) => tracing::warn!(
                table = %self.0.table,
                "a stored session cannot be read; it was moved to an id that begins with ! and is kept for a week"
            ),
            // Another call has changed or moved the row since it was loaded.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "a stored session cannot be read and could not be moved away")
            }
        }
    }
}

/// Connects the provider that a configuration string names "mysql"; `providerConfig` is its data source name.
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    let builder = MySqlProvider::builder(config.provider_config())?;
    match config.format() {
        Format::Native => builder.connect().await.map(AnyProvider::new),
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()).await,
        #[allow(unreachable_patterns, reason = "other formats depend on features")]
        other => {
            let (what, expected) = ("format", "native or beego");
            Err(MySqlError::Setting { what, expected, found: other.to_string() }.into())
        }
    }
}

/// The settings of a [`MySqlProvider`]; [`MySqlProvider::builder`] returns it. The data source name gives the initial values.
#[derive(Clone, Debug)]
#[must_use = "a builder connects to nothing before `connect`"]
pub struct MySqlProviderBuilder {
    dsn: Dsn,
    table: TableName,
    pool: usize,
    connect_timeout: Duration,
    deadline: Duration,
    retries: usize,
    create_table: bool,
    clock: Option<Clock>,
}

impl MySqlProviderBuilder {
    const POOL: usize = 10;
    const TIME: Duration = Duration::from_secs(2);
    const RETRIES: usize = 3;

    fn new(text: &str) -> Result<Self> {
        let dsn = Dsn::parse(text).map_err(MySqlError::from)?;
        if dsn.database.is_empty() {
            return Err(MySqlError::NoDatabase.into());
        }
        let params = &dsn.params;
        let table = match &params.table {
            Some(name) => TableName::new(name).map_err(MySqlError::from)?,
            None => TableName::default(),
        };
        let builder = MySqlProviderBuilder {
            table,
            pool: Self::POOL,
            connect_timeout: params.connect.unwrap_or(Self::TIME),
            // Go's driver bounds each write and each read. This provider bounds the whole call, by the greater of the two.
            deadline: params.read.max(params.write).unwrap_or(Self::TIME),
            retries: Self::RETRIES,
            create_table: true,
            clock: None,
            dsn,
        };
        let pool = builder.dsn.params.pool.unwrap_or(Self::POOL);
        builder.pool(pool)
    }

    /// Sets the table's name: 1 to 57 letters, digits and `_`; `cloakroom_sessions` by default.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for any other name.
    pub fn table(self, name: &str) -> Result<Self> {
        Ok(MySqlProviderBuilder { table: TableName::new(name).map_err(MySqlError::from)?, ..self })
    }

    /// Sets the greatest number of open connections, 1 to 10,000; 10 by default. Further calls wait for a connection, within their deadline.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for any other number.
    pub fn pool(self, size: usize) -> Result<Self> {
        if (1..=SqlPool::<MySqlConnector>::MAX_SIZE).contains(&size) {
            return Ok(MySqlProviderBuilder { pool: size, ..self });
        }
        let (what, expected) = ("the size of the pool", "1 to 10,000 connections");
        Err(MySqlError::Setting { what, expected, found: size.to_string() }.into())
    }

    /// Sets the time limit for opening a connection; 2 s by default. Zero means no limit.
    pub fn connect_timeout(self, limit: Duration) -> Self {
        MySqlProviderBuilder { connect_timeout: limit, ..self }
    }

    /// Sets the deadline of one call, including the wait for a connection; 2 s by default. Zero means no deadline.
    /// Counts, lists and collections have ten times as long.
    pub fn deadline(self, limit: Duration) -> Self {
        MySqlProviderBuilder { deadline: limit, ..self }
    }

    /// Sets the greatest number of retries of a call, within its deadline; 3 by default.
    ///
    /// A call is retried after a deadlock or a lock wait, which the server has undone. After a lost connection it is retried only if it has
    /// certainly changed nothing (a login before its commit), or if it may run twice: `load`, `touch` and the lists.
    pub fn retries(self, most: usize) -> Self {
        MySqlProviderBuilder { retries: most, ..self }
    }

    /// Sets whether [`connect`](Self::connect) creates a missing table; true by default. An existing table is always checked.
    pub fn create_table(self, make: bool) -> Self {
        MySqlProviderBuilder { create_table: make, ..self }
    }

    /// Sets the clock that deadlines are compared with, for tests; the server's clock by default. It must be the manager's clock.
    pub fn clock(self, clock: Clock) -> Self {
        MySqlProviderBuilder { clock: Some(clock), ..self }
    }

    /// Connects, creates the table if it is missing, and checks it; [`MySqlProvider::connect`] lists the errors.
    pub async fn connect(self) -> Result<MySqlProvider> {
        let connect_timeout = lasting(self.connect_timeout).unwrap_or(Duration::MAX);
        let checks = !self.dsn.params.unchecked;
        let sql = Statements::of(&self.table, &self.dsn.database);
        let store = MySqlStore {
            pool: SqlPool::new(MySqlConnector::new(self.dsn, connect_timeout), self.pool, checks),
            sql,
            clock: self.clock,
            limits: StepLimits::new(self.deadline, self.retries),
            batch: BatchSize::default(),
        };
        let prepared =
            store.within_long_deadline(start::prepare(&store, &self.table, self.create_table)).await;
        let max_packet = prepared.map_err(MySqlError::at_start)?;
        let max_record = size::max_record_for(max_packet).min(store.max_record());
        Ok(MySqlProvider(Arc::new(ProviderState { store, table: self.table, max_record })))
    }

    /// Connects to the database of a Beego application's `mysql` provider, and uses Beego's table. The application may run at the same
    /// time. The table is `session` unless another name is set, and is never changed. A session ends when it was unused for `lifetime`,
    /// which must be the manager's idle timeout.
    ///
    /// A manager built with the builder needs the codec [`Codec::GOB`](crate::config::Codec::GOB), ids in clear and no absolute timeout. A
    /// session of more than 65,535 bytes is refused, since the table's BLOB holds no more.
    ///
    /// # Errors
    /// The errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let connect_timeout = lasting(self.connect_timeout).unwrap_or(Duration::MAX);
        let checks = !self.dsn.params.unchecked;
        let table = if self.table == TableName::default() {
            TableName::new(beego::TABLE).map_err(MySqlError::from)?
        } else {
            self.table
        };
        let clock = self.clock.clone().unwrap_or_default();
        let store = MySqlStore {
            sql: Statements::of(&table, &self.dsn.database),
            pool: SqlPool::new(MySqlConnector::new(self.dsn, connect_timeout), self.pool, checks),
            clock: self.clock,
            limits: StepLimits::new(self.deadline, self.retries),
            batch: BatchSize::default(),
        };
        let rows =
            beego::BeegoRows::open(store, &table, clock, lifetime).await.map_err(MySqlError::at_start)?;
        Ok(AnyProvider::new(Foreign::beego(rows)))
    }
}
