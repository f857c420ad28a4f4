//! The lists of sessions: all of them, or those of an index entry.

use super::{MemoryError, SHARDS, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Cursor, Listed, Page};
use crate::record::IndexEntry;

/// The maximum number of times that a page is read again because the index changed meanwhile.
const RELISTS: usize = 64;

impl Store {
    /// A page holds the entries of one shard only, in the order of their keys. So the last key is enough to find the next page.
    pub(super) fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page> {
        let bad = || Error::new(ErrorKind::Value, MemoryError::Cursor);
        let (mut place, mut last) = match cursor {
            None => (0, None),
            Some(cursor) => {
                let (place, last) = cursor.as_str().split_once(':').ok_or_else(bad)?;
                let last = Some(last).filter(|last| !last.is_empty());
                (place.parse().map_err(|_| bad())?, last.map(str::parse).transpose()?)
            }
        };
        let now = self.clock.recent();
        while place < SHARDS {
            let entries = self.shards[place].lock().page(now, last.as_ref(), limit);
            let next = match entries.last() {
                Some(listed) if entries.len() == limit => format!("{place}:{}", listed.key.as_str()),
                _ if place + 1 < SHARDS => format!("{}:", place + 1),
                _ => String::new(),
            };
            if !entries.is_empty() || next.is_empty() {
                return Ok(Page { entries, next: (!next.is_empty()).then(|| Cursor::new(next)) });
            }
            (place, last) = (place + 1, None);
        }
        Ok(Page::default())
    }

    pub(super) fn indexed(&self, entry: &IndexEntry, cursor: Option<&Cursor>, limit: usize) -> Page {
        let listed = |key: &StoreKey| {
            let record = self.load(key)?;
            record.is_indexed_by(entry).then(|| Listed { key: key.clone(), meta: record.meta() })
        };
        let after = cursor.map_or("", Cursor::as_str);
        let page = || self.indexes.page(entry, after, limit);
        let mut looked = page();
        for _ in 0..RELISTS {
            let entries = looked.0.iter().filter_map(listed).collect();
            let now = page();
            // A session that was renamed meanwhile may be under neither of the keys that were read.
            if now == looked {
                return Page { entries, next: next_after(&looked, after) };
            }
            looked = now;
        }
        Page { entries: looked.0.iter().filter_map(listed).collect(), next: next_after(&looked, after) }
    }
}

/// Returns the cursor of the page after these keys, which follow `after`.
fn next_after((keys, more): &(Vec<StoreKey>, bool), after: &str) -> Option<Cursor> {
    more.then(|| Cursor::new(keys.last().map_or(after, StoreKey::as_str)))
}
