//! State of the requests under way in this process, which tower-sessions does not hand on.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom::providers::{Record, StoreKey};
use serde_json::Value;

use crate::base::is_reserved;

/// The data of a session in one request.
pub(crate) type Data = HashMap<String, Value>;

/// The identity of a request's data.
///
/// Each map has a hasher of its own, which stays the same when values change and when the map is cleared. So the map that `load` has
/// returned is recognised in `save`, and two loads of one session are told apart. A clone of a map counts as the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u64);

impl Fingerprint {
    pub(crate) fn of(data: &Data) -> Fingerprint {
        Fingerprint(data.hasher().hash_one("cloakroom"))
    }
}

/// Returns a digest of `values` that does not depend on their order, under the hasher of `data`.
pub(crate) fn digest(data: &Data, values: &Data) -> u64 {
    let values = values.iter().filter(|(key, _)| !is_reserved(key));
    values.map(|entry| data.hasher().hash_one(entry)).fold(0, u64::wrapping_add)
}

/// The state of the session that a request has loaded or stored last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) digest: u64,
}

/// The last loads and saves of this process, by fingerprint: for a save whose data lost its version.
///
/// A later one may take the place of an earlier one. The memory is 512 KiB.
#[derive(Clone, Debug)]
pub(crate) struct Loads(Arc<[LoadSlot]>);

/// The last load or save with one of the fingerprints that share a place.
type LoadSlot = Mutex<Option<(Fingerprint, Seen)>>;

impl Loads {
    const PLACES: usize = 8192;

    pub(crate) fn new() -> Loads {
        Loads((0..Self::PLACES).map(|_| Mutex::new(None)).collect())
    }

    pub(crate) fn remember(&self, request: Fingerprint, seen: Seen) {
        *self.place(request) = Some((request, seen));
    }

    pub(crate) fn seen_by(&self, request: Fingerprint) -> Option<Seen> {
        self.place(request).filter(|(found, _)| *found == request).map(|(_, seen)| seen)
    }

    fn place(&self, request: Fingerprint) -> MutexGuard<'_, Option<(Fingerprint, Seen)>> {
        // The remainder fits, since it is below the number of places.
        let place = request.0 % self.0.len() as u64;
        self.0[place as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions that `delete` has ended in this process: for `cycle_id`, which deletes the old id and creates a new one.
///
/// tower-sessions makes the same call for a logout. So a new id is given only to a session that was ended exactly once, by this process,
/// in the state that the request has loaded. All doubt is a refusal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    by_key: HashMap<StoreKey, End>,
    /// The keys, the oldest first.
    order: VecDeque<StoreKey>,
}

/// The end of a session: the record at its end, if one call alone has ended it.
#[derive(Debug)]
enum End {
    /// A call has begun, and has found no session yet.
    Begun,
    By(Record),
    /// Several calls, or one whose session has its new id.
    Spent,
}

impl Ended {
    /// A request deletes the old id and creates the new one within milliseconds, and other deletions are few meanwhile.
    const MOST: usize = 1024;

    /// Notes that a call begins to delete the session under `key`.
    pub(crate) fn begin(&self, key: &StoreKey) {
        let mut ends = self.lock();
        if let Some(end) = ends.by_key.get_mut(key) {
            *end = End::Spent;
            return;
        }
        if ends.order.len() >= Self::MOST
            && let Some(oldest) = ends.order.pop_front()
        {
            ends.by_key.remove(&oldest);
        }
        ends.order.push_back(key.clone());
        ends.by_key.insert(key.clone(), End::Begun);
    }

    /// Notes that the call has ended `record`.
    pub(crate) fn found(&self, key: &StoreKey, record: Record) {
        if let Some(end @ End::Begun) = self.lock().by_key.get_mut(key) {
            *end = End::By(record);
        }
    }

    /// Returns the record at the end of the session under `key`, once.
    pub(crate) fn take(&self, key: &StoreKey) -> Option<Record> {
        match std::mem::replace(self.lock().by_key.get_mut(key)?, End::Spent) {
            End::By(record) => Some(record),
            End::Begun | End::Spent => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use cloakroom::providers::Meta;
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> StoreKey {
        name.parse().unwrap()
    }

    fn record() -> Record {
        let meta = Meta::begin(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(60));
        Record::encode(&meta, &Data::new(), 100).unwrap()
    }

    #[test]
    fn a_map_keeps_its_fingerprint_and_no_two_maps_share_one() {
        let mut data = Data::from([("n".to_owned(), json!(1))]);
        let before = Fingerprint::of(&data);
        data.clear();
        data.extend((0..1000).map(|n| (n.to_string(), json!(n))));
        assert_eq!(Fingerprint::of(&data), before);
        let mut all: Vec<_> = (0..1000).map(|_| Fingerprint::of(&Data::new()).0).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn a_digest_depends_on_values_and_not_on_their_order() {
        let data = Data::new();
        let values = |pairs: &[(&str, u8)]| -> Data {
            pairs.iter().map(|(key, n)| ((*key).to_owned(), json!(n))).collect()
        };
        let first = digest(&data, &values(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(first, digest(&data, &values(&[("c", 3), ("a", 1), ("b", 2)])));
        for other in [&[("a", 2), ("b", 1), ("c", 3)][..], &[("a", 1), ("b", 2)], &[]] {
            assert_ne!(first, digest(&data, &values(other)));
        }
        assert_eq!(first, digest(&data, &values(&[("a", 1), ("b", 2), ("c", 3), ("cloakroom.version", 9)])));
    }

    #[test]
    fn a_load_is_found_until_another_takes_its_place() {
        let loads = Loads::new();
        let (one, other) = (Fingerprint(5), Fingerprint(5 + Loads::PLACES as u64));
        let seen = Seen { version: 3, digest: 4 };
        assert_eq!(loads.seen_by(one), None);
        loads.remember(one, seen);
        assert_eq!((loads.seen_by(one), loads.seen_by(other)), (Some(seen), None));
        loads.remember(other, seen);
        assert_eq!((loads.seen_by(one), loads.seen_by(other)), (None, Some(seen)));
    }

    #[test]
    fn one_end_by_one_call_is_taken_once() {
        let ended = Ended::default();
        assert_eq!(ended.take(&key("aa")), None);
        ended.begin(&key("aa"));
        assert_eq!(ended.take(&key("bb")), None);
        ended.found(&key("aa"), record());
        assert_eq!(ended.take(&key("aa")), Some(record()));
        assert_eq!(ended.take(&key("aa")), None);
    }

    #[test]
    fn a_second_call_spends_the_end_whichever_was_first() {
        let ended = Ended::default();
        ended.begin(&key("aa"));
        ended.begin(&key("aa"));
        ended.found(&key("aa"), record());
        assert_eq!(ended.take(&key("aa")), None);

        ended.begin(&key("bb"));
        ended.found(&key("bb"), record());
        ended.begin(&key("bb"));
        assert_eq!(ended.take(&key("bb")), None);
    }

    #[test]
    fn the_oldest_end_gives_way() {
        let ended = Ended::default();
        for n in 0..=Ended::MOST {
            ended.begin(&key(&format!("key-{n}")));
            ended.found(&key(&format!("key-{n}")), record());
        }
        assert_eq!(ended.take(&key("key-0")), None);
        assert_eq!(ended.take(&key("key-1")), Some(record()));
        assert_eq!(ended.lock().by_key.len(), Ended::MOST);
    }
}
