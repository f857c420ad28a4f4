//! The builder of a [`MySqlProvider`].

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "beego")]
use super::beego::{self, BeegoRows};
use super::connection::MySqlConnector;
use super::dsn::{Dsn, DsnError};
use super::error::MySqlError;
use super::statements::Statements;
use super::store::MySqlStore;
use super::{MySqlProvider, ProviderState, old, size, start};
use crate::clock::Clock;
use crate::error::Result;
use crate::migration::{OldRecords, OldTable};
#[cfg(feature = "beego")]
use crate::provider::AnyProvider;
#[cfg(feature = "beego")]
use crate::provider::foreign::Foreign;
use crate::provider::sql::batch::BatchSize;
use crate::provider::sql::pool::SqlPool;
use crate::provider::sql::step::{StepLimits, lasting};
use crate::provider::sql::table::TableName;

/// Sets up and connects a [`MySqlProvider`]. [`MySqlProvider::builder`] returns one.
///
/// The data source name gives the initial values, and each method replaces one. All errors of settings are reported by
/// [`connect`](Self::connect). `Debug` shows no credentials.
///
/// ```no_run
/// use cloakroom::MySqlProvider;
/// use std::time::Duration;
///
/// # async fn connect() -> cloakroom::Result<()> {
/// let provider = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app?tls=true")
///     .table("visitors")
///     .pool(20)
///     .deadline(Duration::from_millis(500))
///     .create_table(false)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `connect` is called"]
pub struct MySqlProviderBuilder {
    settings: Result<MySqlSettings, DsnError>,
    clock: Option<Clock>,
}

/// The settings as they were given. [`MySqlSettings::check`] finds those that cannot work.
#[derive(Clone, Debug)]
struct MySqlSettings {
    dsn: Dsn,
    /// The name of the table; none stands for the default of the format.
    table: Option<Box<str>>,
    pool: usize,
    connect_timeout: Duration,
    deadline: Duration,
    retries: usize,
    create_table: bool,
}

impl MySqlProviderBuilder {
    pub(super) fn from_dsn(text: &str) -> Self {
        MySqlProviderBuilder { settings: Dsn::parse(text).map(MySqlSettings::new), clock: None }
    }

