//! The sessions of an index entry, which is a user or a label, in pages.
//!
//! The set of an entry is ordered by scores that only increase. So a walk in this order meets every session that is there throughout,
//! though perhaps twice. Each page is one short step of the server, however many sessions the entry has.

use std::collections::BTreeSet;

use super::super::client::pause;
use super::{ListPage, ListStart, MOST_AT_ONCE, RedisStore};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{Cursor, Listed, Page};
use crate::record::IndexEntry;

/// The most sessions of a partition that are read first, since all sessions of an entry usually fit into one page.
const FIRST_READ: usize = 64;

/// The start of a page: after a name of a partition's set, or at its beginning.
struct PageStart {
    partition: u16,
    after: Option<(String, StoreKey)>,
}

impl PageStart {
    fn read(text: &str) -> Option<PageStart> {
        let mut parts = text.splitn(3, '/');
        let partition = parts.next()?.parse().ok()?;
        let after = match (parts.next()?, parts.next()) {
            ("", None) => None,
            (score, name) => {
                // A cursor may come from a client, so the score must be a number.
                score.parse::<f64>().ok().filter(|score| score.is_finite())?;
                Some((score.to_owned(), name?.parse().ok()?))
            }
        };
        Some(PageStart { partition, after })
    }

    fn cursor(&self) -> Cursor {
        match &self.after {
            Some((score, name)) => Cursor::new(format!("{}/{score}/{}", self.partition, name.as_str())),
            None => Cursor::new(format!("{}/", self.partition)),
        }
    }
}

impl RedisStore {
    pub(in crate::provider::redis) async fn indexed(
        &self,
        entry: &IndexEntry,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        if limit == 0 {
            return Ok(Page { entries: Vec::new(), next: cursor });
        }
        let limit = limit.min(MOST_AT_ONCE);
        let mut start = match cursor {
            None if self.is_cluster => {
                if let Some(page) = self.all_of(entry, limit).await? {
                    return Ok(page);
                }
                PageStart { partition: 0, after: None }
            }
            None => PageStart { partition: 0, after: None },
            Some(cursor) => match PageStart::read(cursor.as_str()) {
                Some(start) => start,
                None => return Ok(Page::default()),
            },
        };
        // Partitions without sessions of the entry are skipped.
        loop {
            let (entries, next) = self.page_of(entry, &start, limit).await?;
            let Some(next) = next else { return Ok(Page { entries, next: None }) };
            if !entries.is_empty() {
                return Ok(Page { entries, next: Some(next.cursor()) });
            }
            start = next;
        }
    }

    /// Returns a page from one partition, and the start of the next page.
    async fn page_of(
        &self,
        entry: &IndexEntry,
        from: &PageStart,
        limit: usize,
    ) -> Result<(Vec<Listed>, Option<PageStart>)> {
        let Some(partition) = self.layout.partition(from.partition) else { return Ok((Vec::new(), None)) };
        let after = match &from.after {
            Some((score, name)) => ListStart::After { score, name },
            None => ListStart::First,
        };
        let list = self.list(&partition, partition.entry(entry), "", after, limit).await?;
        let next = match (list.more, list.names.last()) {
            (Some(score), Some(name)) => {
                Some(PageStart { partition: from.partition, after: Some((score, name.clone())) })
            }
            _ => {
                let next = self.layout.partition(from.partition + 1);
                next.map(|next| PageStart { partition: next.number, after: None })
            }
        };
        Ok((theirs(list.entries, entry), next))
    }

    /// Returns all sessions of an entry on a cluster, if they fit into a page.
    ///
    /// A session may move from one partition to another meanwhile, and be read in both or in neither. So all partitions are read
    /// twice, and again until nothing has changed in between and no session is being moved.
    async fn all_of(&self, entry: &IndexEntry, limit: usize) -> Result<Option<Page>> {
        let deadline = self.client.deadline();
        let Some((mut found, mut moving)) = self.read_all(entry, limit).await? else {
            return Ok(None);
        };
        for turn in 0.. {
            let Some((again, still)) = self.read_all(entry, limit).await? else { return Ok(None) };
            let settled = !moving && !still && keys_of(&found) == keys_of(&again);
            (found, moving) = (again, still);
            if settled || !pause(deadline, turn).await {
                break;
            }
        }
        Ok(Some(Page { entries: found, next: None }))
    }

    /// Reads the sessions of an entry from all partitions. Returns them, and true if a session is being moved. Returns `None` if
    /// there are more than `limit`.
    async fn read_all(&self, entry: &IndexEntry, limit: usize) -> Result<Option<(Vec<Listed>, bool)>> {
        let lists = self.layout.partitions().map(|partition| async move {
            let set = partition.entry(entry);
            self.list(&partition, set, "", ListStart::First, limit.min(FIRST_READ)).await
        });
        let lists: Vec<ListPage> = futures_util::future::try_join_all(lists).await?;
        let (more, moving) =
            (lists.iter().any(|list| list.more.is_some()), lists.iter().any(|list| list.moving));
        let entries = theirs(lists.into_iter().flat_map(|list| list.entries), entry);
        Ok((!more && entries.len() <= limit).then_some((entries, moving)))
    }
}

/// Returns `entries` without those that have lost the index entry since they were entered.
fn theirs(entries: impl IntoIterator<Item = Listed>, entry: &IndexEntry) -> Vec<Listed> {
    entries.into_iter().filter(|listed| listed.meta.is_indexed_by(entry)).collect()
}

fn keys_of(listed: &[Listed]) -> BTreeSet<&StoreKey> {
    listed.iter().map(|entry| &entry.key).collect()
}
