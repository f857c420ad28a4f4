//! The count, and pages of sessions.

use tokio_postgres::Row;

use super::error::PostgresError;
use super::statements::SqlText;
use super::store::PostgresStore;
use super::value::{SqlValue, unstored};
use crate::provider::sql::listed::{LONGEST_PAGE, ListedRow};
use crate::provider::{Cursor, Listed, Page};
use crate::record::{IndexEntry, IndexKind};

impl PostgresStore {
    pub(super) async fn count(&self) -> Result<u64, PostgresError> {
        let rows = self.connection().await?.fetch(&self.sql.count, &[self.now()]).await?;
        let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
        count.map(i64::cast_unsigned).ok_or(PostgresError::Protocol)
    }

    /// Returns the sessions after the cursor, in the order of their keys.
    pub(super) async fn scan(&self, cursor: Option<&Cursor>, limit: usize) -> Result<Page, PostgresError> {
        let (after, limit) = (cursor.map_or("", Cursor::as_str), limit.min(LONGEST_PAGE));
        let values = [SqlValue::Text(after), SqlValue::Number(limit as i64), self.now()];
        self.page(&self.sql.scan, &values, (after, limit)).await
    }

    /// Returns the sessions under an index entry after the cursor, in the order of their keys.
    pub(super) async fn indexed(
        &self,
        entry: &IndexEntry,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, PostgresError> {
        let (after, limit) = (cursor.map_or("", Cursor::as_str), limit.min(LONGEST_PAGE));
        let values = [
            SqlValue::Text(entry.kind().as_str()),
            SqlValue::Bytes(entry.value().as_bytes()),
            SqlValue::Text(after),
            SqlValue::Number(limit as i64),
            self.now(),
        ];
        let mut page = self.page(&self.sql.indexed, &values, (after, limit)).await?;
        // The place of an expired record may have been taken while its index rows were not yet visible.
        page.entries.retain(|listed| has_entry(listed, entry));
        Ok(page)
    }

    async fn page(
        &self,
        sql: &SqlText,
        values: &[SqlValue<'_>],
        (after, limit): (&str, usize),
    ) -> Result<Page, PostgresError> {
        let rows = self.connection().await?.fetch(sql, values).await?;
        let id = |row: &Row| row.try_get::<_, String>(0).map_err(|_| PostgresError::Row { column: "id" });
        let last = rows.last().map(id).transpose()?;
        let next = (rows.len() == limit).then(|| Cursor::new(last.as_deref().unwrap_or(after)));
        let rows = rows.iter().map(listed_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page { entries: rows.iter().flatten().filter_map(ListedRow::listed).collect(), next })
    }
}

/// Reads the columns `id`, the head of `record`, and `touched`. Returns `None` for a row that is no live session.
fn listed_row(row: &Row) -> Result<Option<ListedRow>, PostgresError> {
    let head = row.try_get::<_, Option<Vec<u8>>>(1).map_err(|_| PostgresError::Row { column: "record" })?;
    let Some(head) = head else { return Ok(None) };
    let id = row.try_get::<_, String>(0).map_err(|_| PostgresError::Row { column: "id" })?;
    let touched = row.try_get::<_, Option<i64>>(2).map_err(|_| PostgresError::Row { column: "touched" })?;
    Ok(Some(ListedRow { id: id.into_bytes(), head, touched: touched.map(unstored) }))
}

fn has_entry(listed: &Listed, entry: &IndexEntry) -> bool {
    match entry.kind() {
        IndexKind::Principal => {
            listed.meta.principal().is_some_and(|principal| principal.as_str() == entry.value())
        }
        IndexKind::Label => listed.meta.labels().iter().any(|label| label.as_str() == entry.value()),
    }
}
