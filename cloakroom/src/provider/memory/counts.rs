//! The numbers of records in a store, and its limits.

use crate::record::Record;
use crate::sync::{AtomicUsize, Ordering};

/// The minimum number of tombstones that a store with a limit keeps. A small site has fewer logouts within the longest request.
pub(super) const TOMBSTONES: usize = 1024;

/// The numbers of records in all shards, including expired ones that were not collected.
#[derive(Debug)]
pub(super) struct MemoryCounts {
    pub(super) max_sessions: usize,
    sessions: AtomicUsize,
    tombstones: AtomicUsize,
}

impl MemoryCounts {
    pub(super) fn new(max_sessions: usize) -> Self {
        MemoryCounts { max_sessions, sessions: AtomicUsize::new(0), tombstones: AtomicUsize::new(0) }
    }

    /// Adds a session. Returns false if it is one too many.
    #[inline]
    pub(super) fn add_session(&self) -> bool {
        self.sessions.fetch_add(1, Ordering::Relaxed) < self.max_sessions
    }

    #[inline]
    pub(super) fn remove_session(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn add_tombstone(&self) {
        self.tombstones.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes `record` from the number of sessions or of tombstones.
    #[inline]
    pub(super) fn remove(&self, record: &Record) {
        let counter = if record.is_tombstone() { &self.tombstones } else { &self.sessions };
        counter.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns true if there are no more sessions than the limit allows.
    pub(super) fn fit(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) <= self.max_sessions
    }

    /// Removes one session from the number if there are too many. Returns true if it did.
    pub(super) fn take_out_excess(&self) -> bool {
        let less = |sessions: usize| (sessions > self.max_sessions).then(|| sessions - 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Returns true if there are more tombstones than the store keeps.
    #[inline]
    pub(super) fn has_spare_tombstones(&self) -> bool {
        self.tombstones.load(Ordering::Relaxed) > self.max_sessions.max(TOMBSTONES)
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}
