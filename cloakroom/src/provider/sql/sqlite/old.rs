//! Another library's records in a file of SQLite.
//!
//! One connection does, since each session is moved once. It waits for locks of the old application on a thread that may block.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::change::deadline_of;
use super::connection::retry_locked;
use super::error::SqliteError;
use super::wait::bounded;
use crate::error::Result;
use crate::migration::{OldBytes, OldColumns, OldStore, OldTable};
use crate::sync::locks::Mutex;

/// The table of tower-sessions.
const TOWER_SESSIONS: &str = "tower_sessions";

/// The rows of one table.
pub(super) struct SqliteOldRows {
    connection: Arc<Mutex<Connection>>,
    load: Arc<str>,
    delete: Arc<str>,
    /// The time limit of one call; `None` for no limit.
    limit: Option<Duration>,
}

impl SqliteOldRows {
    /// Opens an existing table.
    pub(super) async fn open(
        path: &Path,
        table: &OldTable,
        limit: Option<Duration>,
    ) -> Result<Self, SqliteError> {
        let (what, expected) = ("the old table", "a name of letters, digits, _ and -");
        let found = || "another name".to_owned();
        let name = table.quoted(TOWER_SESSIONS, '"').ok_or_else(|| SqliteError::Setting {
            what,
            expected,
            found: found(),
        })?;
        let columns = match table.columns() {
            // The record holds its own time of expiry.
            OldColumns::Date => "data, NULL",
            OldColumns::Seconds => "CAST(session AS BLOB), expires",
        };
        if !path.is_file() {
            return Err(SqliteError::NoFile { path: path.to_owned() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        let rows = SqliteOldRows {
            connection: Arc::new(Mutex::new(connection)),
            load: format!("SELECT {columns} FROM {name} WHERE id = ?1").into(),
            delete: format!("DELETE FROM {name} WHERE id = ?1").into(),
            limit,
        };
        let statements = [Arc::clone(&rows.load), Arc::clone(&rows.delete)];
        rows.run(move |connection| {
            statements.iter().try_for_each(|sql| Ok(connection.prepare_cached(sql).map(drop)?))
        })
        .await?;
        Ok(rows)
    }

    /// Runs `step` on a thread that may block. It runs again while the old application holds a lock that it needs.
    async fn run<T: Send + 'static>(
        &self,
        step: impl Fn(&Connection) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (connection, limit, deadline) =
            (Arc::clone(&self.connection), self.limit, deadline_of(self.limit));
        let run = move || match retry_locked(deadline, || step(&connection.lock())) {
            Err(error) if error.is_locked() => Err(SqliteError::Timeout { limit: limit.unwrap_or_default() }),
            answer => answer,
        };
        let call =
            async move { tokio::task::spawn_blocking(run).await.unwrap_or(Err(SqliteError::BrokenOff)) };
        bounded(limit, call).await
    }
}

impl OldStore for SqliteOldRows {
    async fn load(&self, key: &str) -> Result<Option<OldBytes>> {
        let (sql, key) = (Arc::clone(&self.load), key.to_owned());
        let load = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let row = statement
                .query_row([&key], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<i64>>(1)?)));
            Ok(row.optional()?)
        };
        let Some((bytes, expires)) = self.run(load).await? else { return Ok(None) };
        let seconds = expires.map(|at| u64::try_from(at).unwrap_or(0));
        let expires = seconds.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
        Ok(Some(OldBytes::new(bytes, expires)))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let (sql, key) = (Arc::clone(&self.delete), key.to_owned());
        let delete = move |connection: &Connection| Ok(connection.prepare_cached(&sql)?.execute([&key])? > 0);
        Ok(self.run(delete).await?)
    }
}
