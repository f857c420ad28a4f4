//! The batch size of garbage collection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The number of rows that one statement deletes. The statement locks its rows and delays other commits until it ends, so the size
/// adapts until a batch takes about [`AIM`](Self::AIM).
#[derive(Debug)]
pub(super) struct BatchSize(AtomicUsize);

impl BatchSize {
    const LEAST: usize = 50;
    const MOST: usize = 1_000;
    const AIM: Duration = Duration::from_millis(20);

    pub(super) fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Adapts the size after a full batch that took `took`.
    pub(super) fn learn(&self, size: usize, took: Duration) {
        let next = match took {
            _ if took > 2 * Self::AIM => size / 2,
            _ if took < Self::AIM / 2 => size * 2,
            _ => size,
        };
        self.0.store(next.clamp(Self::LEAST, Self::MOST), Ordering::Relaxed);
    }
}

impl Default for BatchSize {
    fn default() -> Self {
        BatchSize(AtomicUsize::new(2 * Self::LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_size_follows_the_speed_of_the_server() {
        let batch = BatchSize::default();
        let mut sizes = Vec::new();
        for millis in [1, 1, 1, 1, 1, 15, 30, 41, 200, 200, 200, 200, 200, 9] {
            batch.learn(batch.size(), Duration::from_millis(millis));
            sizes.push(batch.size());
        }
        assert_eq!(sizes, [200, 400, 800, 1_000, 1_000, 1_000, 1_000, 500, 250, 125, 62, 50, 50, 100]);
    }
}
