//! The steps of the provider contract on one key: one statement each, unless there is a conflict.

use std::future::Future;

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::connection::{Arguments, ConnectionLease, MySqlConnector};
use super::error::MySqlError;
use super::size::{check_size, max_record_for};
use super::statements::Statements;
use crate::clock::Clock;
use crate::id::StoreKey;
use crate::provider::sql::batch::BatchSize;
use crate::provider::sql::index::IndexRows;
use crate::provider::sql::pool::SqlPool;
use crate::provider::sql::row::{Columns, StoredRow};
use crate::provider::sql::step::{Again, MAX_ATTEMPTS, StepLimits};
use crate::provider::{Created, Touched, Updated};
use crate::record::Record;

/// The steps on one server: the connections, the statements, and the limits of each step.
pub(super) struct MySqlStore {
    pub(super) pool: SqlPool<MySqlConnector>,
    pub(super) sql: Statements,
    /// The clock that deadlines are compared with; `None` for the server's clock.
    pub(super) clock: Option<Clock>,
    pub(super) limits: StepLimits,
    pub(super) batch: BatchSize,
}

impl MySqlStore {
    /// Runs a step on one key within the deadline.
    pub(super) async fn within_deadline<T>(
        &self,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        self.limits.within_deadline(step).await
    }

    /// Runs a step on many rows within ten times the deadline, since no request waits for it.
    pub(super) async fn within_long_deadline<T>(
        &self,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        self.limits.within_long_deadline(step).await
    }

    /// Retries `step` while the server undoes it because of another transaction.
    pub(super) async fn retry_undone<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.limits.retry(|error| self.again(error, false), step).await
    }

    /// Retries `step` also after a lost connection, since it may run twice.
    pub(super) async fn retry_idempotent<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.limits.retry(|error| self.again(error, true), step).await
    }

    /// Decides whether a step is repeated after `error`. A lost or read-only connection also drops the idle ones, which would fail next.
    fn again(&self, error: &MySqlError, idempotent: bool) -> Again {
        if error.is_lost_connection() || error.is_read_only() {
            // The idle connections probably lead to the same server.
            self.pool.drop_idle();
        }
        let elsewhere = error.is_read_only() && self.pool.connector().dsn.params.reject_read_only;
        if error.is_lock_conflict() {
            Again::AfterPause
        } else if error.has_changed_nothing() || elsewhere || (idempotent && error.is_lost_connection()) {
            Again::AtOnce
        } else {
            Again::Never
        }
    }

    pub(super) async fn connection(&self) -> Result<ConnectionLease<'_>, MySqlError> {
        Ok(ConnectionLease::new(self.pool.lease().await?))
    }

    /// Returns the time that statements compare deadlines with; `None` for the server's clock.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| i64::try_from(clock.millis().0).unwrap_or(i64::MAX))
    }

    pub(super) async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created, MySqlError> {
        let (columns, rows) = (Columns::of(record), IndexRows::of(record));
        let mut connection = self.connection().await?;
        check_size(&connection, &[&columns], self.max_record())?;
        for _ in 0..MAX_ATTEMPTS {
            let stored = if rows.is_empty() {
                self.insert(&mut connection, key, &columns).await?
            } else {
                begin(&mut connection).await?;
                let stored = self.insert(&mut connection, key, &columns).await?;
                if stored {
                    self.insert_index(&mut connection, key, &rows).await?;
                }
                end(&mut connection, stored).await?;
                stored
            };
            if stored {
                return Ok(Created::Done);
            }
            if self.has(&mut connection, &self.sql.exists, key).await? {
                return Ok(Created::Taken);
            }
        }
        Err(MySqlError::Contended)
    }

    /// Inserts a record under a key without a live record. Returns false if a live record is there, or was there a moment ago.
    pub(super) async fn insert(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
        columns: &Columns<'_>,
    ) -> Result<bool, MySqlError> {
        // An expired record may have the key. It is deleted, and the second attempt inserts.
        for _ in 0..2 {
            let mut bound = bind(columns);
            bound.bytes(key.as_bytes());
            match connection.execute(&self.sql.insert, bound).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_duplicate() => {}
                Err(error) => return Err(error),
            }
            if !self.delete_by(connection, &self.sql.delete_expired, key).await? {
                break;
            }
        }
        Ok(false)
    }

    /// Inserts the index rows of a record.
    pub(super) async fn insert_index(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
        rows: &IndexRows,
    ) -> Result<(), MySqlError> {
        for part in rows.parts() {
            let Some(sql) = self.sql.index_insert.get(part.len() - 1) else { continue };
            let mut bound = Arguments::default();
            for entry in part {
                bound.bytes(entry.kind().as_str().as_bytes());
                bound.bytes(entry.value().as_bytes());
                bound.bytes(key.as_bytes());
            }
            connection.execute(sql, bound).await?;
        }
        Ok(())
    }

    /// Deletes the index rows of a key.
    pub(super) async fn delete_index(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
    ) -> Result<(), MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        connection.execute(&self.sql.index_delete, bound).await.map(drop)
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<StoredRow>, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        let rows = self.connection().await?.fetch(&self.sql.load, bound).await?;
        rows.first().map(stored_row).transpose()
    }

    pub(super) async fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Result<Updated, MySqlError> {
        let (columns, expected) = (Columns::of(record), base.version());
        // The stored record has the entries of the base, if it is at its version. An unreadable one may have others, so all are deleted.
        let (before, after) = (IndexRows::of(base), IndexRows::of(record));
        let mut connection = self.connection().await?;
        check_size(&connection, &[&columns], self.max_record())?;
        for _ in 0..MAX_ATTEMPTS {
            let updated = if before == after {
                self.update_row(&mut connection, &self.sql.update, key, &columns, expected).await?
            } else {
                begin(&mut connection).await?;
                let updated =
                    self.update_row(&mut connection, &self.sql.update, key, &columns, expected).await?;
                if updated {
                    self.delete_index(&mut connection, key).await?;
                    self.insert_index(&mut connection, key, &after).await?;
                }
                end(&mut connection, updated).await?;
                updated
            };
            if updated {
                return Ok(Updated::Done);
            }
            match self.version(&mut connection, key).await? {
                None => return Ok(Updated::Gone),
                Some(found) if found != expected => return Ok(Updated::Stale),
                // The record appeared between the two statements.
                Some(_) => {}
            }
        }
        Err(MySqlError::Contended)
    }

    /// Runs one of the updates of a row. Returns true if the row was there.
    pub(super) async fn update_row(
        &self,
        connection: &mut ConnectionLease<'_>,
        sql: &SqlStr,
        key: &StoreKey,
        columns: &Columns<'_>,
        expected: u64,
    ) -> Result<bool, MySqlError> {
        let mut bound = bind(columns);
        bound.bytes(key.as_bytes());
        bound.number(expected);
        bound.now(self.now());
        Ok(connection.execute(sql, bound).await? == 1)
    }

    pub(super) async fn touch(&self, key: &StoreKey, at: u64) -> Result<Touched, MySqlError> {
        let mut connection = self.connection().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut bound = Arguments::default();
            bound.number(at);
            bound.number(at);
            bound.number(at);
            bound.bytes(key.as_bytes());
            bound.now(self.now());
            if connection.execute(&self.sql.touch, bound).await? == 1 {
                return Ok(Touched::Done);
            }
            if self.version(&mut connection, key).await?.is_none() {
                return Ok(Touched::Gone);
            }
            // The record appeared between the two statements, or see below.
        }
        // A proxy may count only changed rows, and this row had the same times before.
        Ok(Touched::Done)
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool, MySqlError> {
        let mut connection = self.connection().await?;
        self.delete_by(&mut connection, &self.sql.delete, key).await
    }

    /// Runs one of the statements that delete a row and its index rows. Returns true if the row was there.
    pub(super) async fn delete_by(
        &self,
        connection: &mut ConnectionLease<'_>,
        sql: &SqlStr,
        key: &StoreKey,
    ) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        Ok(connection.execute(sql, bound).await? > 0)
    }

    /// Returns the version of the live session under `key`.
    pub(super) async fn version(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
    ) -> Result<Option<u64>, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        let rows = connection.fetch(&self.sql.version, bound).await?;
        let version = rows.first().map(|row| row.try_get(0)).transpose();
        version.map_err(|_| MySqlError::Row { column: "version" })
    }

    /// Returns true if `sql` finds a row of `key`.
    pub(super) async fn has(
        &self,
        connection: &mut ConnectionLease<'_>,
        sql: &SqlStr,
        key: &StoreKey,
    ) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        Ok(!connection.fetch(sql, bound).await?.is_empty())
    }

    /// Moves an unreadable record away and keeps it for a week. Returns false if the row is not the one that was loaded any more.
    pub(super) async fn put_aside(&self, key: &StoreKey, bytes: &[u8]) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        bound.now(self.now());
        bound.bytes(key.as_bytes());
        bound.bytes(bytes);
        let mut connection = self.connection().await?;
        begin(&mut connection).await?;
        let moved = connection.execute(&self.sql.put_aside, bound).await? == 1;
        if moved {
            self.delete_index(&mut connection, key).await?;
        }
        end(&mut connection, moved).await?;
        Ok(moved)
    }

    /// Returns the largest record that the settings allow.
    pub(super) fn max_record(&self) -> usize {
        let chosen = self.pool.connector().dsn.params.max_packet.filter(|bytes| *bytes != 0);
        max_record_for(chosen.unwrap_or(usize::MAX))
    }
}

