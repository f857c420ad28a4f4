//! The SQLite provider: sessions in one file that many processes may share.
//!
//! | file | part |
//! |---|---|
//! | `address.rs`, `place.rs` | the path and its parameters; the file on the disk, private to its owner and recognized again |
//! | `schema.rs`, `form.rs` | creates the tables, or checks existing ones |
//! | `connection.rs` | opens a connection, sets its pragmas, and reads them back |
//! | `statements.rs`, `steps.rs` | the SQL, and the changes of the contract as steps of a transaction |
//! | `writer.rs`, `change.rs`, `database.rs` | the thread that writes, its queue, and the database that it holds open |
//! | `readers.rs`, `list.rs` | the connections that read, and the reads of the contract |
//! | `reserve.rs` | room that is given up when the disk is full |
//! | `store.rs`, `wait.rs`, `value.rs` | the thread and the time limit of each call; numbers as SQLite stores them |
//! | `error.rs` | errors with a cause and a cure |
//!
//! # A session in the file
//!
//! One row of the main table is one key. `record` holds the whole session in the native format. The other columns repeat a few of its
//! numbers, so that a statement can compare them without decoding.
//!
//! | column | statement that needs it |
//! |---|---|
//! | `version` | `update`, `rename`: the `WHERE` compares it, so that the second of two requests changes no row |
//! | `expires` | every statement: a row whose deadline is over counts as absent, before anybody deletes it |
//! | `absolute`, `idle` | `touch`: computes the next deadline from the stored session, without its record |
//! | `touched` | `touch`: writes the use here, since the record must not change; a load takes the later of both |
//! | `tombstone` | `count`, `scan`, `indexed` and changes: leave out ids that have ended |
//!
//! A second table has a row for each index entry (user or label) of a session. Rows of both tables change in the same transaction, so a
//! list never misses a session that is stored. A row that leads to no live session is possible after a restore, and is skipped.
//!
//! # Writes
//!
//! Each provider has one thread with the one connection that writes. SQLite allows one writer at a time anyway, so a second
//! connection would only wait for the first.
//!
//! 1. A call puts a [`PendingChange`](change::PendingChange) into the queue and awaits its answer.
//! 2. The thread takes what waits, up to 256 changes, and begins one transaction (`BEGIN IMMEDIATE`).
//! 3. Each change runs in a savepoint. If it fails, `ROLLBACK TO` undoes this change alone.
//! 4. After the commit, the thread looks whether the database and its log are still the files in their places. If not, each caller
//!    gets an error: a commit to a removed file is lost.
//! 5. The thread sends the answers.
//!
//! So the cost of a commit is shared by all changes that wait at the same time, and no answer is sent before its commit.
//!
//! | failure | effect |
//! |---|---|
//! | one change fails | its caller gets the error; the other changes of the group are committed |
//! | SQLite rolls back the whole transaction | each change runs again in a transaction of its own, so that only the cause fails |
//! | the commit fails | every caller of the group gets the error, and nothing is stored |
//! | another process holds the lock | the thread tries again every 2 ms; changes whose deadline is over leave, newcomers join |
//! | a caller has gone before its change begins | the change is left out |
//! | a caller has gone later | the change is committed, and its answer dropped |
//! | the file was removed or replaced | the connections are closed without touching the log, and the next change opens the file that is there |
//! | the thread panics | the group gets an error, and the next change opens the database again |
//!
//! # Reads
//!
//! A load first tries an idle connection on the caller's thread ([`try_here`](readers::ReadPool::try_here)). It gives up if the read
//! might wait for the disk, and repeats the read on a thread that may block. WAL mode gives each read a snapshot, so it never waits
//! for the writer. Counts and lists have two permits of their own, since they are long and must not hold up loads.
//!
//! A reader opens only the files that the connection which writes has open: all connections of a process to one database share the
//! memory that describes its log. If a file was replaced, the read is *moved*: the thread that writes opens the new files, and the
//! read runs again.
//!
//! # The log, and a full disk
//!
//! SQLite writes changes to a log (`-wal`) and copies them into the database in checkpoints. Under constant reads there is never a
//! moment without a reader, and the log would grow for ever. So above 16 MiB the thread waits up to 50 ms for such a moment, and cuts
//! the log.
//!
//! A file of 6 MiB beside the database (`-reserve`) holds room. When a write fails because the disk is full, the thread removes this
//! file. From then on, until the room can be taken again, only changes that make nothing longer are run: a delete or a collection.
//! So users can still log out.

