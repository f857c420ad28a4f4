//! The count, and pages of sessions. A page reads only the head of each record, so that its size in bytes is bounded.

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::connection::Arguments;
use super::error::MySqlError;
use super::store::MySqlStore;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Cursor, Listed, Page};
use crate::record::{Head, IndexEntry};

/// The most rows of a page. A page is completely in memory.
const LONGEST_PAGE: usize = 1_000;

/// A row of a list.
#[derive(Debug)]
struct ListedRow {
    id: Vec<u8>,
    head: Vec<u8>,
    touched: Option<u64>,
    expires: u64,
}

impl MySqlStore {
    pub(super) async fn count(&self) -> Result<u64, MySqlError> {
        let mut bound = Arguments::default();
        bound.now(self.now());
        let rows = self.connection().await?.fetch(&self.sql.count, bound).await?;
        let count = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok());
        count.map(i64::cast_unsigned).ok_or(MySqlError::Protocol)
    }

    /// Returns the sessions after the cursor, in the order of their keys.
    pub(super) async fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page, MySqlError> {
        self.page(&self.sql.scan, None, cursor, limit).await
    }

    /// Returns the sessions under an index entry after the cursor, in the order of their keys.
    pub(super) async fn indexed(
        &self,
        entry: &IndexEntry,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, MySqlError> {
        self.page(&self.sql.indexed, Some(entry), cursor, limit).await
    }

    async fn page(
        &self,
        sql: &SqlStr,
        entry: Option<&IndexEntry>,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, MySqlError> {
        let (after, limit) = (cursor.map_or("", Cursor::as_str), limit.min(LONGEST_PAGE));
        let mut bound = Arguments::default();
        if let Some(entry) = entry {
            bound.bytes(entry.kind().as_str().as_bytes());
            bound.bytes(entry.value().as_bytes());
        }
        bound.bytes(after.as_bytes());
        bound.now(self.now());
        bound.number(limit as u64);
        let rows = self.connection().await?.fetch(sql, bound).await?;
        let rows = rows.iter().map(ListedRow::of).collect::<Result<Vec<_>, _>>()?;
        let last = rows.last().map_or(after.as_bytes(), |row| &row.id);
        let next = (rows.len() == limit).then(|| Cursor::new(String::from_utf8_lossy(last)));
        Ok(Page { entries: rows.iter().filter_map(ListedRow::listed).collect(), next })
    }
}

impl ListedRow {
    fn of(row: &MySqlRow) -> Result<Self, MySqlError> {
        Ok(ListedRow {
            id: row.try_get(0).map_err(|_| MySqlError::Row { column: "id" })?,
            head: row.try_get(1).map_err(|_| MySqlError::Row { column: "record" })?,
            touched: row.try_get(2).map_err(|_| MySqlError::Row { column: "touched" })?,
            expires: row.try_get(3).map_err(|_| MySqlError::Row { column: "expires" })?,
        })
    }

    /// Returns `None` and logs a warning for an unreadable row, so that one bad row does not fail the list.
    fn listed(&self) -> Option<Listed> {
        let listed = self.read();
        listed.inspect_err(|error| tracing::warn!(%error, "a list skipped a row that cannot be read")).ok()
    }

    fn read(&self) -> Result<Listed> {
        let key = std::str::from_utf8(&self.id).ok().and_then(|text| text.parse::<StoreKey>().ok());
        let key = key.ok_or_else(|| Error::new(ErrorKind::Corrupt, MySqlError::Row { column: "id" }))?;
        let mut head = Head::read(&self.head)?;
        if let Some(touched) = self.touched {
            head.set_use(Millis(touched), Millis(self.expires));
        }
        Ok(Listed { key, meta: head.meta() })
    }
}
