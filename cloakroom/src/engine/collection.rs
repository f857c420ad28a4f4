//! Notices when nobody collects garbage for this manager.

use super::Engine;
use crate::clock::Millis;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// Sessions that begin without garbage collection before that is told: more than a test makes, fewer than a site in use.
const MANY: usize = 100;

/// Intervals of garbage collection after which it is told at the next session.
const LATE: u32 = 2;

#[derive(Debug)]
pub(super) struct Collection {
    since: Millis,
    /// Set when there is nothing to tell: somebody collects, the store needs nobody to, or it was told before.
    settled: AtomicBool,
    running: AtomicUsize,
    begun: AtomicUsize,
}

impl Collection {
    pub(super) fn new(since: Millis, needless: bool) -> Self {
        Collection {
            since,
            settled: AtomicBool::new(needless),
            running: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
        }
    }
}

impl Engine {
    /// Notes that somebody has collected garbage, and so will again.
    pub(crate) fn note_collection(&self) {
        self.collection.settled.store(true, Ordering::Relaxed);
    }

    /// Notes that garbage is collected in the background from now on.
    pub(crate) fn begin_collection(&self) {
        self.collection.running.fetch_add(1, Ordering::Relaxed);
        self.note_collection();
    }

    /// Notes that this has stopped.
    pub(crate) fn end_collection(&self) {
        if self.collection.running.fetch_sub(1, Ordering::Relaxed) == 1 && !self.needs_no_collection() {
            self.collection.settled.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn needs_no_collection(&self) -> bool {
        use crate::provider::Provider;
        self.provider.capabilities().native_expiry
    }

    /// Notes that a client is told of its session, and says once if nobody collects what expires.
    #[inline]
    pub(super) fn look_for_collection(&self) {
        if !self.collection.settled.load(Ordering::Relaxed) {
            self.miss_collection();
        }
    }

    #[cold]
    fn miss_collection(&self) {
        let begun = self.collection.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let late = self.now().since(self.collection.since) >= self.config.gc_interval * LATE;
        if (begun >= MANY || late) && !self.collection.settled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "nobody collects the sessions that expire, so the store grows for ever: keep what Manager::spawn_gc returns for as \
                 long as the application runs, unless another process collects"
            );
        }
    }
}
