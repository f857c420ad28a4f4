//! A session that a request has found in the store.

use crate::event::About;
use crate::id::Named;
use crate::record::Record;

/// A session as the store has it, and the id that led to it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: Named,
    pub(crate) record: Record,
    pub(crate) by: By,
}

/// The kind of id that led to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The session's own id.
    Own,
    /// An id that routine rotation has replaced. The client is never told the new one.
    Grace,
    /// The id that the session had in the store it was moved from. The client is told the new id until it presents that.
    Moved,
    /// The session's own id in the former store. The session could not be moved, so this request reads it there.
    Unmoved,
}

impl<'a> From<&'a Stored> for About<'a> {
    fn from(stored: &'a Stored) -> Self {
        About { record: Some(&stored.record), ..About::from(stored.name.key()) }
    }
}
