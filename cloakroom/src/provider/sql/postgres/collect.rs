//! Garbage collection: in small batches, by an index, on one node at a time.

use std::time::{Duration, Instant};

use super::error::PostgresError;
use super::store::PostgresStore;
use super::value::SqlValue;
use crate::provider::Collected;

/// The longest pause after a batch.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The time after which a call that finds only sessions in use returns, well within its deadline of 20 s by default.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

impl PostgresStore {
    /// Deletes at most `limit` expired rows, the oldest first. If another node is collecting, it deletes nothing and reports that none
    /// remain, since the other node goes on.
    pub(super) async fn collect(&self, limit: usize) -> Result<Collected, PostgresError> {
        if limit == 0 {
            return Ok(Collected { removed: 0, more: self.remains().await? });
        }
        let start = Instant::now();
        loop {
            let size = self.batch.size();
            let begun = Instant::now();
            let (removed, picked) = self.collect_batch(size, limit).await?;
            let took = begun.elapsed();
            if picked == size {
                self.batch.learn(size, took);
            }
            let is_full = removed >= limit || picked >= size;
            let more = is_full && self.remains().await?;
            if more {
                // Pause for as long as the batch took, so that collection takes at most half of the server's time.
                tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
            }
            // A batch of sessions that were used since has moved their time, and the next one looks further.
            if removed > 0 || !more || start.elapsed() > LONGEST_LOOK {
                return Ok(Collected { removed, more });
            }
        }
    }

    /// Looks at the `size` rows that are due for longest. Returns how many it has removed, and how many there were.
    async fn collect_batch(&self, size: usize, limit: usize) -> Result<(usize, usize), PostgresError> {
        let bound = |number: usize| SqlValue::Number(i64::try_from(number).unwrap_or(i64::MAX));
        let values = [self.now(), bound(size), SqlValue::Number(self.sql.lock), bound(limit)];
        let rows = self.connection().await?.fetch(&self.sql.collect, &values).await?;
        let row = rows.first().ok_or(PostgresError::Protocol)?;
        let number = |place: usize| {
            let number = row.try_get::<_, i64>(place).ok().and_then(|number| usize::try_from(number).ok());
            number.ok_or(PostgresError::Protocol)
        };
        Ok((number(0)?, number(1)?))
    }

    /// Returns true if a row is due. It may belong to a session that was used since: to know that, every such row would have to be read.
    async fn remains(&self) -> Result<bool, PostgresError> {
        let rows = self.connection().await?.fetch(&self.sql.remaining, &[self.now()]).await?;
        rows.first().and_then(|row| row.try_get(0).ok()).ok_or(PostgresError::Protocol)
    }
}
