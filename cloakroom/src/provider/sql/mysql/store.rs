//! The steps of the provider contract on one key: one statement each, unless there is a conflict.

use std::future::Future;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::batch::BatchSize;
use super::connection::{Arguments, ConnectionLease, MySqlConnector};
use super::error::MySqlError;
use super::schema;
use super::statements::Statements;
use crate::clock::Clock;
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::sql::pool::SqlPool;
use crate::provider::sql::row::{Columns, restored};
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

/// The most attempts of a step whose key is created and removed by other calls between its statements.
const MAX_ATTEMPTS: usize = 4;
/// An upper bound on the bytes of a statement beside the record: two keys, a principal and a few numbers.
const AROUND_RECORD: usize = 1024;

pub(super) struct MySqlStore {
    pub(super) pool: SqlPool<MySqlConnector>,
    pub(super) sql: Statements,
    /// The clock that deadlines are compared with; `None` for the server's clock.
    pub(super) clock: Option<Clock>,
    /// The time limit of one step, including the wait for a connection; `None` for no limit.
    pub(super) deadline: Option<Duration>,
    pub(super) retries: usize,
    pub(super) batch: BatchSize,
}

/// A row as it is stored. [`record`](Self::record) decodes it.
pub(super) struct StoredRow {
    bytes: Vec<u8>,
    touched: Option<u64>,
    expires: u64,
}

impl MySqlStore {
    /// Runs a step on one key within the deadline.
    pub(super) async fn within_deadline<T>(
        &self,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        self.within(self.deadline, step).await
    }

    /// Runs a step on many rows within ten times the deadline, since no request waits for it.
    pub(super) async fn within_long_deadline<T>(
        &self,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        self.within(self.deadline.map(|deadline| deadline.saturating_mul(10)), step).await
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        match limit {
            None => step.await,
            Some(limit) => {
                let answer = tokio::time::timeout(limit, step).await;
                answer.unwrap_or(Err(MySqlError::Timeout { limit }))
            }
        }
    }

