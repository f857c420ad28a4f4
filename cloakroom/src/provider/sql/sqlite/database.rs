//! The open database of the thread that writes, and the check that its files are still the ones in their places.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection::{abandon, open_writer, retry_locked};
use super::error::SqliteError;
use super::place::{DatabaseFiles, DatabasePaths, DatabasePlace, FileIdentity};
use super::schema;
use super::statements::SqliteStatements;
use crate::clock::Clock;
use crate::provider::durability::Durability;
use crate::provider::sql::table::TableName;

/// The longest wait for readers to leave the log. Changes wait meanwhile.
const RESTART_WAIT: Duration = Duration::from_millis(50);

/// The settings with which the thread that writes opens the database.
#[derive(Clone, Debug)]
pub(super) struct DatabaseSettings {
    pub(super) place: DatabasePlace,
    pub(super) table: TableName,
    pub(super) sql: Arc<SqliteStatements>,
    pub(super) durability: Durability,
    /// True if a missing file and missing tables are created.
    pub(super) create: bool,
    pub(super) clock: Clock,
}

/// The connection that writes, with the identities of its database and its log.
pub(super) struct OpenDatabase {
    pub(super) connection: Connection,
    pub(super) paths: DatabasePaths,
    pub(super) files: DatabaseFiles,
}

impl OpenDatabase {
    /// Opens the database, checks its tables, and remembers which files it has open.
    ///
    /// The file is looked at before and after. If it was replaced in between, the connection may be to either file, and is given up.
    pub(super) fn open(
        settings: &DatabaseSettings,
        deadline: Option<Instant>,
    ) -> Result<OpenDatabase, SqliteError> {
        let path = settings.place.prepare(settings.create)?;
        let before = FileIdentity::at(&path).ok_or(SqliteError::Moved)?;
        let connection = open_writer(&path, settings.durability, deadline)?;
        schema::prepare(&connection, &settings.table, settings.create, deadline)?;
        // A database that was empty until now gets its log with the first read.
        retry_locked(deadline, || {
            Ok(connection.query_row("SELECT COUNT(*) FROM sqlite_schema", (), |_| Ok(()))?)
        })?;
        let paths = DatabasePaths::new(path);
        match paths.files() {
            Some(files) if files.database == before => Ok(OpenDatabase { connection, paths, files }),
            _ => {
                abandon(connection);
                Err(SqliteError::Moved)
            }
        }
    }

    /// Returns the size of the log in bytes, if the database and its log are still in their places. What is committed to a removed file
    /// is lost with the process, so no such commit is acknowledged.
    pub(super) fn log_size(&self) -> Option<u64> {
        let (files, size) = self.paths.files_and_log_size()?;
        (files == self.files).then_some(size)
    }

    pub(super) fn execute(&self, sql: &str) -> Result<(), SqliteError> {
        self.connection.prepare_cached(sql)?.execute(())?;
        Ok(())
    }

    /// Returns the bytes of the database that no row uses.
    pub(super) fn free_bytes(&self) -> u64 {
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let free = number("freelist_count").and_then(|pages| Ok(pages.saturating_mul(number("page_size")?)));
        free.ok().and_then(|free| u64::try_from(free).ok()).unwrap_or(0)
    }

    /// Copies all of the log into the database and cuts it. Readers go on meanwhile. Waits for a moment at which none of them needs the
    /// log, for at most [`RESTART_WAIT`]: under constant reads there is none by chance, and the log would grow without end.
    pub(super) fn restart_log(&self) {
        let restart = || {
            self.connection.busy_timeout(RESTART_WAIT)?;
            let done = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
            self.connection.busy_timeout(Duration::ZERO)?;
            done
        };
        if let Err(error) = restart() {
            tracing::debug!(%error, "the log of the sessions database could not be cut");
        }
    }

    /// Copies the log into the database as far as readers allow, so that its space is used again.
    pub(super) fn checkpoint(&self) {
        let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
        if let Err(error) = done {
            tracing::debug!(%error, "a checkpoint of the sessions database failed");
        }
    }
}
