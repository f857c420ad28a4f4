//! How much garbage is collected at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many rows one statement removes: it holds their locks, and what it writes holds up everyone else's commit, until it is done.
/// So many as take the server about [`AIM`](Self::AIM), which a small or busy one is asked for less by.
#[derive(Debug)]
pub(super) struct Batch(AtomicUsize);

impl Batch {
    const LEAST: usize = 50;
    const MOST: usize = 1_000;
    const AIM: Duration = Duration::from_millis(20);

    pub(super) fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from a full batch that took so long.
    pub(super) fn learn(&self, size: usize, took: Duration) {
        let next = match took {
            _ if took > 2 * Self::AIM => size / 2,
            _ if took < Self::AIM / 2 => size * 2,
            _ => size,
        };
        self.0.store(next.clamp(Self::LEAST, Self::MOST), Ordering::Relaxed);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch(AtomicUsize::new(2 * Self::LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_grows_while_the_server_is_quick_and_shrinks_when_it_is_not() {
        let batch = Batch::default();
        let mut sizes = Vec::new();
        for millis in [1, 1, 1, 1, 1, 15, 30, 41, 200, 200, 200, 200, 200, 9] {
            batch.learn(batch.size(), Duration::from_millis(millis));
            sizes.push(batch.size());
        }
        assert_eq!(sizes, [200, 400, 800, 1_000, 1_000, 1_000, 1_000, 500, 250, 125, 62, 50, 50, 100]);
    }
}
