//! An instant or none, for many to read and write at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// One more than the nanoseconds since `first`; 0 for none.
pub(super) struct Moment {
    first: Instant,
    since: AtomicU64,
}

impl Moment {
    /// None yet.
    pub(super) fn none() -> Moment {
        Moment { first: Instant::now(), since: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, now: Instant) {
        self.since.store(self.number(now), Ordering::Relaxed);
    }

    pub(super) fn set_if_none(&self, now: Instant) {
        // Read first: a write is slower where other threads write, too.
        if self.since.load(Ordering::Relaxed) == 0 {
            let _ = self.since.compare_exchange(0, self.number(now), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        // Read first, as above.
        if self.since.load(Ordering::Relaxed) != 0 {
            self.since.store(0, Ordering::Relaxed);
        }
    }

    /// True if there is one, and it is at least `time` ago.
    pub(super) fn is_past(&self, now: Instant, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.number(now).saturating_sub(since) >= time.as_nanos() as u64
    }

    /// True if there is one, and it is less than `time` ago.
    pub(super) fn is_within(&self, now: Instant, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.number(now).saturating_sub(since) < time.as_nanos() as u64
    }

    fn number(&self, at: Instant) -> u64 {
        // The number overflows after 584 years.
        at.saturating_duration_since(self.first).as_nanos() as u64 + 1
    }
}
