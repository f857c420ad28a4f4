//! The copies of records, and the rules by which one may be used.
//!
//! A copy is used only if no change can have been missed since its load was asked for. There are two rules. With a time limit, a
//! copy is used for that long. With reports of changes, a copy is used until its key is reported, and only within one uninterrupted
//! listening period. A change made through this process drops the copy in either case.
//!
//! | event | effect with [`Freshness::Told`] |
//! |---|---|
//! | [`listening`](Watcher::listening) | a new period begins; copies of former ones are not used |
//! | [`heard_until`](Watcher::heard_until) | copies may be used until that time; if the former time is over, all are dropped first |
//! | [`changed`](Watcher::changed) | the copy of this key is dropped, and the place of a load that is under way |
//! | [`deaf`](Watcher::deaf) | the period ends: every load asks the store until the next one begins |
//!
//! The number of the period is odd while reports come in and even while they do not. With a time limit it starts at 1, and only
//! [`clear`](Copies::clear) changes it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};

use crate::clock::{Clock, Millis};
use crate::id::StoreKey;
use crate::provider::Watcher;
use crate::record::Record;

/// The bytes of a copy besides its record: the key, the numbers below, two reference counts and its entry in the table.
const OVERHEAD: u64 = 160;

/// The mean size of a record with some values. The cache uses it only to size its tables.
const COMMON: u64 = 512;

/// Records as they were when they were loaded.
pub(super) struct Copies {
    cache: Cache<StoreKey, Copy, Bytes>,
    freshness: Freshness,
    clock: Clock,
    /// The number of the listening period: odd while the store reports changes, even while it cannot. Every begin and end of a period
    /// increases it. A copy of an earlier period is not used.
    epoch: AtomicU64,
    /// The time until which the reports are known to be complete, in milliseconds after `began`; 0 if no limit was set.
    heard_until: AtomicU64,
    began: Instant,
}

/// The rule by which a copy may be used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Freshness {
    /// A copy may be used for this long after its load was asked for.
    Within(Duration),
    /// A copy may be used until the store reports a change.
    Told,
}

/// A record as it was loaded, and the time at which its load was asked for.
#[derive(Clone)]
struct Copy {
    record: Record,
    /// The time and the period in which the load was asked for. The record was read later than that.
    asked: Asked,
}

/// The time and the listening period in which a load was asked for. They are read before the load, so that a change during it is not missed.
#[derive(Clone, Copy)]
struct Asked {
    at: Millis,
    epoch: u64,
}

/// The result of a lookup.
pub(super) enum CopyLookup<'a> {
    Copy(Record),
    /// There is no usable copy. The record that the caller loads now may be kept in this slot.
    Slot(CopySlot<'a>),
}

/// The slot of a record that is being loaded. A change of the key meanwhile removes the slot, so that what was read before it
/// is not kept after it.
pub(super) struct CopySlot<'a> {
    guard: Option<Guard<'a>>,
    asked: Asked,
}

type Guard<'a> =
    PlaceholderGuard<'a, StoreKey, Copy, Bytes, DefaultHashBuilder, DefaultLifecycle<StoreKey, Copy>>;

impl Copies {
    pub(super) fn new(max_bytes: u64, clock: Clock, freshness: Freshness) -> Self {
        let items = (max_bytes / COMMON).clamp(16, 1 << 24) as usize;
        let cache = Cache::with_weighter(items, max_bytes, Bytes);
        let epoch = match freshness {
            Freshness::Within(_) => 1,
            Freshness::Told => 0,
        };
        let (epoch, heard_until) = (AtomicU64::new(epoch), AtomicU64::new(0));
        Copies { cache, freshness, clock, epoch, heard_until, began: Instant::now() }
    }

    /// Returns the copy under `key`, or the slot for one. It never waits: if another request is loading the record, this one loads it
    /// too.
    pub(super) fn find(&self, key: &StoreKey) -> CopyLookup<'_> {
        let asked = Asked { at: self.clock.millis(), epoch: self.epoch.load(Ordering::Acquire) };
        let listening = asked.epoch % 2 == 1 && self.is_heard();
        match listening.then(|| self.cache.get_value_or_guard(key, Some(Duration::ZERO))) {
            Some(GuardResult::Value(copy)) if self.is_fresh(&copy, asked) => CopyLookup::Copy(copy.record),
            Some(GuardResult::Value(_)) => {
                // Remove only a stale copy: another request may have stored a newer one.
                self.cache.remove_if(key, |copy| !self.is_fresh(copy, asked));
                let guard = self.cache.get_value_or_guard(key, Some(Duration::ZERO));
                CopyLookup::Slot(CopySlot { guard: guard_of(guard), asked })
            }
            Some(other) => CopyLookup::Slot(CopySlot { guard: guard_of(other), asked }),
            None => CopyLookup::Slot(CopySlot { guard: None, asked }),
        }
    }

    /// Returns true if the reports of changes are complete up to now. Real time counts here, not the application's clock.
    fn is_heard(&self) -> bool {
        match self.heard_until.load(Ordering::Acquire) {
            0 => true,
            until => (self.began.elapsed().as_millis() as u64) < until,
        }
    }

    fn is_fresh(&self, copy: &Copy, now: Asked) -> bool {
        let in_time = match self.freshness {
            Freshness::Within(bound) => now.at < copy.asked.at.after(bound),
            Freshness::Told => true,
        };
        in_time && copy.asked.epoch == now.epoch && !copy.record.expired_at(now.at)
    }

    /// Drops the copy under `key` at the end of a change, whatever its outcome, since the outcome may be unknown.
    pub(super) fn changing<'a>(&'a self, key: &'a StoreKey) -> Changing<'a> {
        Changing { copies: self, key }
    }

    pub(super) fn clear(&self) {
        // A step of two keeps it odd or even. Loads under way belong to an earlier period, too.
        self.epoch.fetch_add(2, Ordering::AcqRel);
        self.cache.clear();
    }
}

