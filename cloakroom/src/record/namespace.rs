//! The namespace of a session, in a record whose key is the plain id.

use super::Record;
use super::format::TAG_NAMESPACE;

impl Record {
    /// Returns this record with a mark of its manager's namespace.
    pub(crate) fn with_namespace(&self, mark: &[u8]) -> Record {
        self.with_field(TAG_NAMESPACE, mark)
    }

    /// Returns true if another namespace's manager has made this record. One without a mark may be anybody's.
    pub(crate) fn is_of_another_namespace(&self, mark: &[u8]) -> bool {
        self.field(TAG_NAMESPACE).is_some_and(|found| found != mark)
    }
}
