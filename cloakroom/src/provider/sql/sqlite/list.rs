//! The reads: one record, the count, and pages of sessions.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

use super::error::SqliteError;
use super::statements::SqliteStatements;
use super::value::unbound;
use crate::id::StoreKey;
use crate::provider::sql::listed::{LONGEST_PAGE, ListedRow};
use crate::provider::sql::row::StoredRow;
use crate::provider::{Cursor, Page};
use crate::record::IndexEntry;

/// Reads the record under `key`, a tombstone too, if it has not expired at `now`.
pub(super) fn load(
    connection: &Connection,
    sql: &SqliteStatements,
    key: &StoreKey,
    now: i64,
) -> Result<Option<StoredRow>, SqliteError> {
    let mut statement = connection.prepare_cached(&sql.load)?;
    let mut rows = statement.query((key.as_str(), now))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(StoredRow { bytes: bytes(row, 0)?, touched: touched(row, 1)? }))
}

pub(super) fn count(connection: &Connection, sql: &SqliteStatements, now: i64) -> Result<u64, SqliteError> {
    let count: i64 = connection.prepare_cached(&sql.count)?.query_row((now,), |row| row.get(0))?;
    Ok(unbound(count))
}

/// Returns the sessions after the cursor, in the order of their keys: all of them, or those under `entry`.
pub(super) fn page(
    connection: &Connection,
    sql: &SqliteStatements,
    entry: Option<&IndexEntry>,
    cursor: Option<&Cursor>,
    (limit, now): (usize, i64),
) -> Result<Page, SqliteError> {
    let (after, limit) = (cursor.map_or("", Cursor::as_str), limit.min(LONGEST_PAGE));
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = match entry {
        None => rows(connection, &sql.scan, (after, now, most))?,
        Some(entry) => {
            rows(connection, &sql.indexed, (after, now, most, entry.kind().as_str(), entry.value()))?
        }
    };
    let last = rows.last().map_or(after.as_bytes(), |(row, _)| &row.id);
    let next = (rows.len() == limit).then(|| Cursor::new(String::from_utf8_lossy(last)));
    let live = rows.iter().filter_map(|(row, is_live)| is_live.then_some(row));
    Ok(Page { entries: live.filter_map(ListedRow::listed).collect(), next })
}

/// Reads the rows of a page, each with whether it is a live session.
fn rows(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<(ListedRow, bool)>, SqliteError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let is_live: bool = row.get(3).map_err(|_| SqliteError::Row { column: "expires" })?;
        // The other columns are read of live sessions alone: an index row may lead to none.
        let (head, touched) = if is_live { (bytes(row, 1)?, touched(row, 2)?) } else { (Vec::new(), None) };
        listed.push((ListedRow { id: bytes(row, 0)?, head, touched }, is_live));
    }
    Ok(listed)
}

/// Reads the bytes of a text or a blob. Every other value has none, and neither does the beginning of an empty blob, which is NULL.
fn bytes(row: &Row<'_>, place: usize) -> Result<Vec<u8>, SqliteError> {
    match row.get_ref(place)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes.to_vec()),
        _ => Ok(Vec::new()),
    }
}

/// Reads the column `touched`, which is at `place`.
fn touched(row: &Row<'_>, place: usize) -> Result<Option<u64>, SqliteError> {
    let touched: Option<i64> = row.get(place).map_err(|_| SqliteError::Row { column: "touched" })?;
    Ok(touched.map(unbound))
}