    /// Sets the table's name: 1 to 57 letters, digits and `_`, not beginning with a digit. Default: `cloakroom_sessions`.
    ///
    /// The second table, which finds sessions by user and label, has this name with `_index` at its end.
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").table("visitors").connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn table(self, name: &str) -> Self {
        self.set(|settings| settings.table = Some(name.into()))
    }

    /// Sets the largest number of open connections. 1 to 10,000; default: 10.
    ///
    /// A connection serves one call at a time. Further calls wait for a free one, within their deadline.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, MySqlProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let builder = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").pool(0);
    /// let error = builder.connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("expected 1 to 10,000 connections, found 0"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn pool(self, connections: usize) -> Self {
        self.set(|settings| settings.pool = connections)
    }

    /// Sets the longest that opening a connection may take, including TLS and the login. Zero means no limit. Default: 2 s.
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // The server is in another region.
    /// let builder = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").connect_timeout(Duration::from_secs(5));
    /// let provider = builder.deadline(Duration::from_secs(6)).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.set(|settings| settings.connect_timeout = limit)
    }

    /// Sets the longest that one call may take, including its retries and the wait for a connection. Zero means no limit. Default: 2 s.
    ///
    /// It should be less than the manager's deadline. Counts, lists and collections have ten times as long.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, MySqlProvider};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let builder = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").deadline(Duration::from_millis(800));
    /// let sessions = Manager::builder(builder.connect().await?).deadline(Duration::from_secs(1)).build()?;
    /// # Ok(()) }
    /// ```
    pub fn deadline(self, limit: Duration) -> Self {
        self.set(|settings| settings.deadline = limit)
    }

    /// Sets how often a failed call is retried, within its deadline. Default: 3.
    ///
    /// A call is retried after a deadlock or a lock wait, which the server has undone. After a lost connection it is retried only if it has
    /// certainly changed nothing (a login before its commit), or if it may run twice: `load`, `touch` and the lists.
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// // Every deadlock and every lost connection is an error at once: 503 for the visitor.
    /// let provider = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").retries(0).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn retries(self, most: usize) -> Self {
        self.set(|settings| settings.retries = most)
    }

    /// Sets whether [`connect`](Self::connect) creates a missing table. An existing table is always checked. Default: true.
    ///
    /// A user without the right to create tables needs `false`, and the statements of [`MySqlProvider::schema`] in a migration.
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let provider = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/app").create_table(false).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn create_table(self, create: bool) -> Self {
        self.set(|settings| settings.create_table = create)
    }

    /// Sets the clock that deadlines are compared with, for tests. It must be the manager's clock. Default: the server's.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, ManualClock, MySqlProvider};
    /// use std::time::Duration;
    ///
    /// # async fn test() -> cloakroom::Result<()> {
    /// let time = ManualClock::default();
    /// let provider = MySqlProvider::builder("test:test@tcp(127.0.0.1:3306)/test").clock(time.clock()).connect().await?;
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// time.advance(Duration::from_secs(31 * 60));    // every session is now idle for too long
    /// # Ok(()) }
    /// ```
    pub fn clock(self, clock: Clock) -> Self {
        MySqlProviderBuilder { clock: Some(clock), ..self }
    }

    /// Connects, creates the table if it is missing, and checks it.
    ///
    /// Nothing is checked before, so every error of the configuration comes from here. The chapter [MySQL](crate::guide::mysql) lists the
    /// rights that the user needs.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, MySqlProvider};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let error = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/").connect().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// assert!(error.to_string().contains("expected a database, found none"));
    /// assert!(!error.to_string().contains("secret"), "no error shows a password");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Returns an error of kind
    /// - [`Config`](crate::ErrorKind::Config) for an invalid data source name, an impossible setting, a refused login, a server that is too
    ///   old, a missing right, or an existing table of another form;
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if it cannot connect;
    /// - [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer in time.
    pub async fn connect(self) -> Result<MySqlProvider> {
        let settings = self.settings.map_err(MySqlError::from)?;
        settings.check()?;
        let table = settings.table_or(TableName::default())?;
        let create_table = settings.create_table;
        let store = settings.store(&table, self.clock);
        let prepared = store.within_long_deadline(start::prepare(&store, &table, create_table)).await;
        let max_packet = prepared.map_err(MySqlError::at_start)?;
        let max_record = size::max_record_for(max_packet).min(store.max_record());
        Ok(MySqlProvider(Arc::new(ProviderState { store, table, max_record })))
    }

    /// Connects to the database of a Beego application's `mysql` provider, and uses Beego's table. The application may run at the same
    /// time. The table is `session` unless another name is set, and is never changed. A session ends when it was unused for `lifetime`,
    /// which must be the manager's idle timeout.
    ///
    /// A manager built with the builder needs the codec [`Codec::GOB`](crate::config::Codec::GOB), ids in clear and no absolute timeout. A
    /// session of more than 65,535 bytes is refused, since the table's BLOB holds no more.
    ///
    /// ```no_run
    /// use cloakroom::{Manager, MySqlProvider, config::{Codec, HashFunc}};
    /// use std::time::Duration;
    ///
    /// # async fn connect() -> cloakroom::Result<()> {
    /// let hour = Duration::from_secs(3600);
    /// let provider = MySqlProvider::builder("app:secret@tcp(db.internal:3306)/shop").connect_beego(hour).await?;
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
    /// Returns the errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing.
    #[cfg(feature = "beego")]
    pub async fn connect_beego(self, lifetime: Duration) -> Result<AnyProvider> {
        let settings = self.settings.map_err(MySqlError::from)?;
        settings.check()?;
        let table = settings.table_or(TableName::new(beego::TABLE).map_err(MySqlError::from)?)?;
        let clock = self.clock.clone().unwrap_or_default();
        let store = settings.store(&table, self.clock);
        let rows = BeegoRows::open(store, &table, clock, lifetime).await.map_err(MySqlError::at_start)?;
        Ok(AnyProvider::new(Foreign::beego(rows)))
    }

    /// Connects to the database of another library's sessions, to [move](crate::migration) them. The table must exist, and is never
    /// created. The user needs the rights SELECT and DELETE on it.
    ///
    /// ```no_run
    /// # async fn show() -> cloakroom::Result<()> {
    /// use cloakroom::{MySqlProvider, migration::OldTable};
    ///
    /// let builder = MySqlProvider::builder("app:secret@tcp(127.0.0.1:3306)/app");
    /// let old = builder.connect_old(OldTable::tower_sessions()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`connect`](Self::connect), and [`Config`](crate::ErrorKind::Config) if the table is missing.
    pub async fn connect_old(self, table: OldTable) -> Result<OldRecords> {
        let settings = self.settings.map_err(MySqlError::from)?;
        settings.check()?;
        old::quoted(&table)?;
        let store = settings.store(&TableName::default(), self.clock);
        let limits = store.limits;
        let opened = limits.within_long_deadline(old::MySqlOldRows::open(store, &table)).await;
        Ok(OldRecords::new(opened.map_err(MySqlError::at_start)?))
    }

    /// Returns the error that `connect` would report before it opens a connection. The fuzz target of data source names calls it.
    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        let settings = self.settings.as_ref().map_err(|error| MySqlError::from(error.clone()))?;
        Ok(settings.check()?)
    }

    fn set(mut self, change: impl FnOnce(&mut MySqlSettings)) -> Self {
        if let Ok(settings) = &mut self.settings {
            change(settings);
        }
        self
    }
}

