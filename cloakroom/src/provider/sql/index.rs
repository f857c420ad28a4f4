//! The index rows of a record: what a SQL provider keeps beside its row, so that sessions are found by user and label.

use crate::record::{IndexEntry, Label, Record};

/// The most index rows of a record: one for its user and one for each label.
pub(super) const MAX_ROWS: usize = 1 + Label::MAX_COUNT;

/// The index rows of one record, in order and without duplicates.
#[derive(Debug, PartialEq)]
pub(super) struct IndexRows(Vec<IndexEntry>);

impl IndexRows {
    pub(super) fn of(record: &Record) -> Self {
        let mut entries: Vec<_> = record.index_entries().collect();
        entries.sort_unstable();
        entries.dedup();
        IndexRows(entries)
    }

    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rows in parts of at most [`MAX_ROWS`].
    pub(super) fn parts(&self) -> impl Iterator<Item = &[IndexEntry]> {
        self.0.chunks(MAX_ROWS)
    }
}
