//! The MySQL provider: sessions in a table of MariaDB or MySQL.
//!
//! | file | part |
//! |---|---|
//! | `dsn/`, `builder.rs` | the data source name, and the settings |
//! | `start.rs`, `schema.rs`, `form.rs` | creates the tables, or checks existing ones |
//! | `session.rs`, `variables.rs` | sets the variables of a connection that promises depend on, and reads them back |
//! | `connection.rs`, `bound.rs` | sends statements, and reads each reply to its end |
//! | `statements.rs`, `store.rs`, `rename.rs`, `list.rs`, `collect.rs` | the methods of the contract |
//! | `size.rs` | the largest record, which `max_allowed_packet` limits |
//! | `error.rs` | the server's errors by number, each with a cause and a cure |
//! | `beego.rs` | the table of Beego's provider |
//!
//! A read is one prepared `SELECT`. A change is one more statement, whose `WHERE` compares the version, or a transaction if the
//! index rows change.
//!
//! # Statements and transactions
//!
//! Most commits leave the user and the labels of a session as they are. Such a change is one `UPDATE` in autocommit mode, one round
//! trip. The table shows when a step needs more.
//!
//! | step | one statement | transaction |
//! |---|---|---|
//! | `create` | a record without user and labels | `INSERT` of the record, then of its index rows |
//! | `update` | the index rows stay the same | `UPDATE`, `DELETE` and `INSERT` of index rows |
//! | `touch` | always | never |
//! | `rename` without tombstone | neither record has index rows | `UPDATE` of the key, then both sets of index rows |
//! | `rename` with tombstone | never | `UPDATE` of the old row to the tombstone, then `INSERT` of the new one |
//! | `delete` | always: a `DELETE` of two tables | never |
//!
//! MySQL has no `RETURNING` for an `UPDATE`, so the number of matched rows is the outcome. If it is 0, a second statement reads the
//! version: none is *gone*, another one is *stale*. If it equals the expected one, the row appeared between the two statements, and the
//! step begins again, at most four times. Then the error is `Contended`.
//!
//! `INSERT` fails with a duplicate key if the key is taken, even by an expired record. The step then deletes the record if it has
//! expired, and inserts once more.
//!
//! # Requests that run at the same time
//!
//! Connections use READ COMMITTED. The default, REPEATABLE READ, locks gaps between index entries: a collection would then hold up
//! logins that insert beside its rows. A change waits at most 1 s for a lock (`innodb_lock_wait_timeout`). A named lock of the server
//! keeps a second node from collecting.
//!
//! # Failures
//!
//! | failure | effect |
//! |---|---|
//! | deadlock, lock wait timeout | the server has undone the step, which is repeated after a random pause |
//! | connection lost inside a transaction, before its commit was sent | the server rolls back, so the step is repeated at once |
//! | connection lost otherwise | a load or touch is repeated; a change is not, since it may have been made: the caller gets `Unavailable` |
//! | the caller gives up | the connection is closed, since a reply is pending on it; the server rolls back what was not committed |
//! | the server has no room for a prepared statement | the connection sends statements with their values as hexadecimal, for a minute |
//! | a variable was not set as wanted | the connection is refused: a promise depends on it |

#[cfg(feature = "beego")]
mod beego;
mod bound;
mod builder;
mod collect;
mod connection;
mod dsn;
mod error;
mod form;
mod list;
mod old;
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
use std::time::SystemTime;

use super::row::{StoredRow, millis};
use super::table::TableName;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::record::{IndexEntry, Record};

pub use builder::MySqlProviderBuilder;

use error::MySqlError;
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
    pub async fn connect(dsn: impl AsRef<str>) -> Result<MySqlProvider> {
        MySqlProvider::builder(dsn).connect().await
    }

    /// Returns a builder, to change the settings before connecting. `dsn` is as in [`connect`](Self::connect).
    ///
    /// ```no_run
    /// use cloakroom::MySqlProvider;
    /// use std::time::Duration;
    ///
    /// # async fn start() -> cloakroom::Result<()> {
    /// let provider = MySqlProvider::builder("app:secret@unix(/run/mysqld/mysqld.sock)/app")
    ///     .table("visitors")
    ///     .pool(20)
    ///     .deadline(Duration::from_millis(500))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// An invalid `dsn` is an error of [`MySqlProviderBuilder::connect`].
    pub fn builder(dsn: impl AsRef<str>) -> MySqlProviderBuilder {
        MySqlProviderBuilder::from_dsn(dsn.as_ref())
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
            ..Capabilities::new("mysql").with_clock(self.0.store.clock.clone().unwrap_or_default())
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
    let builder = MySqlProvider::builder(config.provider_config());
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
