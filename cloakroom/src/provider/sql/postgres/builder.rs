//! The settings of the provider, and the steps from them to open connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "beego")]
use super::beego;
use super::connection::PostgresConnector;
use super::error::PostgresError;
use super::listen::ChangeChannel;
use super::name::{ConfiguredName, TablePair};
use super::settings::{CommitDurability, Settings};
use super::start::{self, Losses};
use super::statements::{self, PostgresStatements, TimeSource};
use super::store::PostgresStore;
use super::{PostgresProvider, PostgresState, old, schema};
use crate::clock::Clock;
use crate::error::Result;
use crate::migration::{OldRecords, OldTable};
#[cfg(feature = "beego")]
use crate::provider::AnyProvider;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;
use crate::provider::sql::batch::BatchSize;
use crate::provider::sql::pool::SqlPool;
use crate::provider::sql::step::StepLimits;
use crate::provider::sql::table::TableName;

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
    #[cfg(feature = "beego")]
    time_zone: Option<Box<str>>,
    notifies: bool,
    clock: Option<Clock>,
}

impl PostgresProviderBuilder {
    const POOL: usize = 10;
    const TIME: Duration = Duration::from_secs(2);
    const RETRIES: usize = 3;

    /// Returns a builder with the values of the connection string.
    pub(super) fn new(text: &str) -> Self {
        PostgresProviderBuilder {
            text: text.into(),
            table: None,
            pool: None,
            connect_timeout: None,
            deadline: None,
            retries: Self::RETRIES,
            create_table: None,
            relaxed: None,
            #[cfg(feature = "beego")]
            time_zone: None,
            notifies: false,
            clock: None,
        }
    }

    /// Returns the settings as `Debug` shows them, or the error that `connect` would report about the connection string. The fuzz target
    /// calls it.
    #[doc(hidden)]
    pub fn check(&self) -> Result<String> {
        let settings = Settings::parse(&self.text).map_err(PostgresError::from)?;
        Ok(format!("{settings:?}"))
    }

