//! Tombstones: the records that are stored under an id once it is ended, replaced or rotated.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::deadlines::Deadlines;
use super::succession::Former;
use crate::clock::Millis;
use crate::codec::Codec;
use crate::id::{Keying, Named, StoreKey};
use crate::record::{Mark, Meta, Record};

/// The largest number of rotations that are followed from an id in its grace to its session. More occur only if ids rotate faster than
/// requests end.
pub(crate) const MOST_ROTATIONS: usize = 16;

/// Makes the tombstones of one manager, and reads what they tell.
#[derive(Clone, Debug)]
pub(crate) struct Tombstones {
    keying: Keying,
    deadlines: Deadlines,
    /// True if the store holds tombstones.
    are_stored: bool,
}

impl Tombstones {
    pub(crate) fn new(keying: Keying, deadlines: Deadlines, are_stored: bool) -> Self {
        Tombstones { keying, deadlines, are_stored }
    }

    /// Returns the tombstone of a session that is ended `now`; `None` if the store holds none.
    pub(crate) fn of_end(&self, record: &Record, now: Millis) -> Option<Record> {
        let until = self.deadlines.ended_until(now);
        self.are_stored.then(|| record.tombstone(&Mark::Ended, now, until))
    }

    /// Returns the tombstone of the id `old`, which `successor` replaces `now`; `None` if the store holds none.
    pub(crate) fn of_replaced(
        &self,
        old: &Named,
        record: &Record,
        successor: &Named,
        now: Millis,
    ) -> Option<Record> {
        if !self.are_stored {
            return None;
        }
        let mark = Mark::Replaced { successor: successor.key().clone() };
        let tombstone = record.tombstone(&mark, now, self.deadlines.ended_until(now));
        // A key that is a hash does not tell its id, so the tombstone has to.
        let told = self.keying.tells_ids();
        Some(if told { tombstone } else { with_sealed_id(tombstone, old, successor) })
    }

    /// Returns the tombstone of an id that routine rotation replaces with `successor` `now`; `None` if the store holds none. It leads to
    /// the session for a grace.
    pub(crate) fn of_rotated(&self, record: &Record, successor: &Named, now: Millis) -> Option<Record> {
        let until = self.deadlines.rotated_until(now);
        let mark = Mark::Rotated { successor: successor.key().clone(), until };
        self.are_stored.then(|| record.tombstone(&mark, now, self.deadlines.reuse_noticed_until(until)))
    }

    /// Returns the tombstone that keeps an id of the former store from being moved `until` then; `None` if the store holds none.
    pub(crate) fn of_blocked(&self, until: Millis, now: Millis) -> Option<Record> {
        let until = until.max(self.deadlines.ended_until(now));
        let blank = Meta::new(self.deadlines.times_of_new(now, None), None);
        let blank = Record::new(&blank, Codec::MESSAGE_PACK, b"");
        self.are_stored.then(|| blank.tombstone(&Mark::Ended, now, until))
    }

    /// Returns the tombstone that claims the id `old` of the former store for `moved`, the session's new id.
    ///
    /// It lasts until `deadline`, the last one of the record in the former store: a copy that is left there cannot bring the session
    /// back.
    pub(crate) fn of_moved(
        &self,
        old: &Named,
        record: &Record,
        moved: &Named,
        deadline: Millis,
        now: Millis,
    ) -> Record {
        let until = deadline.max(self.deadlines.rotated_until(now));
        let mark = Mark::Rotated { successor: moved.key().clone(), until };
        let tombstone = record.tombstone(&mark, now, self.deadlines.reuse_noticed_until(until));
        // The sealed id tells a moved session from a rotated one, so it is there on every provider.
        with_sealed_id(tombstone, old, moved)
    }

    /// Returns the fate of the id `name`, whose key holds `tombstone`. `mark` was set `at` that time; it is the tombstone's own or that at
    /// the end of the chain that begins there.
    pub(crate) fn former(&self, name: &Named, tombstone: &Record, mark: Mark, at: Millis) -> Former {
        match mark {
            Mark::Ended => Former::Ended,
            Mark::Replaced { successor } => {
                Former::Replaced { at, successor: self.successor(name, tombstone, &successor) }
            }
            // A rotated id counts as replaced once its grace is over.
            Mark::Rotated { until, .. } => Former::Replaced { at: until, successor: None },
        }
    }

    /// Returns the id under `key`, which replaced the id `name`; `None` if `tombstone` does not tell it.
    pub(crate) fn successor(&self, name: &Named, tombstone: &Record, key: &StoreKey) -> Option<Named> {
        let successor = match tombstone.successor_id() {
            Some(sealed) => self.keying.named(&masked(name, sealed)),
            None => self.keying.named_by(key)?,
        };
        // An id that does not lead to the key was sealed under another id, or is none.
        (successor.key() == key).then_some(successor)
    }
}

/// Adds the id `new` to `tombstone`, sealed under the id `old`. The store holds neither, so only a client that presents `old` can learn
/// `new`.
fn with_sealed_id(tombstone: Record, old: &Named, new: &Named) -> Record {
    tombstone.with_successor_id(&masked(old, new.id_bytes()))
}

/// Masks `id` so that only the holder of the id `under` can read it. A second call removes the mask.
///
/// The mask is HMAC-SHA256 in counter mode. An id is replaced only once, so no mask covers two live ids.
fn masked(under: &Named, id: &[u8]) -> Vec<u8> {
    let mut masked = id.to_vec();
    for (counter, block) in (0_u8..).zip(masked.chunks_mut(32)) {
        // HMAC accepts a key of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(under.id_bytes()) else { continue };
        let mask = mac.chain_update(b"cloakroom/successor/1\0").chain_update([counter]).finalize();
        block.iter_mut().zip(mask.into_bytes()).for_each(|(byte, mask)| *byte ^= mask);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_former_id_removes_the_mask() {
        let keying = Keying::hashed("app");
        let [old, new, other] = [b"a", b"b", b"c"].map(|id| keying.named(&id.repeat(43)));
        let sealed = masked(&old, new.id_bytes());
        assert_eq!(masked(&old, &sealed), new.id_bytes());
        assert_ne!(masked(&other, &sealed), new.id_bytes());
        let shared = sealed.iter().zip(new.id_bytes()).filter(|(one, other)| one == other).count();
        assert!(shared < 8, "{shared} of 43 bytes show through");
    }
}