fn guard_of<'a, L>(
    result: GuardResult<'a, StoreKey, Copy, Bytes, DefaultHashBuilder, L>,
) -> Option<PlaceholderGuard<'a, StoreKey, Copy, Bytes, DefaultHashBuilder, L>> {
    match result {
        GuardResult::Guard(guard) => Some(guard),
        GuardResult::Value(_) | GuardResult::Timeout => None,
    }
}

impl CopySlot<'_> {
    /// Keeps a record in this slot, unless a change has removed the slot.
    pub(super) fn keep(self, record: &Record) {
        if let Some(guard) = self.guard {
            let _ = guard.insert(Copy { record: record.clone(), asked: self.asked });
        }
    }
}

impl Watcher for Copies {
    fn listening(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // If the store was reporting all along, this drops the copies without need, which only costs some loads.
        self.epoch.store(epoch + 1 + epoch % 2, Ordering::Release);
    }

    fn heard_until(&self, until: Instant) {
        let until = until.saturating_duration_since(self.began).as_millis() as u64;
        if !self.is_heard() {
            // Invalidations of changes in between may be missing.
            self.clear();
        }
        self.heard_until.store(until.max(1), Ordering::Release);
    }

    fn changed(&self, key: &StoreKey) {
        self.cache.remove(key);
    }

    fn deaf(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.epoch.store(epoch + 1 + (epoch + 1) % 2, Ordering::Release);
        self.cache.clear();
    }
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").field("len", &self.cache.len()).finish_non_exhaustive()
    }
}

/// A change of a session that is under way.
#[must_use = "the copy is dropped when this is"]
pub(super) struct Changing<'a> {
    copies: &'a Copies,
    key: &'a StoreKey,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.copies.cache.remove(self.key);
    }
}

/// Weighs copies by their bytes.
#[derive(Clone)]
struct Bytes;

impl Weighter<StoreKey, Copy> for Bytes {
    fn weight(&self, _: &StoreKey, copy: &Copy) -> u64 {
        OVERHEAD + copy.record.as_bytes().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::record::{Meta, Times};

    #[test]
    fn a_load_from_before_a_silence_keeps_no_copy() {
        let copies = Copies::new(MAX, Clock::system(), Freshness::Told);
        copies.listening();
        let (key, record) = ("key".parse().unwrap(), record());
        // Reports may stop and begin again between these two steps.
        let asked = Asked { at: copies.clock.millis(), epoch: copies.epoch.load(Ordering::Acquire) };
        copies.deaf();
        copies.listening();
        let guard = guard_of(copies.cache.get_value_or_guard(&key, Some(Duration::ZERO)));
        assert!(guard.is_some());
        CopySlot { guard, asked }.keep(&record);
        let CopyLookup::Slot(slot) = copies.find(&key) else {
            panic!("a copy from before the silence was used")
        };
        slot.keep(&record);
        assert!(matches!(copies.find(&key), CopyLookup::Copy(found) if found == record));
    }

    #[test]
    fn listening_goes_on_and_off_whatever_is_told_twice() {
        let copies = Copies::new(MAX, Clock::system(), Freshness::Told);
        let is_listening = || copies.epoch.load(Ordering::Acquire) % 2 == 1;
        assert!(!is_listening());
        for _ in 0..2 {
            copies.listening();
            assert!(is_listening());
        }
        copies.clear();
        assert!(is_listening());
        for _ in 0..2 {
            copies.deaf();
            assert!(!is_listening());
        }
    }

    const MAX: u64 = 1 << 20;

    fn record() -> Record {
        let times = Times {
            version: 1,
            created: Millis(0),
            issued: Millis(0),
            last_active: Millis(0),
            idle_deadline: Millis::NEVER,
            absolute_deadline: Millis::NEVER,
            authenticated: None,
        };
        Record::written(&Meta::new(times, None), Codec::MESSAGE_PACK, 0, |_| Ok(())).unwrap()
    }
}
