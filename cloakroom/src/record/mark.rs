//! The mark in a tombstone: the reason why the id no longer names a session.

use crate::clock::Millis;
use crate::id::StoreKey;

/// The reason why an id no longer names a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// Routine rotation gave the session another id. The old id still reaches the session `until` this time.
    Rotated { successor: StoreKey, until: Millis },
    /// A login or a change of privileges gave the session another id. The old id is dead. Only a logout under it still reaches the session.
    Replaced { successor: StoreKey },
    /// The session was ended.
    Ended,
}

impl Mark {
    /// Returns the key of the session that continues; `None` if it has ended.
    pub(crate) fn successor(self) -> Option<StoreKey> {
        match self {
            Mark::Rotated { successor, .. } | Mark::Replaced { successor } => Some(successor),
            Mark::Ended => None,
        }
    }
}
