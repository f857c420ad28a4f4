//! Garbage collection: in small batches, by the index, one node at a time.

use std::time::{Duration, Instant};

use sqlx::Row;

use super::error::MySqlError;
use super::link::{Arguments, Link};
use super::store::Store;
use crate::provider::Collected;

/// The longest pause after a batch.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Store {
    /// Removes at most `limit` expired rows and no more than a batch, the oldest first. If another node is at it, nothing
    /// is done and nothing said to remain: that one goes on.
    pub(super) async fn collect(&self, limit: usize) -> Result<Collected, MySqlError> {
        let mut link = self.link().await?;
        if limit == 0 {
            return Ok(Collected { removed: 0, more: self.remains(&mut link).await? });
        }
        if !self.locked(&mut link).await? {
            return Ok(Collected::default());
        }
        let start = Instant::now();
        let size = self.batch.size();
        let batch = limit.min(size);
        let removed = self.removed(&mut link, batch).await?;
        let took = start.elapsed();
        if removed == size {
            self.batch.learn(size, took);
        }
        let more = removed >= batch && self.remains(&mut link).await?;
        self.unlock(&mut link).await?;
        drop(link);
        if more {
            // As long as it took, so that at most half of the server's time goes into this.
            tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
        }
        Ok(Collected { removed, more })
    }

    async fn removed(&self, link: &mut Link<'_>, batch: usize) -> Result<usize, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        bound.number(batch as u64);
        let removed = link.execute(&self.sql.collect, bound).await?;
        Ok(usize::try_from(removed).unwrap_or(batch))
    }

    async fn remains(&self, link: &mut Link<'_>) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        Ok(!link.fetch(&self.sql.remaining, bound).await?.is_empty())
    }

    /// Takes the lock that says who collects, without waiting for it; the server frees it when the connection ends.
    async fn locked(&self, link: &mut Link<'_>) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        bound.text(&self.sql.lock_name);
        // Held from before it is asked for: if the answer is never read, the lock may be ours.
        link.hold_lock();
        let rows = link.fetch(&self.sql.lock, bound).await?;
        let locked = rows.first().and_then(|row| row.try_get::<Option<i64>, _>(0).ok().flatten()) == Some(1);
        if !locked {
            link.settle();
        }
        Ok(locked)
    }

    async fn unlock(&self, link: &mut Link<'_>) -> Result<(), MySqlError> {
        let mut bound = Arguments::default();
        bound.text(&self.sql.lock_name);
        link.let_go();
        link.execute(&self.sql.unlock, bound).await.map(drop)
    }
}
