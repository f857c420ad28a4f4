//! The copies, and when one may be used.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};

use crate::clock::{Clock, Millis};
use crate::id::StoreKey;
use crate::provider::Watcher;
use crate::record::Record;

/// The bytes of a copy besides its record: the key, the numbers below, two reference counts and its place in the table.
const OVERHEAD: u64 = 160;

/// The mean size of a record with some values. The cache only sizes its tables by it.
const COMMON: u64 = 512;

/// Records as they were when they were read.
pub(super) struct Copies {
    cache: Cache<StoreKey, Copy, Bytes>,
    freshness: Freshness,
    clock: Clock,
    /// Odd while changes can be heard. It moves on whenever that ends or begins again, and a copy of an earlier time counts for nothing.
    epoch: AtomicU64,
    /// Until when what was heard may be relied on, in milliseconds after `began`; 0 while nobody has set an end.
    heard_until: AtomicU64,
    began: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Freshness {
    /// A copy is good for so long.
    Within(Duration),
    /// A copy is good until the store tells of a change.
    Told,
}

#[derive(Clone)]
struct Copy {
    record: Record,
    /// When it was asked for, and in which epoch: no later than the record was as it is.
    asked: Asked,
}

#[derive(Clone, Copy)]
struct Asked {
    at: Millis,
    epoch: u64,
}

/// The result of a lookup.
pub(super) enum Found<'a> {
    Copy(Record),
    /// No usable copy. The record that is loaded now may be kept there.
    Place(Place<'a>),
}

/// The place of a record that is being loaded. A change of the key meanwhile removes the place, so that what was read before it
/// is not kept after it.
pub(super) struct Place<'a> {
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

    /// The copy under `key`, or the place for one. Nobody waits: whoever finds that another is loading it loads it, too.
    pub(super) fn find(&self, key: &StoreKey) -> Found<'_> {
        let asked = Asked { at: self.clock.millis(), epoch: self.epoch.load(Ordering::Acquire) };
        let listening = asked.epoch % 2 == 1 && self.is_heard();
        match listening.then(|| self.cache.get_value_or_guard(key, Some(Duration::ZERO))) {
            Some(GuardResult::Value(copy)) if self.is_fresh(&copy, asked) => Found::Copy(copy.record),
            Some(GuardResult::Value(_)) => {
                // Only this one: somebody may have put a newer in its place.
                self.cache.remove_if(key, |copy| !self.is_fresh(copy, asked));
                let guard = self.cache.get_value_or_guard(key, Some(Duration::ZERO));
                Found::Place(Place { guard: guard_of(guard), asked })
            }
            Some(other) => Found::Place(Place { guard: guard_of(other), asked }),
            None => Found::Place(Place { guard: None, asked }),
        }
    }

    /// True if copies may be relied on, by the watcher's news. Real time counts here, not the application's clock.
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

    /// Drops the copy under `key` when the change is over, however it ends: whether it happened may be unknown.
    pub(super) fn changing<'a>(&'a self, key: &'a StoreKey) -> Changing<'a> {
        Changing { copies: self, key }
    }

    pub(super) fn clear(&self) {
        // By twos, so that it stays odd or even; what is on its way is of an earlier epoch, too.
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

impl Place<'_> {
    /// Puts a record there, unless the place is gone.
    pub(super) fn keep(self, record: &Record) {
        if let Some(guard) = self.guard {
            let _ = guard.insert(Copy { record: record.clone(), asked: self.asked });
        }
    }
}

impl Watcher for Copies {
    fn listening(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Once more than is needed if it could be heard all along, which costs some copies and no more.
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

/// A change of a session under way.
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
        // Between looking at the epoch and making the place anything may happen.
        let asked = Asked { at: copies.clock.millis(), epoch: copies.epoch.load(Ordering::Acquire) };
        copies.deaf();
        copies.listening();
        let guard = guard_of(copies.cache.get_value_or_guard(&key, Some(Duration::ZERO)));
        assert!(guard.is_some());
        Place { guard, asked }.keep(&record);
        let Found::Place(place) = copies.find(&key) else {
            panic!("a copy from before the silence was used")
        };
        place.keep(&record);
        assert!(matches!(copies.find(&key), Found::Copy(found) if found == record));
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
