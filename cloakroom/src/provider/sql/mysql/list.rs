//! The count, and pages of sessions.

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::connection::Arguments;
use super::error::MySqlError;
use super::store::MySqlStore;
use crate::provider::sql::listed::{LONGEST_PAGE, ListedRow};
use crate::provider::{Cursor, Page};
use crate::record::IndexEntry;

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
        let rows = rows.iter().map(listed_row).collect::<Result<Vec<_>, _>>()?;
        let last = rows.last().map_or(after.as_bytes(), |row| &row.id);
        let next = (rows.len() == limit).then(|| Cursor::new(String::from_utf8_lossy(last)));
        Ok(Page { entries: rows.iter().filter_map(ListedRow::listed).collect(), next })
    }
}

/// Reads the columns `id`, the head of `record`, and `touched`.
fn listed_row(row: &MySqlRow) -> Result<ListedRow, MySqlError> {
    Ok(ListedRow {
        id: row.try_get(0).map_err(|_| MySqlError::Row { column: "id" })?,
        head: row.try_get(1).map_err(|_| MySqlError::Row { column: "record" })?,
        touched: row.try_get(2).map_err(|_| MySqlError::Row { column: "touched" })?,
    })
}
