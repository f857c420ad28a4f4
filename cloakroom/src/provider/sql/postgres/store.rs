//! The steps of the provider contract on one key: one statement each, unless there is a conflict.

use std::future::Future;

use tokio_postgres::Row;

use super::connection::{PostgresConnector, PostgresLease};
use super::error::PostgresError;
use super::statements::{PostgresStatements, SqlText};
use super::value::{SqlValue, stored, unstored};
use crate::clock::Clock;
use crate::id::StoreKey;
use crate::provider::sql::batch::BatchSize;
use crate::provider::sql::index::IndexRows;
use crate::provider::sql::pool::SqlPool;
use crate::provider::sql::row::{Columns, StoredRow};
use crate::provider::sql::step::{Again, MAX_ATTEMPTS, StepLimits};
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

/// The most bytes of a record. PostgreSQL's own limit for a value is 1 GiB, with what surrounds it in a message.
pub(super) const LARGEST_RECORD: usize = 256 << 20;

/// The steps on one server: the connections, the statements, and the limits of each step.
pub(super) struct PostgresStore {
    pub(super) pool: SqlPool<PostgresConnector>,
    pub(super) sql: PostgresStatements,
    /// The clock that deadlines are compared with; `None` for the server's clock.
    pub(super) clock: Option<Clock>,
    pub(super) limits: StepLimits,
    pub(super) batch: BatchSize,
}

/// The arrays of the index rows of a record, as statements take them.
struct BoundEntries<'a> {
    kinds: Vec<&'a str>,
    values: Vec<&'a [u8]>,
}

impl<'a> BoundEntries<'a> {
    fn of(rows: &'a IndexRows) -> Self {
        let entries = || rows.parts().flatten();
        BoundEntries {
            kinds: entries().map(|entry| entry.kind().as_str()).collect(),
            values: entries().map(|entry| entry.value().as_bytes()).collect(),
        }
    }

    fn bound(&self) -> [SqlValue<'_>; 2] {
        [SqlValue::Texts(&self.kinds), SqlValue::ByteStrings(&self.values)]
    }
}

/// The answer of a statement that compares the version.
enum Compared {
    Done,
    /// The new key is taken.
    KeyTaken,
    /// No live session is under the key.
    Gone,
    /// The live session has another version, or had the expected one before another change.
    Other(i64),
}

impl Compared {
    fn of(rows: &[Row]) -> Result<Self, PostgresError> {
        let Some(row) = rows.first() else { return Ok(Compared::Gone) };
        let version =
            row.try_get::<_, Option<i64>>(1).map_err(|_| PostgresError::Row { column: "version" })?;
        match (row.try_get::<_, i64>(0), version) {
            (Ok(1), _) => Ok(Compared::Done),
            (Ok(2), _) => Ok(Compared::KeyTaken),
            (Ok(0), Some(version)) => Ok(Compared::Other(version)),
            _ => Err(PostgresError::Protocol),
        }
    }
}

impl PostgresStore {
    /// Runs a step on one key within the deadline. It is retried if it has changed nothing.
    pub(super) async fn step<T, R: Future<Output = Result<T, PostgresError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, PostgresError> {
        let again = |error: &PostgresError| self.again(error, false);
        self.limits.within_deadline(self.limits.retry(again, step)).await
    }

    /// Runs a step on one key within the deadline. It is retried after a lost connection too, since it may run twice.
    pub(super) async fn idempotent_step<T, R: Future<Output = Result<T, PostgresError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, PostgresError> {
        let again = |error: &PostgresError| self.again(error, true);
        self.limits.within_deadline(self.limits.retry(again, step)).await
    }

    /// Runs a step on many rows, which may run twice, within ten times the deadline.
    pub(super) async fn long_step<T, R: Future<Output = Result<T, PostgresError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, PostgresError> {
        let again = |error: &PostgresError| self.again(error, true);
        self.limits.within_long_deadline(self.limits.retry(again, step)).await
    }

