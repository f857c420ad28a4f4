//! The sessions of an index entry, a user or a label, in pages.
//!
//! The set of an entry is in the order of its scores, which only move up: a walk in this order meets every session that is there throughout,
//! though perhaps twice. Each page is one short step of the server, however many sessions the entry has.

use std::collections::BTreeSet;

use super::super::call::pause;
use super::{After, List, MOST_AT_ONCE, Store};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::{Cursor, Listed, Page};
use crate::record::IndexEntry;

/// The most sessions of a partition that are asked for in the hope that all of an entry's fit into one page.
const FIRST_LOOK: usize = 64;

/// Where a page begins: after a name of a partition's set, or at its start.
struct Place {
    partition: u16,
    after: Option<(String, StoreKey)>,
}

impl Place {
    fn read(text: &str) -> Option<Place> {
        let mut parts = text.splitn(3, '/');
        let partition = parts.next()?.parse().ok()?;
        let after = match (parts.next()?, parts.next()) {
            ("", None) => None,
            (score, name) => {
                // The server is given a number, whatever stands in the cursor.
                score.parse::<f64>().ok().filter(|score| score.is_finite())?;
                Some((score.to_owned(), name?.parse().ok()?))
            }
        };
        Some(Place { partition, after })
    }

    fn cursor(&self) -> Cursor {
        match &self.after {
            Some((score, name)) => Cursor::new(format!("{}/{score}/{}", self.partition, name.as_str())),
            None => Cursor::new(format!("{}/", self.partition)),
        }
    }
}

impl Store {
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
        let mut place = match cursor {
            None if self.is_cluster => {
                if let Some(page) = self.all_of(entry, limit).await? {
                    return Ok(page);
                }
                Place { partition: 0, after: None }
            }
            None => Place { partition: 0, after: None },
            Some(cursor) => match Place::read(cursor.as_str()) {
                Some(place) => place,
                None => return Ok(Page::default()),
            },
        };
        // Partitions in which the entry has nothing are passed over.
        loop {
            let (entries, next) = self.page_of(entry, &place, limit).await?;
            let Some(next) = next else { return Ok(Page { entries, next: None }) };
            if !entries.is_empty() {
                return Ok(Page { entries, next: Some(next.cursor()) });
            }
            place = next;
        }
    }

    /// A page from one partition, and where the next begins.
    async fn page_of(
        &self,
        entry: &IndexEntry,
        from: &Place,
        limit: usize,
    ) -> Result<(Vec<Listed>, Option<Place>)> {
        let Some(place) = self.layout.numbered(from.partition) else { return Ok((Vec::new(), None)) };
        let after = match &from.after {
            Some((score, name)) => After::Entry { score, name },
            None => After::Start,
        };
        let list = self.list(&place, place.entry(entry), "", after, limit).await?;
        let next = match (list.more, list.names.last()) {
            (Some(score), Some(name)) => {
                Some(Place { partition: from.partition, after: Some((score, name.clone())) })
            }
            _ => {
                let next = self.layout.numbered(from.partition + 1);
                next.map(|next| Place { partition: next.partition, after: None })
            }
        };
        Ok((theirs(list.entries, entry), next))
    }

    /// All sessions of an entry on a cluster, if they fit into a page.
    ///
    /// A session may go from one partition to another while they are asked, and be met in both or in neither. So all are asked twice,
    /// and again until nothing has changed in between and nothing is on its way.
    async fn all_of(&self, entry: &IndexEntry, limit: usize) -> Result<Option<Page>> {
        let deadline = self.caller.deadline();
        let Some((mut found, mut moving)) = self.look_at_all(entry, limit).await? else {
            return Ok(None);
        };
        for turn in 0.. {
            let Some((again, still)) = self.look_at_all(entry, limit).await? else { return Ok(None) };
            let settled = !moving && !still && keys_of(&found) == keys_of(&again);
            (found, moving) = (again, still);
            if settled || !pause(deadline, turn).await {
                break;
            }
        }
        Ok(Some(Page { entries: found, next: None }))
    }

    /// All partitions' sessions of an entry, and whether some session is on its way; nothing where there are more than `limit`.
    async fn look_at_all(&self, entry: &IndexEntry, limit: usize) -> Result<Option<(Vec<Listed>, bool)>> {
        let lists = self.layout.partitions().map(|place| async move {
            let set = place.entry(entry);
            self.list(&place, set, "", After::Start, limit.min(FIRST_LOOK)).await
        });
        let lists: Vec<List> = futures_util::future::try_join_all(lists).await?;
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
