//! The contract's steps: one statement each, where nothing is in the way.

use std::future::Future;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::batch::Batch;
use super::error::MySqlError;
use super::link::{Arguments, Link, Server};
use super::schema;
use super::statements::Statements;
use crate::clock::Clock;
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::sql::pool::Pool;
use crate::provider::sql::row::{Columns, restored};
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

/// How often a step is begun anew because a key came and went under it.
const TRIES: usize = 4;
/// What a statement with a record takes beside the record, and more: two keys, a principal, a few numbers.
const AROUND_RECORD: usize = 1024;

pub(super) struct Store {
    pub(super) pool: Pool<Server>,
    pub(super) sql: Statements,
    /// `None`: the server's clock.
    pub(super) clock: Option<Clock>,
    /// How long one step may take, waiting for a connection included. `None`: as long as it takes.
    pub(super) deadline: Option<Duration>,
    pub(super) retries: usize,
    pub(super) batch: Batch,
}

/// A row as it was stored; [`restored`] makes the record of it.
pub(super) struct Stored {
    bytes: Vec<u8>,
    touched: Option<u64>,
    expires: u64,
}

impl Store {
    /// What a step on one key is allowed in all.
    pub(super) async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, MySqlError>>,
    ) -> Result<T, MySqlError> {
        self.within(self.deadline, step).await
    }

    /// What a walk over many rows is allowed: no request waits for it.
    pub(super) async fn in_long_time<T>(
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

    /// Does `step` again where the server undid it for the sake of another transaction.
    pub(super) async fn undone<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.tried(false, step).await
    }

    /// Does `step` again also where the connection was lost: doing it twice changes nothing.
    pub(super) async fn idempotent<T, R: Future<Output = Result<T, MySqlError>>>(
        &self,
        step: impl Fn() -> R,
    ) -> Result<T, MySqlError> {
        self.tried(true, step).await
    }

    async fn tried<T, R: Future<Output = Result<T, MySqlError>>>(
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
                // The idle ones most likely lead to the same place.
                self.pool.forget();
            }
            let elsewhere = error.is_read_only() && self.pool.connector().dsn.params.reject_read_only;
            let undone = error.is_passing() || error.is_undone() || elsewhere;
            let again = undone || (idempotent && error.is_lost_connection());
            if !again || tried == self.retries {
                return Err(error);
            }
            tried += 1;
            if error.is_passing() {
                tokio::time::sleep(pause(tried)).await;
            }
        }
    }

    pub(super) async fn link(&self) -> Result<Link<'_>, MySqlError> {
        Ok(Link::new(self.pool.lease().await?))
    }

    /// The time to compare with, as it is bound.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| i64::try_from(clock.millis().0).unwrap_or(i64::MAX))
    }

    pub(super) async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created, MySqlError> {
        let columns = Columns::of(record);
        let mut link = self.link().await?;
        fits(&link, &[&columns], self.most())?;
        for _ in 0..TRIES {
            if self.inserted(&mut link, key, &columns).await? {
                return Ok(Created::Done);
            }
            if self.has(&mut link, &self.sql.taken, key).await? {
                return Ok(Created::Taken);
            }
        }
        Err(MySqlError::Contended)
    }

    /// Puts a record under a key that nothing live is under; false if something is, or just was.
    async fn inserted(
        &self,
        link: &mut Link<'_>,
        key: &StoreKey,
        columns: &Columns<'_>,
    ) -> Result<bool, MySqlError> {
        let mut bound = bind(columns);
        bound.bytes(key.as_bytes());
        match link.execute(&self.sql.insert, bound).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_duplicate() => {
                let mut bound = bind(columns);
                bound.bytes(key.as_bytes());
                bound.now(self.now());
                Ok(link.execute(&self.sql.replace, bound).await? == 1)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<Stored>, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        let rows = self.link().await?.fetch(&self.sql.load, bound).await?;
        rows.first().map(Stored::of).transpose()
    }

    pub(super) async fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        expected: u64,
    ) -> Result<Updated, MySqlError> {
        let columns = Columns::of(record);
        let mut link = self.link().await?;
        fits(&link, &[&columns], self.most())?;
        for _ in 0..TRIES {
            let mut bound = bind(&columns);
            bound.bytes(key.as_bytes());
            bound.number(expected);
            bound.now(self.now());
            if link.execute(&self.sql.update, bound).await? == 1 {
                return Ok(Updated::Done);
            }
            match self.version(&mut link, key).await? {
                None => return Ok(Updated::Gone),
                Some(found) if found != expected => return Ok(Updated::Stale),
                // It began between the two statements.
                Some(_) => {}
            }
        }
        Err(MySqlError::Contended)
    }

    pub(super) async fn touch(
        &self,
        key: &StoreKey,
        at: u64,
        deadline: u64,
        expected: u64,
    ) -> Result<Touched, MySqlError> {
        let mut link = self.link().await?;
        for _ in 0..TRIES {
            let mut bound = Arguments::default();
            bound.number(at);
            bound.number(deadline);
            bound.bytes(key.as_bytes());
            bound.number(expected);
            bound.now(self.now());
            if link.execute(&self.sql.touch, bound).await? == 1 {
                return Ok(Touched::Done);
            }
            match self.version(&mut link, key).await? {
                None => return Ok(Touched::Gone),
                Some(found) if found != expected => return Ok(Touched::Stale),
                // It began between the two statements; or see below.
                Some(_) => {}
            }
        }
        // A proxy may count only the rows that it changes, and this one had the same times before.
        Ok(Touched::Done)
    }

    pub(super) async fn delete(&self, key: &StoreKey) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        Ok(self.link().await?.execute(&self.sql.delete, bound).await? == 1)
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
        let mut link = self.link().await?;
        fits(
            &link,
            &[Some(&columns), tombstone.as_ref()].into_iter().flatten().collect::<Vec<_>>(),
            self.most(),
        )?;
        for _ in 0..TRIES {
            let moved = match &tombstone {
                // A row cannot make way for itself.
                _ if old == new => Moved::InTheWay,
                None => self.rekey(&mut link, (old, new), &columns, expected).await?,
                Some(tombstone) => {
                    self.replace_by(&mut link, (old, new), &columns, expected, tombstone).await?
                }
            };
            match moved {
                Moved::Done => return Ok(Renamed::Done),
                Moved::NotThere => match self.version(&mut link, old).await? {
                    None => return Ok(Renamed::Gone),
                    Some(found) if found != expected => return Ok(Renamed::Stale),
                    // It began between the two statements.
                    Some(_) => {}
                },
                Moved::InTheWay if self.has(&mut link, &self.sql.taken, new).await? => {
                    return Ok(Renamed::Taken);
                }
                Moved::InTheWay if old == new => return Ok(Renamed::Gone),
                Moved::InTheWay => {}
            }
        }
        Err(MySqlError::Contended)
    }

    /// Gives the row another key: one statement, which the server does as a whole.
    async fn rekey(
        &self,
        link: &mut Link<'_>,
        (old, new): (&StoreKey, &StoreKey),
        columns: &Columns<'_>,
        expected: u64,
    ) -> Result<Moved, MySqlError> {
        let mut bound = bind(columns);
        bound.bytes(new.as_bytes());
        bound.bytes(old.as_bytes());
        bound.number(expected);
        bound.now(self.now());
        match link.execute(&self.sql.rekey, bound).await {
            Ok(0) => Ok(Moved::NotThere),
            Ok(_) => Ok(Moved::Done),
            Err(error) if error.is_duplicate() => {
                let mut bound = Arguments::default();
                bound.bytes(new.as_bytes());
                bound.now(self.now());
                link.execute(&self.sql.bury, bound).await?;
                Ok(Moved::InTheWay)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves a tombstone under the old key and puts the record under the new one, in one transaction.
    async fn replace_by(
        &self,
        link: &mut Link<'_>,
        (old, new): (&StoreKey, &StoreKey),
        columns: &Columns<'_>,
        expected: u64,
        tombstone: &Columns<'_>,
    ) -> Result<Moved, MySqlError> {
        // From here on nothing is done before the COMMIT, wherever the connection is lost.
        link.hold_transaction();
        link.command(SqlStr::from_static("START TRANSACTION")).await?;
        let mut bound = bind(tombstone);
        bound.bytes(old.as_bytes());
        bound.number(expected);
        bound.now(self.now());
        let moved = match link.execute(&self.sql.update, bound).await? {
            0 => Moved::NotThere,
            _ if self.inserted(link, new, columns).await? => Moved::Done,
            _ => Moved::InTheWay,
        };
        // In full, so that no completion_type begins another transaction or ends the connection.
        let end = match moved {
            Moved::Done => "COMMIT AND NO CHAIN NO RELEASE",
            Moved::NotThere | Moved::InTheWay => "ROLLBACK AND NO CHAIN NO RELEASE",
        };
        link.let_go();
        link.command(SqlStr::from_static(end)).await?;
        Ok(moved)
    }

    /// The version of the live session under `key`.
    async fn version(&self, link: &mut Link<'_>, key: &StoreKey) -> Result<Option<u64>, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        let rows = link.fetch(&self.sql.version, bound).await?;
        let version = rows.first().map(|row| row.try_get(0)).transpose();
        version.map_err(|_| MySqlError::Row { column: "version" })
    }

    /// Whether `sql` finds a row of `key`.
    async fn has(&self, link: &mut Link<'_>, sql: &SqlStr, key: &StoreKey) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.bytes(key.as_bytes());
        bound.now(self.now());
        Ok(!link.fetch(sql, bound).await?.is_empty())
    }

    /// Takes a record that cannot be read out of the way and keeps it for a week, if it is still the one that was loaded; false if not.
    pub(super) async fn put_aside(&self, key: &StoreKey, bytes: &[u8]) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        bound.now(self.now());
        bound.bytes(key.as_bytes());
        bound.bytes(bytes);
        Ok(self.link().await?.execute(&self.sql.put_aside, bound).await? == 1)
    }

    /// The largest record that the settings allow.
    pub(super) fn most(&self) -> usize {
        let chosen = self.pool.connector().dsn.params.max_packet.filter(|bytes| *bytes != 0);
        most_of(chosen.unwrap_or(usize::MAX))
    }
}

/// What became of a row that was to move.
enum Moved {
    Done,
    /// No live row of that version is there.
    NotThere,
    /// Something was under the new key. If it had expired it has gone now.
    InTheWay,
}

/// The largest record that a packet of `max_packet` bytes takes to the server.
pub(super) fn most_of(max_packet: usize) -> usize {
    // Below 16 MiB a statement is one packet of the protocol.
    max_packet.min(schema::LARGEST_RECORD).saturating_sub(AROUND_RECORD)
}

/// Sees before anything is sent that it can arrive: what is too large for the server ends the connection.
fn fits(link: &Link<'_>, all: &[&Columns<'_>], chosen: usize) -> Result<(), MySqlError> {
    let packet = link.session().map_or(usize::MAX, |session| session.max_packet);
    let (limit, reason) = match most_of(packet) {
        limit if limit <= chosen && limit < most_of(usize::MAX) => {
            (limit, "the server's max_allowed_packet, less 1 KiB")
        }
        _ if chosen < most_of(usize::MAX) => (chosen, "maxAllowedPacket of the data source name, less 1 KiB"),
        limit => (limit, "a MEDIUMBLOB, less 1 KiB"),
    };
    match all.iter().map(|columns| columns.record.len()).find(|found| *found > limit) {
        Some(found) => Err(MySqlError::TooLarge { limit, found, reason }),
        None => Ok(()),
    }
}

/// Binds what every statement that writes a record begins with.
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

impl Stored {
    /// The columns `record`, `touched` and `expires`.
    fn of(row: &MySqlRow) -> Result<Self, MySqlError> {
        let bytes = row.try_get(0).map_err(|_| MySqlError::Row { column: "record" })?;
        let touched = row.try_get(1).map_err(|_| MySqlError::Row { column: "touched" })?;
        let expires = row.try_get(2).map_err(|_| MySqlError::Row { column: "expires" })?;
        Ok(Stored { bytes, touched, expires })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn record(&self) -> Result<Record> {
        restored(&self.bytes, self.touched, self.expires)
    }
}

/// Some milliseconds, by chance, so that those who met do not meet again.
fn pause(tried: usize) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    Duration::from_millis(2).mul_f64(f64::from(chance) / f64::from(u32::MAX) * tried as f64 * 4.0)
}
