//! An optional instant that many tasks read and write without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// An optional instant, stored as the nanoseconds since `first` plus one. 0 is none.
pub(super) struct AtomicInstant {
    first: Instant,
    since: AtomicU64,
}

impl AtomicInstant {
    /// Returns an empty value.
    pub(super) fn none() -> AtomicInstant {
        AtomicInstant { first: Instant::now(), since: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, now: Instant) {
        self.since.store(self.number(now), Ordering::Relaxed);
    }

    pub(super) fn set_if_none(&self, now: Instant) {
        // A read is cheaper than a write that other threads contend for.
        if self.since.load(Ordering::Relaxed) == 0 {
            let _ = self.since.compare_exchange(0, self.number(now), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) {
        // A read is cheaper, as above.
        if self.since.load(Ordering::Relaxed) != 0 {
            self.since.store(0, Ordering::Relaxed);
        }
    }

    /// Returns true if an instant is set and is at least `time` ago.
    pub(super) fn is_past(&self, now: Instant, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.number(now).saturating_sub(since) >= time.as_nanos() as u64
    }

    /// Returns true if an instant is set and is less than `time` ago.
    pub(super) fn is_within(&self, now: Instant, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.number(now).saturating_sub(since) < time.as_nanos() as u64
    }

    fn number(&self, at: Instant) -> u64 {
        // The number overflows after 584 years.
        at.saturating_duration_since(self.first).as_nanos() as u64 + 1
    }
}