mod address;
mod change;
mod connection;
mod database;
mod error;
mod form;
mod list;
mod old;
mod place;
mod readers;
mod reserve;
mod schema;
mod statements;
mod steps;
mod store;
mod value;
mod wait;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::batch::BatchSize;
use super::row::{StoredRow, millis};
use super::step::lasting;
use super::table::TableName;
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::migration::{OldRecords, OldTable};
use crate::provider::durability::Durability;
use crate::provider::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::record::{IndexEntry, Record};

use address::Address;
use database::DatabaseSettings;
use error::SqliteError;
use place::DatabasePlace;
use statements::SqliteStatements;
use store::SqliteStore;
use writer::Writer;

/// A provider that keeps sessions in a file of SQLite.
///
/// Any number of processes on one machine may share the file. [The guide](crate::guide::sqlite) lists the settings, the columns and the cost of
/// each operation.
///
/// - **Changes that wait at the same time share a transaction.** One thread writes. Each change has a savepoint, so that its failure undoes
///   no other, and each answer leaves after the commit.
/// - **A read never waits for a writer.** It runs on the caller's thread while the file is in memory, and otherwise on a thread that may
///   block.
/// - **A wait for another process's lock blocks no async worker** and ends with the deadline of the call.
/// - **Other users cannot plant a session.** The file has mode 0600 in a folder of mode 0700. A symbolic link, a foreign owner and a file that
///   others may write to are refused.
/// - **A change to a file that was removed or replaced is an error,** not an acknowledged loss. The next call opens the file that is there
///   now or creates one.
/// - **[`Durability`] says what a power failure may undo.** A killed process loses nothing in either mode.
///
/// The provider needs a [tokio](https://docs.rs/tokio) runtime with time enabled. Several runtimes may share it. A clone is a handle on the
/// same connections, and the threads end with the last handle. After a `fork` without `exec` the child must not use the provider.
///
/// ```
/// use cloakroom::{Manager, SqliteProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data/sessions.db");
/// let provider = SqliteProvider::connect(&path).await?;
/// let sessions = Manager::builder(provider).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteProvider(Arc<SqliteState>);

struct SqliteState {
    store: SqliteStore,
    path: PathBuf,
    table: TableName,
    durability: Durability,
}

impl SqliteProvider {
    /// Opens the database at `path`. A missing file, its folder and the table `cloakroom_sessions` are created.
    ///
    /// `path` is a path, `sqlite:path?param=value`, or a `file:` URL. [The guide](crate::guide::sqlite) lists the parameters.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Manager, SqliteProvider};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}/sessions.db?table=visitors", folder.path().display());
    /// let sqlite = SqliteProvider::connect(url).await?;
    /// let sessions = Manager::builder(sqlite).build()?;
    ///
    /// let error = SqliteProvider::connect(":memory:").await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Config`](crate::ErrorKind::Config) for an invalid `path` or parameter, a database in memory, a symbolic link, a file or folder of
    ///   another user or writable to others, a network file system, a file that is no database, or an existing table of another form.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if the file cannot be created, opened or written.
    /// - [`Timeout`](crate::ErrorKind::Timeout) if another program holds the database's lock.
    pub async fn connect(path: impl AsRef<Path>) -> Result<SqliteProvider> {
        SqliteProvider::builder(path).connect().await
    }

