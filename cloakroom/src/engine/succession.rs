//! An id that was replaced: what its client may be told, and whose login a second click may join.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Engine, Stored};
use crate::clock::Millis;
use crate::error::Result;
use crate::id::{Named, StoreKey};
use crate::principal::{Level, Principal};
use crate::record::{Mark, Record};

/// The fate of an id that a request came with and that no longer names a session.
#[derive(Clone)]
pub(crate) enum Former {
    /// Its session was ended, or is gone from the store.
    Ended,
    /// Another id took its place at `at`.
    Replaced {
        at: Millis,
        /// That id, where the client may be told it; never one at the end of a longer chain.
        successor: Option<Named>,
    },
}

impl Former {
    /// The same of an id from which a chain of rotations led to the tombstone: its client is told no successor.
    pub(super) fn without_successor(self) -> Former {
        match self {
            Former::Replaced { at, .. } => Former::Replaced { at, successor: None },
            Former::Ended => Former::Ended,
        }
    }

    /// The stricter of two: a request that brings several former ids is held to the one that was replaced last.
    pub(super) fn or(self, other: Option<Former>) -> Former {
        match (&self, &other) {
            (Former::Replaced { at, .. }, Some(Former::Replaced { at: later, .. })) if later > at => {}
            (Former::Replaced { .. }, _) | (_, None) => return self,
            _ => {}
        }
        other.unwrap_or(self)
    }
}

/// A login as a join compares it.
pub(crate) struct Login<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) level: Level,
    pub(crate) ends_by: Option<Millis>,
}

impl Engine {
    /// The fate of the id of `name`, under whose key `tombstone` was found: `mark`, put there `at` that time or at the end of a chain
    /// that begins there.
    pub(super) fn former(&self, name: &Named, tombstone: &Record, mark: Mark, at: Millis) -> Former {
        match mark {
            Mark::Ended => Former::Ended,
            Mark::Replaced { successor } => {
                Former::Replaced { at, successor: self.successor(name, tombstone, &successor) }
            }
            // A rotated id counts as replaced from the end of its grace on.
            Mark::Rotated { until, .. } => Former::Replaced { at: until, successor: None },
        }
    }

    /// The session that `login` may join in the place of the id that it came with: one that a login of the same user at the same
    /// level has just begun there, and that nothing has given another id or another end since.
    pub(crate) async fn joinable(&self, former: &Former, login: &Login<'_>) -> Result<Option<Stored>> {
        let Former::Replaced { successor: Some(successor), .. } = former else { return Ok(None) };
        let Some(record) = self.load(successor.key()).await? else { return Ok(None) };
        let (meta, times) = (record.meta(), record.times());
        let recent = |at: Millis| self.now() < at.after(self.config.arrival_grace());
        let fits = record.mark().is_none()
            && meta.principal.as_ref() == Some(login.principal)
            && meta.level() == Some(login.level)
            && meta.ends_by == login.ends_by
            // A level, a new id and a rotation each issue an id later than the login.
            && times.authenticated.is_some_and(|at| at == times.issued && recent(at));
        Ok(fits.then(|| self.stored(successor.clone(), record)))
    }

    /// True if a change under a replaced id is refused, since its client may just be receiving the new id.
    pub(crate) fn is_arriving(&self, former: &Former) -> bool {
        match former {
            Former::Ended => false,
            Former::Replaced { at, .. } => self.now() < at.after(self.config.arrival_grace()),
        }
    }

    /// `tombstone` of `old`, from which whoever presents that id can be told that of `new`.
    ///
    /// A key that is a hash does not tell the id. The tombstone then holds it sealed under the former id, which the store does
    /// not hold either.
    pub(super) fn telling(&self, tombstone: Record, old: &Named, new: &Named) -> Record {
        if self.keying.tells_ids() { tombstone } else { self.claiming(tombstone, old, new) }
    }

    /// [`telling`](Self::telling) on every provider: the sealed id marks the old id of a session that was moved here.
    pub(super) fn claiming(&self, tombstone: Record, old: &Named, new: &Named) -> Record {
        tombstone.with_successor_id(&masked(old, new.id_bytes()))
    }

    /// The id under `key`, which replaced that of `name`; `None` where `tombstone` does not tell it.
    pub(super) fn successor(&self, name: &Named, tombstone: &Record, key: &StoreKey) -> Option<Named> {
        let successor = match tombstone.successor_id() {
            Some(sealed) => self.keying.named(&masked(name, sealed)),
            None => self.keying.named_by(key)?,
        };
        // An id that does not lead to the key was sealed under another id, or is no id.
        (successor.key() == key).then_some(successor)
    }
}

/// `id` under a mask that only the holder of `under` can compute. A second time, it takes the mask off.
///
/// The mask is HMAC-SHA256 in counter mode. Each id is replaced once, so no mask is used for two ids that live.
fn masked(under: &Named, id: &[u8]) -> Vec<u8> {
    let mut masked = id.to_vec();
    for (counter, block) in (0_u8..).zip(masked.chunks_mut(32)) {
        // A key of any length is taken.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(under.id_bytes()) else { continue };
        let mask = mac.chain_update(b"cloakroom/successor/1\0").chain_update([counter]).finalize();
        block.iter_mut().zip(mask.into_bytes()).for_each(|(byte, mask)| *byte ^= mask);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Keying;

    #[test]
    fn only_the_former_id_takes_the_mask_off() {
        let keying = Keying::hashed("app");
        let [old, new, other] = [b"a", b"b", b"c"].map(|id| keying.named(&id.repeat(43)));
        let sealed = masked(&old, new.id_bytes());
        assert_eq!(masked(&old, &sealed), new.id_bytes());
        assert_ne!(masked(&other, &sealed), new.id_bytes());
        let shared = sealed.iter().zip(new.id_bytes()).filter(|(one, other)| one == other).count();
        assert!(shared < 8, "{shared} of 43 bytes show through");
    }
}
