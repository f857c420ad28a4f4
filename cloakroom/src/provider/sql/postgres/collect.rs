//! Garbage collection: in small batches, by an index, on one node at a time.

use std::time::{Duration, Instant};

use super::error::PostgresError;
use super::store::PostgresStore;
use super::value::SqlValue;
use crate::provider::Collected;

/// The longest pause after a batch.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl PostgresStore {
    /// Deletes the expired among at most `limit` rows that are due, the oldest first. If another node is collecting, it deletes nothing
    /// and reports that none remain, since the other node goes on.
    pub(super) async fn collect(&self, limit: usize) -> Result<Collected, PostgresError> {
        let mut connection = self.connection().await?;
        if limit == 0 {
            let rows = connection.fetch(&self.sql.remaining, &[self.now()]).await?;
            let more = rows.first().and_then(|row| row.try_get(0).ok()).ok_or(PostgresError::Protocol)?;
            return Ok(Collected { removed: 0, more });
        }
        let size = self.batch.size();
        let batch = limit.min(size);
        let values = [self.now(), SqlValue::Number(batch as i64), SqlValue::Number(self.sql.lock)];
        let begun = Instant::now();
        let rows = connection.fetch(&self.sql.collect, &values).await?;
        let took = begun.elapsed();
        let row = rows.first().ok_or(PostgresError::Protocol)?;
        let number = |place: usize| {
            let number = row.try_get::<_, i64>(place).ok().and_then(|number| usize::try_from(number).ok());
            number.ok_or(PostgresError::Protocol)
        };
        let (removed, picked) = (number(0)?, number(1)?);
        if picked == size {
            self.batch.learn(size, took);
        }
        drop(connection);
        let more = picked >= batch;
        if more {
            // Pause for as long as the batch took, so that collection takes at most half of the server's time.
            tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
        }
        Ok(Collected { removed, more })
    }
}
