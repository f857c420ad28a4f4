//! The session's id, in a record that the client carries as its token.

use std::sync::Arc;

use super::Record;
use super::format::{AT_DATA_LEN, AT_FIELDS_LEN, Fields, HEADER, TAG_ID, push_field};
use crate::id::SessionId;

impl Record {
    /// The length of a record without its fields and its data, in bytes.
    pub(crate) const HEADER: usize = HEADER;

    /// Returns this record with the id in it. It replaces an id that the record had.
    pub(crate) fn with_id(&self, id: &SessionId) -> Record {
        self.with_field(TAG_ID, id.expose().as_bytes())
    }

    /// Returns this record with one more field. It replaces a field with the same tag.
    pub(super) fn with_field(&self, tag: u8, value: &[u8]) -> Record {
        let mut fields = Vec::new();
        for (other, value) in Fields(self.fields()).flatten().filter(|(other, _)| *other != tag) {
            push_field(&mut fields, other, value);
        }
        push_field(&mut fields, tag, value);
        let mut bytes = self.0[..HEADER].to_vec();
        bytes[AT_FIELDS_LEN..AT_DATA_LEN].copy_from_slice(&(fields.len() as u32).to_be_bytes());
        Record(Arc::from([&bytes, &fields, self.data()].concat()))
    }

    /// Returns the id of the session, if the client carries the record as its token. A record that a store keeps has none.
    pub fn token_id(&self) -> Option<SessionId> {
        std::str::from_utf8(self.field(TAG_ID)?).ok()?.parse().ok()
    }
}
