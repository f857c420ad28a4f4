//! The index entries of a record: a store finds the record by them, besides its key.

use std::fmt;
use std::sync::Arc;

use super::Label;
use crate::principal::Principal;

/// The kind of an [`IndexEntry`].
///
/// A later release may add kinds. A store keeps a kind by its [name](Self::as_str) and need not know all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum IndexKind {
    /// The value is the user: see [`Principal`].
    Principal,
    /// The value is a [`Label`].
    Label,
}

impl IndexKind {
    /// Returns the kind's name, which never changes: `principal` or `label`.
    ///
    /// ```
    /// use cloakroom::providers::{IndexEntry, IndexKind, Label};
    ///
    /// // A store with one table for all kinds keeps the name beside the value.
    /// let entry = IndexEntry::from(&Label::new("device-7")?);
    /// assert_eq!((entry.kind().as_str(), entry.value()), ("label", "device-7"));
    /// assert_eq!(IndexKind::Principal.as_str(), "principal");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            IndexKind::Principal => "principal",
            IndexKind::Label => "label",
        }
    }
}

/// One entry of the index that a store keeps beside its records: a kind and a value.
///
/// A record has [several](super::Record::index_entries): one for its user, and one for each label.
/// [`Provider::indexed`](crate::Provider::indexed) finds the records of an entry. Entries of different kinds differ, even if their
/// values are the same text. `Debug` hides the value.
///
/// ```
/// use cloakroom::Principal;
/// use cloakroom::providers::{IndexEntry, IndexKind};
///
/// let entry = IndexEntry::from(&Principal::new("alice")?);
/// assert_eq!((entry.kind(), entry.value()), (IndexKind::Principal, "alice"));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexEntry {
    kind: IndexKind,
    value: Arc<str>,
}

impl IndexEntry {
    /// Returns the kind.
    pub fn kind(&self) -> IndexKind {
        self.kind
    }

    /// Returns the value: 1 to 256 bytes of any text.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl From<&Principal> for IndexEntry {
    fn from(principal: &Principal) -> Self {
        IndexEntry { kind: IndexKind::Principal, value: principal.as_str().into() }
    }
}

impl From<&Label> for IndexEntry {
    fn from(label: &Label) -> Self {
        IndexEntry { kind: IndexKind::Label, value: Arc::clone(&label.0) }
    }
}

impl fmt::Debug for IndexEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexEntry({}, {} bytes)", self.kind.as_str(), self.value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_labels_and_values() {
        let label = Label::new("device").unwrap();
        assert_eq!(format!("{label:?}"), "Label(6 bytes)");
        assert_eq!(format!("{:?}", IndexEntry::from(&label)), "IndexEntry(label, 6 bytes)");
    }

    #[test]
    fn entries_of_two_kinds_differ() {
        let principal = IndexEntry::from(&Principal::new("x").unwrap());
        assert_ne!(principal, IndexEntry::from(&Label::new("x").unwrap()));
    }
}