/// Begins a transaction. If the connection is lost before its commit, the server has changed nothing.
pub(super) async fn begin(connection: &mut ConnectionLease<'_>) -> Result<(), MySqlError> {
    connection.hold_transaction();
    connection.command(SqlStr::from_static("START TRANSACTION")).await
}

/// Commits the transaction, or rolls it back.
pub(super) async fn end(connection: &mut ConnectionLease<'_>, commit: bool) -> Result<(), MySqlError> {
    // AND NO CHAIN NO RELEASE: completion_type must not begin another transaction or end the connection.
    let sql = if commit { "COMMIT AND NO CHAIN NO RELEASE" } else { "ROLLBACK AND NO CHAIN NO RELEASE" };
    connection.release_next();
    connection.command(SqlStr::from_static(sql)).await
}

/// Binds the columns that every statement which writes a record begins with.
pub(super) fn bind<'a>(columns: &Columns<'a>) -> Arguments<'a> {
    let mut bound = Arguments::default();
    bound.number(columns.version);
    bound.number(columns.expires);
    bound.number(columns.absolute);
    bound.number(columns.idle);
    bound.number(u64::from(columns.tombstone));
    bound.bytes(columns.record);
    bound
}

/// Reads the columns `record` and `touched`.
fn stored_row(row: &MySqlRow) -> Result<StoredRow, MySqlError> {
    let bytes = row.try_get(0).map_err(|_| MySqlError::Row { column: "record" })?;
    let touched = row.try_get(1).map_err(|_| MySqlError::Row { column: "touched" })?;
    Ok(StoredRow { bytes, touched })
}
