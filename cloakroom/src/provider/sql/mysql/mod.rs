//! Sessions in a table of MariaDB or MySQL.

mod batch;
#[cfg(feature = "beego")]
mod beego;
mod bound;
mod collect;
mod dsn;
mod error;
mod form;
mod link;
mod list;
mod schema;
mod session;
mod start;
mod statements;
mod store;
mod variables;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pool::Pool;
use super::row::millis;
use super::table::TableName;
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::record::Record;

use dsn::Dsn;
use error::MySqlError;
use link::Server;
use statements::Statements;
use store::{Store, Stored};

/// Sessions in a table of MariaDB (10.6 and later) or MySQL (8.0 and later), which any number of machines may share.
///
/// `docs/mysql.md` has the settings, the table, the privileges it takes and what each operation costs.
///
/// - **One prepared statement a read, one more for a change.** Compare and swap is the `WHERE` of an `UPDATE`; nothing is ever
///   inserted and updated at once.
/// - **The server's clock counts,** so that machines whose clocks differ agree on what has expired.
/// - **A connection whose call was cancelled, timed out or failed is closed,** and no other call ever sees its reply.
/// - **The server's settings count for nothing** where a promise depends on them: each connection sets them and reads them back.
/// - **Nothing is cut:** strict mode is among those settings, and a record that the server would not take is an error before it is sent.
/// - **Several runtimes may share it:** a connection serves the one that made it.
/// - **Credentials** are in no error, no log and no `Debug`.
///
/// It needs a [tokio](https://docs.rs/tokio) runtime with I/O and time enabled. A clone is a handle on the same connections.
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
pub struct MySqlProvider(Arc<Inner>);

struct Inner {
    store: Store,
    table: TableName,
    max_record: usize,
}

impl MySqlProvider {
    /// Connects to the database that `dsn` names, and makes the table `cloakroom_sessions` if it is missing.
    ///
    /// `dsn` is go-sql-driver's `[user[:password]@][net[(addr)]]/dbname[?param1=value1&..]`, or a `mysql://` URL.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config) for a `dsn` that cannot be read, a login that the server refuses, a server that is
    /// too old, a right that the user lacks, and a table of that name but another form, with the statement that mends it; of kind [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) where there is no server.
    pub async fn connect(dsn: &str) -> Result<MySqlProvider> {
        MySqlProvider::builder(dsn)?.connect().await
    }

    /// Begins a provider for the database that `dsn` names with other settings than the defaults.
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
    /// Of kind [`Config`](crate::ErrorKind::Config); no text shows a piece of `dsn`.
    pub fn builder(dsn: &str) -> Result<MySqlProviderBuilder> {
        MySqlProviderBuilder::new(dsn)
    }

