//! The calls of the provider contract: which thread runs each of them, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::SqliteError;
use super::list;
use super::readers::{ReadKind, ReadPool};
use super::schema::LARGEST_RECORD;
use super::statements::SqliteStatements;
use super::steps::ChangeStep;
use super::value::bound;
use super::writer::Writer;
use crate::clock::Clock;
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::sql::batch::BatchSize;
use crate::provider::sql::row::StoredRow;
use crate::provider::{Collected, Cursor, Page};
use crate::record::{IndexEntry, Record};

/// The longest pause after a batch of garbage collection.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The calls of the contract: a load or a list goes to the readers, everything else to the thread that writes.
pub(super) struct SqliteStore {
    // Dropped before the writer, whose thread then closes the last connection.
    pub(super) readers: Arc<ReadPool>,
    pub(super) writer: Writer,
    pub(super) sql: Arc<SqliteStatements>,
    pub(super) clock: Clock,
    /// The time limit of one call; `None` for no limit.
    pub(super) deadline: Option<Duration>,
    pub(super) batch: BatchSize,
}

impl SqliteStore {
    /// Returns the time limit of a call on many rows: ten times the deadline, since no request waits for it.
    pub(super) fn long_deadline(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_mul(10))
    }

    fn now(&self) -> i64 {
        bound(self.clock.millis().0)
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<StoredRow>, SqliteError> {
        let now = bound(self.clock.recent().0);
        if let Some(answer) = self.readers.try_here(|connection| list::load(connection, &self.sql, key, now))
        {
            return answer;
        }
        let key = key.clone();
        let read = move |connection: &Connection, sql: &SqliteStatements, now| {
            list::load(connection, sql, &key, now)
        };
        self.read(ReadKind::Load, self.deadline, read).await
    }

    pub(super) async fn count(&self) -> Result<u64, SqliteError> {
        self.read(ReadKind::List, self.long_deadline(), list::count).await
    }

    /// Returns a page of all sessions, or of those under `entry`.
    pub(super) async fn page(
        &self,
        entry: Option<&IndexEntry>,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, SqliteError> {
        let entry = entry.cloned();
        let read = move |connection: &Connection, sql: &SqliteStatements, now| {
            list::page(connection, sql, entry.as_ref(), cursor.as_ref(), (limit, now))
        };
        self.read(ReadKind::List, self.long_deadline(), read).await
    }

    /// Runs a read on a thread. If the file was removed or replaced, the thread that writes opens it again first.
    async fn read<T: Send + 'static>(
        &self,
        kind: ReadKind,
        limit: Option<Duration>,
        step: impl Fn(&Connection, &SqliteStatements, i64) -> Result<T, SqliteError> + Clone + Send + 'static,
    ) -> Result<T, SqliteError> {
        let attempt = || {
            let (sql, now, step) = (Arc::clone(&self.sql), self.now(), step.clone());
            self.readers.on_thread(kind, limit, move |connection| step(connection, &sql, now))
        };
        match attempt().await {
            Err(error) if error.is_moved() => {
                self.change(true, |_| Ok(())).await?;
                attempt().await
            }
            answer => answer,
        }
    }

    /// Runs a change within the deadline.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        frees_room: bool,
        step: impl Fn(&ChangeStep<'_>) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        self.writer.change(self.deadline, frees_room, step).await
    }

    /// Deletes a batch of at most `limit` expired records.
    pub(super) async fn collect(&self, limit: usize) -> Result<Collected, SqliteError> {
        let size = self.batch.size();
        let batch = limit.min(size);
        let collect = move |step: &ChangeStep<'_>| {
            let start = Instant::now();
            Ok((step.collect(batch)?, start.elapsed()))
        };
        let (collected, took) = self.writer.change(self.long_deadline(), true, collect).await?;
        if collected.removed == size {
            self.batch.learn(size, took);
        }
        if collected.more && limit > 0 {
            // Pause for as long as the batch took, so that collection takes at most half of the time for changes.
            tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
        }
        Ok(collected)
    }

    /// Checks the size of records before they wait for the thread that writes.
    pub(super) fn check_size(all: &[Option<&Record>]) -> Result<(), SqliteError> {
        let sizes = all.iter().flatten().map(|record| record.as_bytes().len());
        match sizes.max() {
            Some(found) if found > LARGEST_RECORD => {
                Err(SqliteError::TooLarge { limit: LARGEST_RECORD, found })
            }
            _ => Ok(()),
        }
    }
}