impl MySqlSettings {
    const POOL: usize = 10;
    const TIME: Duration = Duration::from_secs(2);
    const RETRIES: usize = 3;

    fn new(dsn: Dsn) -> Self {
        let params = &dsn.params;
        MySqlSettings {
            table: params.table.clone(),
            pool: params.pool.unwrap_or(Self::POOL),
            connect_timeout: params.connect.unwrap_or(Self::TIME),
            // Go's driver bounds each write and each read. This provider bounds the whole call, by the greater of the two.
            deadline: params.read.max(params.write).unwrap_or(Self::TIME),
            retries: Self::RETRIES,
            create_table: true,
            dsn,
        }
    }

    /// Returns an error if the settings cannot work.
    fn check(&self) -> Result<(), MySqlError> {
        if self.dsn.database.is_empty() {
            return Err(MySqlError::NoDatabase);
        }
        if !(1..=SqlPool::<MySqlConnector>::MAX_SIZE).contains(&self.pool) {
            let (what, expected) = ("the size of the pool", "1 to 10,000 connections");
            return Err(MySqlError::Setting { what, expected, found: self.pool.to_string() });
        }
        self.table_or(TableName::default()).map(drop)
    }

    fn table_or(&self, default: TableName) -> Result<TableName, MySqlError> {
        match &self.table {
            Some(name) => Ok(TableName::new(name)?),
            None => Ok(default),
        }
    }

    fn store(self, table: &TableName, clock: Option<Clock>) -> MySqlStore {
        let connect_timeout = lasting(self.connect_timeout).unwrap_or(Duration::MAX);
        let checks = !self.dsn.params.unchecked;
        MySqlStore {
            sql: Statements::of(table, &self.dsn.database),
            pool: SqlPool::new(MySqlConnector::new(self.dsn, connect_timeout), self.pool, checks),
            clock,
            limits: StepLimits::new(self.deadline, self.retries),
            batch: BatchSize::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const DSN: &str = "us3r:hunter2@tcp(127.0.0.1:1)/app";

    /// Returns the kind and the text of the error that `connect` reports. No server listens on port 1.
    async fn refused(builder: MySqlProviderBuilder) -> (ErrorKind, String) {
        let checked = builder.check().unwrap_err().to_string();
        let error = builder.connect().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(checked, text, "the check and connect differ");
        let reason = text.strip_prefix("the session configuration cannot work: ").expect("the kind");
        (error.kind(), reason.to_owned())
    }

    #[tokio::test]
    async fn connect_reports_every_impossible_setting() {
        let table = "the table's name: expected 1 to 57 letters, digits and _ that do not begin with a digit, found another name";
        let pool = |found| format!("the size of the pool: expected 1 to 10,000 connections, found {found}");
        for (builder, text) in [
            (MySqlProvider::builder(DSN).table("no`name"), table.to_owned()),
            (MySqlProvider::builder(DSN.to_owned() + "?table=1st"), table.to_owned()),
            (MySqlProvider::builder(DSN).pool(0), pool(0)),
            (MySqlProvider::builder(DSN).pool(10_001), pool(10_001)),
            (MySqlProvider::builder(DSN.to_owned() + "?pool=10001"), pool(10_001)),
            (
                MySqlProvider::builder(DSN.replace("/app", "/")),
                "the data source name: expected a database, found none; write /dbname at its end".to_owned(),
            ),
        ] {
            assert_eq!(refused(builder).await, (ErrorKind::Config, text));
        }
    }

    #[tokio::test]
    async fn an_invalid_name_is_reported_whatever_is_set_after_it() {
        let builder = MySqlProvider::builder("us3r:hunter2@carrier-pigeon(x)/app");
        let set = builder.clone().table("visitors").pool(0).deadline(Duration::ZERO).retries(1);
        let text = "the data source name: expected tcp or unix before the address, found another protocol; \
                    write tcp(host:3306) or unix(path)";
        assert_eq!(refused(builder).await, (ErrorKind::Config, text.to_owned()));
        assert_eq!(refused(set).await, (ErrorKind::Config, text.to_owned()));
    }

    #[test]
    fn a_later_setting_replaces_an_impossible_one() {
        let builder =
            MySqlProvider::builder(DSN.to_owned() + "?pool=10001&table=1st").pool(4).table("visitors");
        assert!(matches!(builder.check(), Ok(())), "{:?}", builder.check());
        let settings = builder.settings.unwrap();
        assert_eq!((settings.pool, settings.table.as_deref()), (4, Some("visitors")));
    }

    #[test]
    fn debug_shows_settings_and_no_credentials() {
        let shown = format!("{:?}", MySqlProvider::builder(DSN).pool(7));
        assert!(shown.contains("pool: 7") && shown.contains("127.0.0.1"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("us3r"), "{shown}");
    }
}
