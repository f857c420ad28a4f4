//! Connections to the database, with every setting on which a promise depends set and read back.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::SqliteError;
use crate::provider::durability::Durability;

/// The prepared statements that a connection keeps: all that this provider has.
const STATEMENTS: usize = 64;

/// The pages of the log after which a commit copies them into the database: SQLite's default.
const CHECKPOINT_PAGES: i64 = 1_000;

/// The size in bytes to which the log is cut after it grew, since its reader was slow.
const LOG_LIMIT: i64 = 64 << 20;

/// The memory in KiB for pages of the connection that writes. Its pages stay valid from one change to the next.
const WRITER_CACHE: i64 = 16 << 10;

/// The pause between two attempts to take a lock.
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Opens the connection that writes, and puts the database into WAL mode.
pub(super) fn open_writer(
    path: &Path,
    durability: Durability,
    deadline: Option<Instant>,
) -> Result<Connection, SqliteError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    retry_locked(deadline, || {
        let found: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        // The change of the mode needs the database for itself, so an unneeded one would be a wait.
        if !found.eq_ignore_ascii_case("wal") {
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        }
        Ok(())
    })?;
    let synchronous = match durability {
        Durability::Atomic => 1,
        Durability::Durable => 2,
    };
    for (name, value) in [
        ("synchronous", synchronous),
        ("wal_autocheckpoint", CHECKPOINT_PAGES),
        ("journal_size_limit", LOG_LIMIT),
        ("cache_size", -WRITER_CACHE),
        ("trusted_schema", 0),
    ] {
        // Some pragmas answer with their new value, and some do not.
        connection.pragma_update(None, name, value)?;
        let found: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
        if found != value {
            return Err(SqliteError::Pragma { name, expected: value.to_string(), found: found.to_string() });
        }
    }
    let found: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if !found.eq_ignore_ascii_case("wal") {
        return Err(SqliteError::Pragma { name: "journal_mode", expected: "wal".to_owned(), found });
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, SqliteError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, SqliteError> {
    // A connection is used by one thread at a time, so it needs no lock of its own.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    // The provider waits for locks itself, up to the deadline of a call.
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Closes a connection whose file was removed or replaced. SQLite would otherwise remove the log by its name, which may be the log of the
/// new file.
pub(super) fn abandon(connection: Connection) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
        tracing::debug!(%error, "a connection to a removed database could not be told to leave the log");
    }
    drop(connection);
}

/// Runs `step` again while another connection holds the lock that it needs. The caller's thread sleeps, so this is for threads that may
/// block.
pub(super) fn retry_locked<T>(
    deadline: Option<Instant>,
    mut step: impl FnMut() -> Result<T, SqliteError>,
) -> Result<T, SqliteError> {
    loop {
        match step() {
            Err(error) if error.is_locked() => match deadline {
                Some(deadline) if Instant::now() >= deadline => return Err(error),
                _ => std::thread::sleep(LOCK_PAUSE),
            },
            answer => return answer,
        }
    }
}