    /// The statement that makes the table `name`, for those who run migrations themselves.
    ///
    /// ```
    /// use cloakroom::MySqlProvider;
    ///
    /// let statement = MySqlProvider::schema("cloakroom_sessions")?;
    /// assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS `cloakroom_sessions`"));
    /// assert!(MySqlProvider::schema("no`name").is_err());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config) if `name` is not 1 to 60 letters, digits and `_`.
    pub fn schema(name: &str) -> Result<String> {
        Ok(schema::create(&TableName::new(name).map_err(MySqlError::from)?))
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
        Ok(store.in_time(store.undone(|| store.create(key, record))).await?)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let store = &self.0.store;
        let Some(stored) = store.in_time(store.idempotent(|| store.load(key))).await? else {
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

    async fn update(&self, key: &StoreKey, record: &Record, expected: u64) -> Result<Updated> {
        let store = &self.0.store;
        Ok(store.in_time(store.undone(|| store.update(key, record, expected))).await?)
    }

    async fn touch(
        &self,
        key: &StoreKey,
        at: SystemTime,
        deadline: SystemTime,
        expected: u64,
    ) -> Result<Touched> {
        let store = &self.0.store;
        let (at, deadline) = (millis(at), millis(deadline));
        Ok(store.in_time(store.idempotent(|| store.touch(key, at, deadline, expected))).await?)
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
        let renamed = store.undone(|| store.rename((old, new), record, expected, tombstone));
        Ok(store.in_time(renamed).await?)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let store = &self.0.store;
        Ok(store.in_time(store.undone(|| store.delete(key))).await?)
    }

    async fn count(&self) -> Result<u64> {
        let store = &self.0.store;
        Ok(store.in_long_time(store.idempotent(|| store.count())).await?)
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        let store = &self.0.store;
        Ok(store.in_long_time(store.undone(|| store.collect(limit))).await?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let store = &self.0.store;
        Ok(store.in_long_time(store.idempotent(|| store.scan(cursor.as_ref(), limit))).await?)
    }

    async fn of_principal(
        &self,
        principal: &Principal,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        if limit == 0 {
            return Ok(Page { entries: Vec::new(), next: cursor });
        }
        let store = &self.0.store;
        let user = principal.as_str();
        let page = store.idempotent(|| store.of_principal(user, cursor.as_ref(), limit));
        Ok(store.in_long_time(page).await?)
    }
}

impl MySqlProvider {
    /// Puts a record aside that cannot be read, so that the visitor starts afresh after one error.
    async fn put_aside(&self, key: &StoreKey, stored: &Stored) {
        let store = &self.0.store;
        let aside = store.idempotent(|| store.put_aside(key, stored.bytes()));
        match store.in_time(aside).await {
            Ok(true) => tracing::warn!(
                table = %self.0.table,
                "a session that cannot be read was put aside for a week, under an id that begins with !"
            ),
            // Somebody has changed it meanwhile, or has put it aside.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a session that cannot be read could not be put aside"),
        }
    }
}

/// The provider that a configuration text names "mysql"; `providerConfig` is its data source name.
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    let builder = MySqlProvider::builder(config.provider_config())?;
    match config.format() {
        Format::Native => builder.connect().await.map(AnyProvider::new),
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()).await,
        #[allow(unreachable_patterns, reason = "the other formats are a feature")]
        other => {
            let (what, expected) = ("format", "native or beego");
            Err(MySqlError::Setting { what, expected, found: other.to_string() }.into())
        }
    }
}

/// The settings of a [`MySqlProvider`]; begun by [`MySqlProvider::builder`]. What the data source name says is the default of each.
#[derive(Clone, Debug)]
#[must_use = "nothing is connected before `connect`"]
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
            // An exchange is a write and a read; the driver bounds each of them, this provider the whole.
            deadline: params.read.max(params.write).unwrap_or(Self::TIME),
            retries: Self::RETRIES,
            create_table: true,
            clock: None,
            dsn,
        };
        let pool = builder.dsn.params.pool.unwrap_or(Self::POOL);
        builder.pool(pool)
    }

    /// The table's name: 1 to 60 letters, digits and `_`; `cloakroom_sessions` if not set.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config) for another name.
    pub fn table(self, name: &str) -> Result<Self> {
        Ok(MySqlProviderBuilder { table: TableName::new(name).map_err(MySqlError::from)?, ..self })
    }

    /// The most connections at a time, 1 to 10,000; 10 if not set. Calls beyond wait for one, within their deadline.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config) for another number.
    pub fn pool(self, size: usize) -> Result<Self> {
        match (1..=Pool::<Server>::MOST).contains(&size) {
            true => Ok(MySqlProviderBuilder { pool: size, ..self }),
            false => Err(MySqlError::Setting {
                what: "the size of the pool",
                expected: "1 to 10,000 connections",
                found: size.to_string(),
            }
            .into()),
        }
    }

    /// How long making a connection may take; 2 s if not set, zero for as long as it takes.
    pub fn connect_timeout(self, limit: Duration) -> Self {
        MySqlProviderBuilder { connect_timeout: limit, ..self }
    }

    /// How long one call may take, with waiting for a connection and making one; 2 s if not set, zero for as long as it takes.
    /// Counting, walking and collecting are allowed ten times as long.
    pub fn deadline(self, limit: Duration) -> Self {
        MySqlProviderBuilder { deadline: limit, ..self }
    }

    /// How often a call is tried again within its deadline; 3 if not set. What the server undid (a deadlock, a lock that was not to be had) is;
    /// where the connection was lost, only what was surely not done (a login before its commit) or may be done twice is: `load`, `touch` and the
    /// lists.
    pub fn retries(self, most: usize) -> Self {
        MySqlProviderBuilder { retries: most, ..self }
    }

    /// Whether a missing table is made; it is if not set. One that is there is checked in any case.
    pub fn create_table(self, make: bool) -> Self {
        MySqlProviderBuilder { create_table: make, ..self }
    }

    /// Compares deadlines with this clock, which must be the manager's, and not with the server's: for tests.
    pub fn clock(self, clock: Clock) -> Self {
        MySqlProviderBuilder { clock: Some(clock), ..self }
    }

    /// Connects once, makes the table if it is missing, and checks it; [`MySqlProvider::connect`] lists the errors.
    pub async fn connect(self) -> Result<MySqlProvider> {
        let lasting = |limit: Duration| Some(limit).filter(|limit| !limit.is_zero());
        let connect_timeout = lasting(self.connect_timeout).unwrap_or(Duration::MAX);
        let checks = !self.dsn.params.unchecked;
        let sql = Statements::of(&self.table, &self.dsn.database);
        let store = Store {
            pool: Pool::new(Server::new(self.dsn, connect_timeout), self.pool, checks),
            sql,
            clock: self.clock,
            deadline: lasting(self.deadline),
            retries: self.retries,
            batch: batch::Batch::default(),
        };
        let prepared = store.in_long_time(start::prepare(&store, &self.table, self.create_table)).await;
        let max_packet = prepared.map_err(MySqlError::at_start)?;
        let max_record = store::most_of(max_packet).min(store.most());
        Ok(MySqlProvider(Arc::new(Inner { store, table: self.table, max_record })))
    }

    /// Connects to the database of a Beego service's `mysql` provider: sessions in its table, which it reads and changes at the same
    /// time. The table is `session`, unless another name is set, and is used as it is. A session unused for `lifetime` has ended; that
    /// must be the manager's idle timeout.
    ///
    /// For a manager that is built by hand the settings are [`Codec::GOB`](crate::config::Codec::GOB), ids in clear, and no absolute timeout. A
    /// session of more than 65,535 bytes is refused, since the table's BLOB holds no more.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) where there is no such table.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let lasting = |limit: Duration| Some(limit).filter(|limit| !limit.is_zero());
        let connect_timeout = lasting(self.connect_timeout).unwrap_or(Duration::MAX);
        let checks = !self.dsn.params.unchecked;
        let table = match self.table == TableName::default() {
            true => TableName::new(beego::TABLE).map_err(MySqlError::from)?,
            false => self.table,
        };
        let clock = self.clock.clone().unwrap_or_default();
        let store = Store {
            sql: Statements::of(&table, &self.dsn.database),
            pool: Pool::new(Server::new(self.dsn, connect_timeout), self.pool, checks),
            clock: self.clock,
            deadline: lasting(self.deadline),
            retries: self.retries,
            batch: batch::Batch::default(),
        };
        let rows = beego::Rows::open(store, &table, clock, lifetime).await.map_err(MySqlError::at_start)?;
        Ok(AnyProvider::new(Foreign::beego(rows)))
    }
}