    fn again(&self, error: &PostgresError, idempotent: bool) -> Again {
        if error.is_lost_connection() || error.is_read_only() {
            // The idle connections probably lead to the same server.
            self.pool.drop_idle();
        }
        if error.is_lock_conflict() || error.may_pass() {
            Again::AfterPause
        } else if error.has_run_nothing() || (idempotent && error.is_lost_connection()) {
            Again::AtOnce
        } else {
            Again::Never
        }
    }

    pub(super) async fn connection(&self) -> Result<PostgresLease<'_>, PostgresError> {
        Ok(PostgresLease::new(self.pool.lease().await?))
    }

    /// Returns the time that statements compare deadlines with. With the server's clock it is NULL, and no statement reads it.
    pub(super) fn now(&self) -> SqlValue<'static> {
        SqlValue::MaybeNumber(self.clock.as_ref().map(|clock| stored(clock.millis().0)))
    }

    pub(super) async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created, PostgresError> {
        let (columns, rows) = (Columns::of(record), IndexRows::of(record));
        check_size(&columns)?;
        let entries = BoundEntries::of(&rows);
        let mut connection = self.connection().await?;
        let mut values = self.record_values(key, &columns);
        let stored = if rows.is_empty() {
            connection.execute(&self.sql.insert, &values).await? > 0
        } else {
            values.extend(entries.bound());
            !connection.fetch(&self.sql.insert_indexed, &values).await?.is_empty()
        };
        Ok(if stored { Created::Done } else { Created::Taken })
    }

    /// Returns the values `$1` to `$8` of a statement that writes a record.
    fn record_values<'a>(&self, key: &'a StoreKey, columns: &Columns<'a>) -> Vec<SqlValue<'a>> {
        let mut values = Vec::with_capacity(12);
        values.push(SqlValue::Text(key.as_str()));
        values.extend(column_values(columns));
        values.push(self.now());
        values
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<StoredRow>, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), self.now()];
        let rows = self.connection().await?.fetch(&self.sql.load, &values).await?;
        rows.first().map(stored_row).transpose()
    }

    pub(super) async fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Result<Updated, PostgresError> {
        let (columns, expected) = (Columns::of(record), base.version().cast_signed());
        // The stored record has the entries of the base, if it is at its version.
        let (before, after) = (IndexRows::of(base), IndexRows::of(record));
        check_size(&columns)?;
        let entries = BoundEntries::of(&after);
        let mut connection = self.connection().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut values = self.record_values(key, &columns);
            values.push(SqlValue::Number(expected));
            let sql = if before == after {
                &self.sql.update
            } else {
                values.extend(entries.bound());
                &self.sql.update_indexed
            };
            match Compared::of(&connection.fetch(sql, &values).await?)? {
                Compared::Done => return Ok(Updated::Done),
                Compared::Gone => return Ok(Updated::Gone),
                Compared::Other(found) if found != expected => return Ok(Updated::Stale),
                _ => {}
            }
            // Another call changed or ended the session after the statement began, so its answer is the former version.
            match self.version(&mut connection, key).await? {
                None => return Ok(Updated::Gone),
                Some(found) if found != expected => return Ok(Updated::Stale),
                Some(_) => {}
            }
        }
        Err(PostgresError::Contended)
    }

    /// Returns the version of the live session under `key`.
    async fn version(
        &self,
        connection: &mut PostgresLease<'_>,
        key: &StoreKey,
    ) -> Result<Option<i64>, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), self.now()];
        let rows = connection.fetch(&self.sql.version, &values).await?;
        let version = rows.first().map(|row| row.try_get(0)).transpose();
        version.map_err(|_| PostgresError::Row { column: "version" })
    }

    pub(super) async fn touch(&self, key: &StoreKey, at: u64) -> Result<Touched, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), SqlValue::Number(stored(at)), self.now()];
        let touched = self.connection().await?.execute(&self.sql.touch, &values).await?;
        Ok(if touched > 0 { Touched::Done } else { Touched::Gone })
    }

    pub(super) async fn rename(
        &self,
        [old, new]: [&StoreKey; 2],
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed, PostgresError> {
        let (columns, rows) = (Columns::of(record), IndexRows::of(record));
        let (mark, expected) = (tombstone.map(Columns::of), expected.cast_signed());
        check_size(&columns)?;
        mark.as_ref().map_or(Ok(()), check_size)?;
        let entries = BoundEntries::of(&rows);
        let mut connection = self.connection().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut values = vec![SqlValue::Text(old.as_str())];
            values.extend(self.record_values(new, &columns));
            values.push(SqlValue::Number(expected));
            values.extend(entries.bound());
            values.extend(mark.iter().flat_map(column_values));
            let sql = if mark.is_some() { &self.sql.rename_marked } else { &self.sql.rename };
            match Compared::of(&connection.fetch(sql, &values).await?)? {
                Compared::Done => return Ok(Renamed::Done),
                Compared::KeyTaken => return Ok(Renamed::Taken),
                Compared::Gone => return Ok(Renamed::Gone),
                Compared::Other(found) if found != expected => return Ok(Renamed::Stale),
                Compared::Other(_) => {}
            }
            match self.version(&mut connection, old).await? {
                None => return Ok(Renamed::Gone),
                Some(found) if found != expected => return Ok(Renamed::Stale),
                Some(_) => {}
            }
        }
        Err(PostgresError::Contended)
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), self.now()];
        let mut connection = self.connection().await?;
        let rows = connection.fetch(&self.sql.delete, &values).await?;
        let unchanged = rows.first().map(|row| row.try_get::<_, Option<bool>>(0));
        if !matches!(unchanged, None | Some(Ok(Some(true)))) {
            // The session is deleted, whatever becomes of index rows that lead nowhere.
            if let Err(error) = connection.execute(&self.sql.delete_orphans, &values[..1]).await {
                tracing::warn!(%error, "index rows of a deleted session could not be deleted");
            }
        }
        Ok(unchanged.is_some())
    }

    /// Moves an unreadable record away and keeps it for a week. Returns false if the row is not the one that was loaded any more.
    pub(super) async fn put_aside(&self, key: &StoreKey, bytes: &[u8]) -> Result<bool, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), SqlValue::Bytes(bytes), self.now()];
        self.finds(&self.sql.put_aside, &values).await
    }

    async fn finds(&self, sql: &SqlText, values: &[SqlValue<'_>]) -> Result<bool, PostgresError> {
        Ok(!self.connection().await?.fetch(sql, values).await?.is_empty())
    }
}

/// Returns the values of the columns beside the id.
fn column_values<'a>(columns: &Columns<'a>) -> [SqlValue<'a>; 6] {
    [
        SqlValue::Number(columns.version.cast_signed()),
        SqlValue::Number(stored(columns.expires)),
        SqlValue::Number(stored(columns.absolute)),
        SqlValue::Number(stored(columns.idle)),
        SqlValue::Flag(columns.tombstone),
        SqlValue::Bytes(columns.record),
    ]
}

fn check_size(columns: &Columns<'_>) -> Result<(), PostgresError> {
    let found = columns.record.len();
    if found <= LARGEST_RECORD {
        return Ok(());
    }
    Err(PostgresError::TooLarge { limit: LARGEST_RECORD, found, reason: "the limit of this provider" })
}

/// Reads the columns `record` and `touched`.
fn stored_row(row: &Row) -> Result<StoredRow, PostgresError> {
    let bytes = row.try_get(0).map_err(|_| PostgresError::Row { column: "record" })?;
    let touched = row.try_get::<_, Option<i64>>(1).map_err(|_| PostgresError::Row { column: "touched" })?;
    Ok(StoredRow { bytes, touched: touched.map(unstored) })
}
