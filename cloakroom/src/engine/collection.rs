//! A warning if expired sessions are never collected.

use std::time::Duration;

use crate::clock::{Clock, Millis};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// The number of sessions without garbage collection before the warning: more than a test makes, fewer than a site in use.
const MANY: usize = 100;

/// The number of intervals without garbage collection before the warning.
const LATE: u32 = 2;

/// Counts sessions and garbage collectors of one manager.
#[derive(Debug)]
pub(crate) struct Collection {
    clock: Clock,
    interval: Duration,
    /// The time of the manager's start.
    since: Millis,
    /// True if the store removes expired sessions by itself.
    is_needless: bool,
    /// True if there is nothing to warn of: a collector runs, none is needed, or the warning was given.
    settled: AtomicBool,
    /// The number of background collectors that run.
    running: AtomicUsize,
    /// The number of tokens that clients were told.
    told: AtomicUsize,
}

impl Collection {
    pub(crate) fn new(clock: Clock, interval: Duration, is_needless: bool) -> Self {
        Collection {
            since: clock.millis(),
            clock,
            interval,
            is_needless,
            settled: AtomicBool::new(is_needless),
            running: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
        }
    }

    /// Records that the application has collected garbage once, and so will again.
    pub(crate) fn record_round(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Records that a background collector has started.
    pub(crate) fn record_start(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.record_round();
    }

    /// Records that a background collector has stopped.
    pub(crate) fn record_stop(&self) {
        if self.running.fetch_sub(1, Ordering::Relaxed) == 1 && !self.is_needless {
            self.settled.store(false, Ordering::Relaxed);
        }
    }

    /// Records that a client is told its token. Warns once if no collector runs.
    #[inline]
    pub(crate) fn record_session(&self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.count_session();
        }
    }

    #[cold]
    fn count_session(&self) {
        let told = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        let late = self.clock.millis().since(self.since) >= self.interval * LATE;
        if (told >= MANY || late) && !self.settled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "nobody collects the sessions that expire, so the store grows without end: keep the guard that Manager::spawn_gc \
                 returns for as long as the application runs, unless another process collects"
            );
        }
    }
}