    /// Returns a builder for the database at `path`, for settings other than the defaults.
    ///
    /// ```
    /// use cloakroom::{SqliteProvider, providers::Durability};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions.db");
    /// let provider = SqliteProvider::builder(&path)
    ///     .durability(Durability::Durable)
    ///     .deadline(Duration::from_millis(500))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> SqliteProviderBuilder {
        SqliteProviderBuilder {
            path: path.as_ref().to_owned(),
            table: None,
            readers: None,
            deadline: None,
            durability: None,
            create: None,
            clock: Clock::system(),
        }
    }

    /// Returns the statements that create the table `name` and its index, for your own migrations.
    ///
    /// ```
    /// use cloakroom::SqliteProvider;
    ///
    /// let statements = SqliteProvider::schema("cloakroom_sessions")?;
    /// assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS \"cloakroom_sessions\""));
    /// assert!(SqliteProvider::schema("no\"name").is_err());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if `name` is not 1 to 57 letters, digits and `_`.
    pub fn schema(name: &str) -> Result<Vec<String>> {
        Ok(schema::statements(&TableName::new(name).map_err(SqliteError::from)?))
    }

    /// Moves an unreadable record out of the way, so that the visitor gets one error and then a new session.
    async fn put_aside(&self, key: &StoreKey, stored: StoredRow) {
        let name = key.clone();
        match self.0.store.change(false, move |step| step.put_aside(&name, stored.bytes())).await {
            Ok(true) => tracing::warn!(
                table = %self.0.table,
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

impl fmt::Debug for SqliteProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteProvider")
            .field("path", &self.0.path)
            .field("table", &self.0.table)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for SqliteProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            durable: self.0.durability == Durability::Durable,
            shared: true,
            max_record: Some(schema::LARGEST_RECORD),
            ..Capabilities::new("sqlite").with_clock(self.0.store.clock.clone())
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        SqliteStore::check_size(&[Some(record)])?;
        let (key, record) = (key.clone(), record.clone());
        Ok(self.0.store.change(false, move |step| step.create(&key, &record)).await?)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let Some(stored) = self.0.store.load(key).await? else { return Ok(None) };
        match stored.record() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Box::pin(self.put_aside(key, stored)).await;
                Err(error)
            }
            record => record.map(Some),
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        SqliteStore::check_size(&[Some(record)])?;
        let (key, record, base) = (key.clone(), record.clone(), base.clone());
        Ok(self.0.store.change(false, move |step| step.update(&key, &record, &base)).await?)
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let (key, at) = (key.clone(), millis(at));
        Ok(self.0.store.change(false, move |step| step.touch(&key, at)).await?)
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        SqliteStore::check_size(&[Some(record), tombstone])?;
        let (old, new, record, tombstone) = (old.clone(), new.clone(), record.clone(), tombstone.cloned());
        let rename = move |step: &steps::ChangeStep<'_>| {
            step.rename((&old, &new), &record, expected, tombstone.as_ref())
        };
        Ok(self.0.store.change(false, rename).await?)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let key = key.clone();
        Ok(self.0.store.change(true, move |step| step.delete(&key)).await?)
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.0.store.count().await?)
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        Ok(self.0.store.collect(limit).await?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        Ok(self.0.store.page(None, cursor, limit).await?)
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        if limit == 0 {
            return Ok(Page { entries: Vec::new(), next: cursor });
        }
        Ok(self.0.store.page(Some(entry), cursor, limit).await?)
    }
}

/// Connects the provider that a configuration string names "sqlite"; `providerConfig` is its path.
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    if config.format() != Format::Native {
        let (what, expected) = ("format", "native, since Beego has no sessions in SQLite");
        return Err(SqliteError::Setting { what, expected, found: config.format().to_string() }.into());
    }
    let mut builder = SqliteProvider::builder(config.provider_config());
    builder.durability = config.durability().map(str::parse).transpose()?;
    builder.connect().await.map(AnyProvider::new)
}

/// The settings of a [`SqliteProvider`]; [`SqliteProvider::builder`] returns it. A setting goes before the parameter of the path that has
/// its name.
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing before `connect`"]
pub struct SqliteProviderBuilder {
    path: PathBuf,
    table: Option<String>,
    readers: Option<usize>,
    deadline: Option<Duration>,
    durability: Option<Durability>,
    create: Option<bool>,
    clock: Clock,
}

impl SqliteProviderBuilder {
    const TIME: Duration = Duration::from_secs(2);
    const MAX_READERS: usize = 64;

    /// Sets the table's name: 1 to 57 letters, digits and `_`; `cloakroom_sessions` by default.
    pub fn table(self, name: impl Into<String>) -> Self {
        SqliteProviderBuilder { table: Some(name.into()), ..self }
    }