    /// Retries `step` while the server undoes it because of another transaction.
    pub(super) async fn retry_undone<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.retry(false, step).await
    }

    /// Retries `step` also after a lost connection, since it may run twice.
    pub(super) async fn retry_idempotent<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.retry(true, step).await
    }

    async fn retry<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        idempotent: bool,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        let mut tried = 0;
        loop {
            let error = match step().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_lost_connection() || error.is_read_only() {
                // The idle connections probably lead to the same server.
                self.pool.drop_idle();
            }
            let elsewhere = error.is_read_only() && self.pool.connector().dsn.params.reject_read_only;
            let undone = error.is_lock_conflict() || error.has_changed_nothing() || elsewhere;
            let again = undone || (idempotent && error.is_lost_connection());
            if !again || tried == self.retries {
                return Err(error);
            }
            tried += 1;
            if error.is_lock_conflict() {
                tokio::time::sleep(pause(tried)).await;
            }
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
        let columns = Columns::of(record);
        let mut connection = self.connection().await?;
        check_size(&connection, &[&columns], self.max_record())?;
        for _ in 0..MAX_ATTEMPTS {
            if self.inserted(&mut connection, key, &columns).await? {
                return Ok(Created::Done);
            }
            if self.has(&mut connection, &self.sql.exists, key).await? {
                return Ok(Created::Taken);
            }
        }
        Err(MySqlError::Contended)
    }

    /// Stores a record under a key without a live record. Returns false if a live record is there, or was there a moment ago.
    async fn inserted(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
        columns: &Columns<'_>,
    ) -> Result<bool, MySqlError> {
        let mut bound = bind(columns);
        bound.bytes(key.as_bytes());
        match connection.execute(&self.sql.insert, bound).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_duplicate() => {
                let mut bound = bind(columns);
                bound.bytes(key.as_bytes());
                bound.now(self.now());
                Ok(connection.execute(&self.sql.replace, bound).await? == 1)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<StoredRow>, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        let rows = self.connection().await?.fetch(&self.sql.load, bound).await?;
        rows.first().map(StoredRow::of).transpose()
    }

    pub(super) async fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Result<Updated, MySqlError> {
        let (columns, expected) = (Columns::of(record), base.version());
        let mut connection = self.connection().await?;
        check_size(&connection, &[&columns], self.max_record())?;
        for _ in 0..MAX_ATTEMPTS {
            let mut bound = bind(&columns);
            bound.bytes(key.as_bytes());
            bound.number(expected);
            bound.now(self.now());
            if connection.execute(&self.sql.update, bound).await? == 1 {
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
            // It began between the two statements; or see below.
        }
        // A proxy may count only changed rows, and this row had the same times before.
        Ok(Touched::Done)
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        Ok(self.connection().await?.execute(&self.sql.delete, bound).await? == 1)
    }

    pub(super) async fn rename(
        &self,
        (old, new): (&StoreKey, &StoreKey),
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed, MySqlError> {
        let columns = Columns::of(record);
        let tombstone = tombstone.map(Columns::of);
        let mut connection = self.connection().await?;
        check_size(
            &connection,
            &[Some(&columns), tombstone.as_ref()].into_iter().flatten().collect::<Vec<_>>(),
            self.max_record(),
        )?;
        for _ in 0..MAX_ATTEMPTS {
            let moved = match &tombstone {
                // The UPDATE would match the row itself.
                _ if old == new => RowMove::KeyTaken,
                None => self.change_key(&mut connection, (old, new), &columns, expected).await?,
                Some(tombstone) => {
                    self.replace_by(&mut connection, (old, new), &columns, expected, tombstone).await?
                }
            };
            match moved {
                RowMove::Done => return Ok(Renamed::Done),
                RowMove::NotFound => match self.version(&mut connection, old).await? {
                    None => return Ok(Renamed::Gone),
                    Some(found) if found != expected => return Ok(Renamed::Stale),
                    // The record appeared between the two statements.
                    Some(_) => {}
                },
                RowMove::KeyTaken if self.has(&mut connection, &self.sql.exists, new).await? => {
                    return Ok(Renamed::Taken);
                }
                RowMove::KeyTaken if old == new => return Ok(Renamed::Gone),
                RowMove::KeyTaken => {}
            }
        }
        Err(MySqlError::Contended)
    }

    /// Changes the key of the row, in one atomic statement.
    async fn change_key(
        &self,
        connection: &mut ConnectionLease<'_>,
        (old, new): (&StoreKey, &StoreKey),
        columns: &Columns<'_>,
        expected: u64,
    ) -> Result<RowMove, MySqlError> {
        let mut bound = bind(columns);
        bound.bytes(new.as_bytes());
        bound.bytes(old.as_bytes());
        bound.number(expected);
        bound.now(self.now());
        match connection.execute(&self.sql.change_key, bound).await {
            Ok(0) => Ok(RowMove::NotFound),
            Ok(_) => Ok(RowMove::Done),
            Err(error) if error.is_duplicate() => {
                let mut bound = Arguments::default();
                bound.bytes(new.as_bytes());
                bound.now(self.now());
                connection.execute(&self.sql.delete_expired, bound).await?;
                Ok(RowMove::KeyTaken)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a tombstone under the old key and the record under the new one, in one transaction.
    async fn replace_by(
        &self,
        connection: &mut ConnectionLease<'_>,
        (old, new): (&StoreKey, &StoreKey),
        columns: &Columns<'_>,
        expected: u64,
        tombstone: &Columns<'_>,
    ) -> Result<RowMove, MySqlError> {
        // If the connection is lost before the COMMIT, the server has changed nothing.
        connection.hold_transaction();
        connection.command(SqlStr::from_static("START TRANSACTION")).await?;
        let mut bound = bind(tombstone);
        bound.bytes(old.as_bytes());
        bound.number(expected);
        bound.now(self.now());
        let moved = match connection.execute(&self.sql.update, bound).await? {
            0 => RowMove::NotFound,
            _ if self.inserted(connection, new, columns).await? => RowMove::Done,
            _ => RowMove::KeyTaken,
        };
        // AND NO CHAIN NO RELEASE: completion_type must not begin another transaction or end the connection.
        let end = match moved {
            RowMove::Done => "COMMIT AND NO CHAIN NO RELEASE",
            RowMove::NotFound | RowMove::KeyTaken => "ROLLBACK AND NO CHAIN NO RELEASE",
        };
        connection.release_next();
        connection.command(SqlStr::from_static(end)).await?;
        Ok(moved)
    }

    /// Returns the version of the live session under `key`.
    async fn version(
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
    async fn has(
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
        Ok(self.connection().await?.execute(&self.sql.put_aside, bound).await? == 1)
    }

    /// Returns the largest record that the settings allow.
    pub(super) fn max_record(&self) -> usize {
        let chosen = self.pool.connector().dsn.params.max_packet.filter(|bytes| *bytes != 0);
        max_record_for(chosen.unwrap_or(usize::MAX))
    }
}

/// The outcome of moving a row to another key.
enum RowMove {
    Done,
    /// No live row has the old key and that version.
    NotFound,
    /// A row had the new key. If it had expired, it has been deleted.
    KeyTaken,
}

/// Returns the largest record that a packet of `max_packet` bytes can carry.
pub(super) fn max_record_for(max_packet: usize) -> usize {
    // Below 16 MiB a statement is one packet of the protocol.
    max_packet.min(schema::LARGEST_RECORD).saturating_sub(AROUND_RECORD)
}

/// Checks the size of records before they are sent, since a packet that is too large ends the connection.
fn check_size(
    connection: &ConnectionLease<'_>,
    all: &[&Columns<'_>],
    chosen: usize,
) -> Result<(), MySqlError> {
    let packet = connection.session().map_or(usize::MAX, |session| session.max_packet);
    let (limit, reason) = match max_record_for(packet) {
        limit if limit <= chosen && limit < max_record_for(usize::MAX) => {
            (limit, "the server's max_allowed_packet, less 1 KiB")
        }
        _ if chosen < max_record_for(usize::MAX) => {
            (chosen, "maxAllowedPacket of the data source name, less 1 KiB")
        }
        limit => (limit, "a MEDIUMBLOB, less 1 KiB"),
    };
    match all.iter().map(|columns| columns.record.len()).find(|found| *found > limit) {
        Some(found) => Err(MySqlError::TooLarge { limit, found, reason }),
        None => Ok(()),
    }
}

/// Binds the columns that every statement which writes a record begins with.
fn bind<'a>(columns: &Columns<'a>) -> Arguments<'a> {
    let mut bound = Arguments::default();
    bound.number(columns.version);
    bound.number(columns.expires);
    bound.number(columns.absolute);
    bound.number(u64::from(columns.tombstone));
    bound.optional(columns.principal);
    bound.bytes(columns.record);
    bound
}

impl StoredRow {
    /// Reads the columns `record`, `touched` and `expires`.
    fn of(row: &MySqlRow) -> Result<Self, MySqlError> {
        let bytes = row.try_get(0).map_err(|_| MySqlError::Row { column: "record" })?;
        let touched = row.try_get(1).map_err(|_| MySqlError::Row { column: "touched" })?;
        let expires = row.try_get(2).map_err(|_| MySqlError::Row { column: "expires" })?;
        Ok(StoredRow { bytes, touched, expires })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn record(&self) -> Result<Record> {
        restored(&self.bytes, self.touched, self.expires)
    }
}

/// Returns a random pause of some milliseconds, so that conflicting calls do not meet again.
fn pause(tried: usize) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    Duration::from_millis(2).mul_f64(f64::from(chance) / f64::from(u32::MAX) * tried as f64 * 4.0)
}
