//! The fate of an id that no longer names a session, and the decision which login may join its successor.

use super::deadlines::Deadlines;
use crate::clock::Millis;
use crate::id::Named;
use crate::principal::{Level, Principal};
use crate::record::Record;

/// The fate of an id that a request presents and that no longer names a session.
#[derive(Clone)]
pub(crate) enum Former {
    /// Its session was ended, or is gone from the store.
    Ended,
    /// Another id replaced it.
    Replaced {
        /// The time of the replacement.
        at: Millis,
        /// The new id, if the client may be told it. An id at the end of a longer chain is never told.
        successor: Option<Named>,
    },
}

impl Former {
    /// Removes the successor, for an id from which a chain of rotations led to the tombstone.
    pub(crate) fn without_successor(self) -> Former {
        match self {
            Former::Replaced { at, .. } => Former::Replaced { at, successor: None },
            Former::Ended => Former::Ended,
        }
    }

    /// Returns the stricter of two, for a request that presents several former ids: the one that was replaced last.
    pub(crate) fn or(self, other: Option<Former>) -> Former {
        match (&self, &other) {
            (Former::Replaced { at, .. }, Some(Former::Replaced { at: later, .. })) if later > at => {}
            (Former::Replaced { .. }, _) | (_, None) => return self,
            _ => {}
        }
        other.unwrap_or(self)
    }

    /// Returns true if a change under this id is refused `now`, because the client may just be receiving the new id.
    pub(crate) fn refuses_changes(&self, deadlines: &Deadlines, now: Millis) -> bool {
        match self {
            Former::Ended => false,
            Former::Replaced { at, .. } => deadlines.is_arriving(*at, now),
        }
    }
}

/// A login as it is compared with a session that it may join.
pub(crate) struct Login<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) level: Level,
    pub(crate) ends_by: Option<Millis>,
}

impl Login<'_> {
    /// Returns true if this login may join the session in `record`, the successor of the id it came with.
    ///
    /// A login of the same user at the same level must have just begun that session, and nothing may have given it another id or another
    /// end since.
    pub(crate) fn may_join(&self, record: &Record, deadlines: &Deadlines, now: Millis) -> bool {
        let (meta, times) = (record.meta(), record.times());
        record.mark().is_none()
            && meta.principal.as_ref() == Some(self.principal)
            && meta.level() == Some(self.level)
            && meta.ends_by == self.ends_by
            // A new level, a new id and a rotation each issue an id later than the login.
            && times.authenticated.is_some_and(|at| at == times.issued && deadlines.is_arriving(at, now))
    }
}