    /// Sets the table's name: 1 to 57 letters, digits and `_`; `cloakroom_sessions` by default. `schema.table` names its schema too, which
    /// `search_path` decides otherwise.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, PostgresProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let builder = PostgresProvider::builder("postgres://app@db.internal/app").table("visitors; DROP TABLE users");
    /// assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Config);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn table(self, name: &str) -> Self {
        PostgresProviderBuilder { table: Some(name.into()), ..self }
    }

    /// Sets the greatest number of open connections, 1 to 10,000; 10 by default. Further calls wait for a connection, within their deadline.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, PostgresProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let error = PostgresProvider::builder("postgres://app@db.internal/app").pool(0).connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("expected 1 to 10,000 connections, found 0"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn pool(self, size: usize) -> Self {
        PostgresProviderBuilder { pool: Some(size), ..self }
    }

    /// Sets the time limit for opening a connection to one host; 2 s by default. Zero means no limit.
    ///
    /// ```no_run
    /// use cloakroom::PostgresProvider;
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // A host that does not answer is given up in time to try the next one.
    /// let builder = PostgresProvider::builder("postgres://app@db1.internal,db2.internal/app?target_session_attrs=read-write");
    /// let provider = builder.connect_timeout(Duration::from_millis(700)).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn connect_timeout(self, limit: Duration) -> Self {
        PostgresProviderBuilder { connect_timeout: Some(limit), ..self }
    }

    /// Sets the deadline of one call, including the wait for a connection; 2 s by default. Zero means no deadline.
    /// Counts, lists and collections have ten times as long.
    ///
    /// It should be less than the [manager's deadline](crate::ManagerBuilder::deadline), so that the error names the cause.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, PostgresProvider};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let builder = PostgresProvider::builder("postgres://app@db.internal/app").deadline(Duration::from_millis(800));
    /// let sessions = Manager::builder(builder.connect().await?).deadline(Duration::from_secs(1)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn deadline(self, limit: Duration) -> Self {
        PostgresProviderBuilder { deadline: Some(limit), ..self }
    }

    /// Sets the greatest number of retries of a call, within its deadline; 3 by default.
    ///
    /// A call is retried after a conflict, which the server has undone, and after a refusal: by a standby, or by a server that is not
    /// ready or has no connection left. After a lost connection it is retried only if it may run twice: `load`, `touch` and the lists.
    ///
    /// ```no_run
    /// use cloakroom::PostgresProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // Every conflict and every refusal is an error at once: 503 for the visitor.
    /// let provider = PostgresProvider::builder("postgres://app@db.internal/app").retries(0).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn retries(self, most: usize) -> Self {
        PostgresProviderBuilder { retries: most, ..self }
    }

    /// Sets whether [`connect`](Self::connect) creates missing tables; true by default. Existing ones are always checked.
    ///
    /// A user without the right to create tables needs `false`, and the statements of [`PostgresProvider::schema`] in a migration.
    ///
    /// ```no_run
    /// use cloakroom::PostgresProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = PostgresProvider::builder("postgres://app@db.internal/app").create_table(false).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn create_table(self, make: bool) -> Self {
        PostgresProviderBuilder { create_table: Some(make), ..self }
    }

    /// Sets whether a commit returns before it is on the disk (`synchronous_commit = off`); false by default.
    ///
    /// Changes are then faster on a slow disk. A crash of the server may undo the changes of the last moments, a logout included, and
    /// leaves no record damaged.
    ///
    /// [`Capabilities::durable`](crate::providers::Capabilities::durable) says which of the two holds:
    ///
    /// ```no_run
    /// use cloakroom::{PostgresProvider, Provider};
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = PostgresProvider::builder("postgres://app@db.internal/app").relaxed(true).connect().await?;
    /// assert!(!provider.capabilities().durable);
    /// # Ok(()) }
    /// ```
    pub fn relaxed(self, relaxed: bool) -> Self {
        PostgresProviderBuilder { relaxed: Some(relaxed), ..self }
    }

    /// Sets whether each change of a session tells its key to all who listen (`NOTIFY`), for
    /// `Cached::builder(..).watching()`; false by default. Set it in every process that uses the table.
    ///
    /// Such commits happen one after the other, since the server orders notifications by a lock of the whole server. A site with many changes
    /// a second has a near cache `within` a bound instead.
    ///
    /// ```no_run
    /// # #[cfg(feature = "cached")]
    /// # async fn connect() -> cloakroom::Result<()> {
    /// use cloakroom::{Cached, Manager, PostgresProvider};
    ///
    /// let provider = PostgresProvider::builder("postgres://app@db.internal/app").notify(true).connect().await?;
    /// let sessions = Manager::builder(Cached::builder(provider).watching().await?).build()?;
    /// # Ok(()) }
    /// ```
    pub fn notify(self, notifies: bool) -> Self {
        PostgresProviderBuilder { notifies, ..self }
    }

    /// Sets the clock that deadlines are compared with, for tests; the server's clock by default. It must be the manager's clock.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, ManualClock, PostgresProvider};
    /// use std::time::Duration;
    ///
    /// # async fn test() -> cloakroom::Result<()> {
    /// let time = ManualClock::default();
    /// let provider = PostgresProvider::builder("postgres://test@localhost/test").clock(time.clock()).connect().await?;
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// time.advance(Duration::from_secs(31 * 60));    // every session is now idle for too long
    /// # Ok(()) }
    /// ```
    pub fn clock(self, clock: Clock) -> Self {
        PostgresProviderBuilder { clock: Some(clock), ..self }
    }

    /// Sets the time zone of the Go server for [`connect_beego`](Self::connect_beego), such as `Asia/Shanghai`; the connection's `timezone` by
    /// default.
    ///
    /// ```no_run
    /// use cloakroom::PostgresProvider;
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let builder = PostgresProvider::builder("postgres://app@db.internal/shop").time_zone("Asia/Shanghai");
    /// let provider = builder.connect_beego(Duration::from_secs(3600)).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "beego")]
    pub fn time_zone(self, name: &str) -> Self {
        PostgresProviderBuilder { time_zone: Some(name.into()), ..self }
    }

    /// Connects, creates the tables if they are missing, and checks them.
    ///
    /// Nothing is checked before, so every error of the configuration comes from here. The chapter [PostgreSQL](crate::guide::postgres) lists
    /// the rights that the user needs.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, PostgresProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let error = PostgresProvider::builder("postgres://app:secret@db.internal/app?pool=many").connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(!error.to_string().contains("secret"), "no error shows a password");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The errors of [`PostgresProvider::connect`], and [`Config`](crate::ErrorKind::Config) for an impossible setting of the builder.
    pub async fn connect(self) -> Result<PostgresProvider> {
        let opening = self.parsed(&TableName::default())?;
        let (limits, notifies) = (opening.limits, opening.notifies);
        let opened = limits.within_long_deadline(opening.native()).await;
        let (store, tables, losses) = opened.map_err(PostgresError::at_start)?;
        let settings = || store.pool.connector().settings.clone();
        let channel = notifies.then(|| ChangeChannel::new(settings(), store.sql.lock, limits));
        Ok(PostgresProvider(Arc::new(PostgresState { store, tables, channel, losses })))
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
    /// ```no_run
    /// use cloakroom::{Manager, PostgresProvider, config::Codec};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let hour = Duration::from_secs(3600);
    /// let provider = PostgresProvider::builder("postgres://app@db.internal/shop").connect_beego(hour).await?;
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
    /// The errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing, or the server does not know
    /// the time zone.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let zone = self.time_zone.clone();
        let opening = self.parsed(&TableName::new(beego::TABLE).map_err(PostgresError::from)?)?;
        let (limits, relaxed) = (opening.limits, opening.relaxed);
        let opened = async {
            let (store, tables) = opening.store().await?;
            beego::PostgresBeegoRows::open(store, &tables, relaxed, lifetime, zone).await
        };
        let rows = limits.within_long_deadline(opened).await.map_err(PostgresError::at_start)?;
        Ok(AnyProvider::new(Foreign::beego(rows)))
    }

    /// Connects to the database of another library's sessions, to [move](crate::migration) them. The table must exist, and is never
    /// created. The user needs the rights SELECT and DELETE on it.
    ///
    /// ```no_run
    /// # async fn show() -> cloakroom::Result<()> {
    /// use cloakroom::{PostgresProvider, migration::OldTable};
    ///
    /// let builder = PostgresProvider::builder("postgres://app@localhost/app");
    /// let old = builder.connect_old(OldTable::tower_sessions()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing.
    pub async fn connect_old(self, table: OldTable) -> Result<OldRecords> {
        old::quoted(&table)?;
        let opening = self.parsed(&TableName::default())?;
        let limits = opening.limits;
        let opened = async {
            let (store, _) = opening.store().await?;
            old::PostgresOldRows::open(store, &table).await
        };
        let rows = limits.within_long_deadline(opened).await.map_err(PostgresError::at_start)?;
        Ok(OldRecords::new(rows))
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
            relaxed,
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
    relaxed: bool,
    notifies: bool,
    clock: Option<Clock>,
    pool: SqlPool<PostgresConnector>,
}

impl Opening {
    /// Opens a first connection and writes the statements.
    async fn store(self) -> Result<(PostgresStore, TablePair), PostgresError> {
        let tables = start::tables(&self.pool, &self.name).await?;
        let time = if self.clock.is_some() { TimeSource::Bound } else { TimeSource::Server };
        let store = PostgresStore {
            sql: PostgresStatements::of(&tables, time, statements::durability(self.relaxed), self.notifies),
            pool: self.pool,
            clock: self.clock,
            limits: self.limits,
            batch: BatchSize::default(),
        };
        Ok((store, tables))
    }

    /// Opens a store of native records. Creates and checks its tables. Returns the failures that may undo answered changes, too.
    async fn native(self) -> Result<(PostgresStore, TablePair, Losses), PostgresError> {
        let (make, relaxed) = (self.create_table, self.relaxed);
        let (store, tables) = self.store().await?;
        let mut connection = store.connection().await?;
        let unlogged = schema::prepare(&mut connection, &tables, store.sql.lock, make).await?;
        if let Some(facts) = connection.facts() {
            start::warn_about_server(facts, store.clock.is_some());
        }
        drop(connection);
        Ok((store, tables, start::losses(unlogged, relaxed)))
    }
}
