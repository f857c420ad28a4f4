//! Garbage collection: in small batches, by an index, on one node at a time.

use std::time::{Duration, Instant};

use sqlx::Row;

use super::connection::{Arguments, ConnectionLease};
use super::error::MySqlError;
use super::store::MySqlStore;
use crate::provider::Collected;

/// The longest pause after a batch.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl MySqlStore {
    /// Deletes a batch of at most `limit` expired rows, the oldest first. If another node is collecting, it deletes nothing and
    /// reports that none remain, since the other node goes on.
    pub(super) async fn collect(&self, limit: usize) -> Result<Collected, MySqlError> {
        let mut connection = self.connection().await?;
        if limit == 0 {
            return Ok(Collected { removed: 0, more: self.remains(&mut connection).await? });
        }
        if !self.locked(&mut connection).await? {
            return Ok(Collected::default());
        }
        let start = Instant::now();
        let size = self.batch.size();
        let batch = limit.min(size);
        let removed = self.removed(&mut connection, batch).await?;
        let took = start.elapsed();
        if removed == size {
            self.batch.learn(size, took);
        }
        let more = removed >= batch && self.remains(&mut connection).await?;
        self.unlock(&mut connection).await?;
        drop(connection);
        if more {
            // Pause for as long as the batch took, so that collection takes at most half of the server's time.
            tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
        }
        Ok(Collected { removed, more })
    }

    /// Deletes the index rows of the oldest expired records, then the records. A record that still has index rows stays, so that no
    /// step between the two leaves index rows without a record.
    async fn removed(&self, connection: &mut ConnectionLease<'_>, batch: usize) -> Result<usize, MySqlError> {
        let mut removed = 0;
        for sql in [&self.sql.collect_index, &self.sql.collect] {
            let mut bound = Arguments::default();
            bound.now(self.now());
            bound.number(batch as u64);
            removed = connection.execute(sql, bound).await?;
        }
        Ok(usize::try_from(removed).unwrap_or(batch))
    }

    async fn remains(&self, connection: &mut ConnectionLease<'_>) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        Ok(!connection.fetch(&self.sql.remaining, bound).await?.is_empty())
    }

    /// Takes the lock of garbage collection without waiting. The server releases it when the connection ends.
    async fn locked(&self, connection: &mut ConnectionLease<'_>) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.text(&self.sql.lock_name);
        // Mark the lock as held before the request: if the reply is never read, this connection may hold it.
        connection.hold_lock();
        let rows = connection.fetch(&self.sql.lock, bound).await?;
        let locked = rows.first().and_then(|row| row.try_get::<Option<i64>, _>(0).ok().flatten()) == Some(1);
        if !locked {
            connection.hold_nothing();
        }
        Ok(locked)
    }

    async fn unlock(&self, connection: &mut ConnectionLease<'_>) -> Result<(), MySqlError> {
        let mut bound = Arguments::default();
        bound.text(&self.sql.lock_name);
        connection.release_next();
        connection.execute(&self.sql.unlock, bound).await.map(drop)
    }
}
