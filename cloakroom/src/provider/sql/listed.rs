//! The rows of a list. A list reads only the head of each record, so that the size of a page in bytes is bounded.

use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::Listed;
use crate::record::Head;

/// The most rows of a page. A page is completely in memory.
pub(super) const LONGEST_PAGE: usize = 1_000;

/// A row of a list.
#[derive(Debug)]
pub(super) struct ListedRow {
    pub(super) id: Vec<u8>,
    pub(super) head: Vec<u8>,
    pub(super) touched: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("a row's id is not one that this provider writes; check what else writes to the table")]
struct ForeignId;

impl ListedRow {
    /// Returns `None` and logs a warning for an unreadable row, so that one bad row does not fail the list.
    pub(super) fn listed(&self) -> Option<Listed> {
        let listed = self.read();
        listed.inspect_err(|error| tracing::warn!(%error, "a list skipped a row that cannot be read")).ok()
    }

    fn read(&self) -> Result<Listed> {
        let key = std::str::from_utf8(&self.id).ok().and_then(|text| text.parse::<StoreKey>().ok());
        let key = key.ok_or_else(|| Error::new(ErrorKind::Corrupt, ForeignId))?;
        let mut head = Head::read(&self.head)?;
        if let Some(touched) = self.touched {
            head.touch_at(Millis(touched));
        }
        Ok(Listed { key, meta: head.meta() })
    }
}