    /// Sets the greatest number of connections that load records at the same time, 1 to 64; by default one for each processor, and 4 at
    /// least.
    pub fn readers(self, most: usize) -> Self {
        SqliteProviderBuilder { readers: Some(most), ..self }
    }

    /// Sets the deadline of one call, including the wait for a lock; 2 s by default. Zero means no deadline.
    /// Counts, lists and collections have ten times as long.
    pub fn deadline(self, limit: Duration) -> Self {
        SqliteProviderBuilder { deadline: Some(limit), ..self }
    }

    /// Sets what a power failure may undo; [`Durability::Atomic`] by default, which may undo the latest changes, including a logout.
    pub fn durability(self, durability: Durability) -> Self {
        SqliteProviderBuilder { durability: Some(durability), ..self }
    }

    /// Sets whether [`connect`](Self::connect) creates a missing file and missing tables; true by default. Existing tables are always checked.
    pub fn create_table(self, make: bool) -> Self {
        SqliteProviderBuilder { create: Some(make), ..self }
    }

    /// Sets the clock that deadlines are compared with; the system's clock by default. It must be the manager's clock.
    pub fn clock(self, clock: Clock) -> Self {
        SqliteProviderBuilder { clock, ..self }
    }

    /// Opens the database of another library's sessions, to [move](crate::migration) them. File and table must exist, and are never
    /// created.
    ///
    /// ```no_run
    /// # async fn show() -> cloakroom::Result<()> {
    /// use cloakroom::{SqliteProvider, migration::OldTable};
    ///
    /// let old = SqliteProvider::builder("/srv/app/old.sqlite").connect_old(OldTable::tower_sessions()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if the file or the table is missing, or the table has other columns.
    pub async fn connect_old(self, table: OldTable) -> Result<OldRecords> {
        let address = Address::parse(&self.path).map_err(SqliteError::from)?;
        let limit = lasting(self.deadline.or(address.deadline).unwrap_or(Self::TIME));
        let opened = old::SqliteOldRows::open(&address.path, &table, limit).await;
        Ok(OldRecords::new(opened.map_err(SqliteError::at_start)?))
    }

    /// Opens the database, creates what is missing, and checks it; [`SqliteProvider::connect`] lists the errors.
    pub async fn connect(self) -> Result<SqliteProvider> {
        let address = Address::parse(&self.path).map_err(SqliteError::from)?;
        let table = match self.table.or(address.table) {
            Some(name) => TableName::new(&name).map_err(SqliteError::from)?,
            None => TableName::default(),
        };
        let readers = readers(self.readers.or(address.readers))?;
        let deadline = lasting(self.deadline.or(address.deadline).unwrap_or(Self::TIME));
        let settings = DatabaseSettings {
            place: DatabasePlace::new(&address.path)?,
            sql: Arc::new(SqliteStatements::of(&table)),
            table: table.clone(),
            durability: self.durability.or(address.durability).unwrap_or_default(),
            create: self.create.or(address.create).unwrap_or(true),
            clock: self.clock.clone(),
        };
        let durability = settings.durability;
        let (path, sql) = (settings.place.path(), Arc::clone(&settings.sql));
        let limit = deadline.map(|deadline| deadline.saturating_mul(10));
        let (writer, readers) =
            Writer::start(settings, readers, limit).await.map_err(SqliteError::at_start)?;
        let store =
            SqliteStore { readers, writer, sql, clock: self.clock, deadline, batch: BatchSize::default() };
        Ok(SqliteProvider(Arc::new(SqliteState { store, path, table, durability })))
    }
}

/// Returns the number of connections that load records.
fn readers(wanted: Option<usize>) -> Result<usize, SqliteError> {
    const LEAST: usize = 4;
    const MOST: usize = SqliteProviderBuilder::MAX_READERS;
    let Some(wanted) = wanted else {
        return Ok(std::thread::available_parallelism().map_or(LEAST, |cores| cores.get().clamp(LEAST, MOST)));
    };
    if (1..=MOST).contains(&wanted) {
        return Ok(wanted);
    }
    let (what, expected) = ("readers", "1 to 64 connections");
    Err(SqliteError::Setting { what, expected, found: wanted.to_string() })
}
