//! The id that replaced another, in the tombstone of that.

use super::Record;
use super::format::TAG_SUCCESSOR_ID;

impl Record {
    /// Returns this tombstone with the successor's id in it, sealed: see `engine/tombstones.rs`.
    pub(crate) fn with_successor_id(&self, sealed: &[u8]) -> Record {
        self.with_field(TAG_SUCCESSOR_ID, sealed)
    }

    /// Returns the sealed id of the successor, where the tombstone has one.
    pub(crate) fn successor_id(&self) -> Option<&[u8]> {
        self.field(TAG_SUCCESSOR_ID)
    }
}
