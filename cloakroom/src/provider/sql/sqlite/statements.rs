//! The statements on one table and its index. Each `?` with a number is a bound value.

use crate::provider::sql::row::KEEP_UNREADABLE;
use crate::provider::sql::table::TableName;
use crate::record::Head;

/// The columns that a change writes, `?1` to `?6`.
const SET_COLUMNS: &str =
    "version = ?1, expires = ?2, absolute = ?3, idle = ?4, tombstone = ?5, record = ?6, touched = NULL";

#[derive(Debug)]
pub(super) struct SqliteStatements {
    /// `?1`: the key, `?2`: the time.
    pub(super) load: String,
    /// `?1` to `?6`: the columns, `?7`: the key. Changes nothing if the key exists.
    pub(super) insert: String,
    /// `?1` to `?6`: the columns, `?7`: the key, `?8`: the version, `?9`: the time.
    pub(super) update: String,
    /// [`update`](Self::update), and `?10`: the new key.
    pub(super) change_key: String,
    /// `?1`: the use, `?2`: the key, `?3`: the time.
    pub(super) touch: String,
    /// Deletes a live session. `?1`: the key, `?2`: the time.
    pub(super) delete: String,
    /// Deletes an expired record. `?1`: the key, `?2`: the time.
    pub(super) delete_expired: String,
    /// Selects the version of a live session. `?1`: the key, `?2`: the time.
    pub(super) version: String,
    /// Finds a session or tombstone that has not expired. `?1`: the key, `?2`: the time.
    pub(super) exists: String,
    /// Moves an unreadable record to an id that is no key, as a tombstone that expires after [`KEEP_UNREADABLE`]. `?1`: the key, `?2`: the
    /// record, `?3`: the time.
    pub(super) put_aside: String,
    /// `?1`: the kind, `?2`: the value, `?3`: the key. A row that exists already, as a restored backup may have left it, stays.
    pub(super) index_insert: String,
    /// `?1`: the key.
    pub(super) index_delete: String,
    /// `?1`: the time.
    pub(super) count: String,
    /// `?1`: the key before the page, `?2`: the time, `?3`: the number of rows.
    pub(super) scan: String,
    /// `?1` to `?3` as in [`scan`](Self::scan), `?4`: the kind, `?5`: the value.
    pub(super) indexed: String,
    /// Deletes the index rows of the oldest expired records. `?1`: the time, `?2`: the number of records.
    pub(super) collect_index: String,
    /// Deletes the oldest expired records. `?1`: the time, `?2`: their number.
    pub(super) collect: String,
    /// `?1`: the time.
    pub(super) remaining: String,
}

impl SqliteStatements {
    pub(super) fn of(table: &TableName) -> Self {
        let index = table.index();
        let live = |now: u8| format!("tombstone = 0 AND expires > ?{now}");
        let head = Head::MOST;
        // The order decides alone which records are the oldest, so that both statements of a collection choose the same.
        let oldest = format!("SELECT id FROM \"{table}\" WHERE expires <= ?1 ORDER BY expires, id LIMIT ?2");
        let update = |more: &str| {
            format!(
                "UPDATE \"{table}\" SET {SET_COLUMNS}{more} WHERE id = ?7 AND version = ?8 AND {}",
                live(9)
            )
        };
        SqliteStatements {
            load: format!("SELECT record, touched FROM \"{table}\" WHERE id = ?1 AND expires > ?2"),
            insert: format!(
                "INSERT INTO \"{table}\" (version, expires, absolute, idle, tombstone, record, id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING"
            ),
            update: update(""),
            change_key: update(", id = ?10"),
            // The inner MIN keeps the sum within the type, for sessions that never end.
            touch: format!(
                "UPDATE \"{table}\" SET touched = MAX(COALESCE(touched, 0), ?1), expires = MIN(absolute, \
                 MAX(expires, ?1 + MIN(idle, 9223372036854775807 - ?1))) WHERE id = ?2 AND {}",
                live(3)
            ),
            delete: format!("DELETE FROM \"{table}\" WHERE id = ?1 AND {}", live(2)),
            delete_expired: format!("DELETE FROM \"{table}\" WHERE id = ?1 AND expires <= ?2"),
            version: format!("SELECT version FROM \"{table}\" WHERE id = ?1 AND {}", live(2)),
            exists: format!("SELECT 1 FROM \"{table}\" WHERE id = ?1 AND expires > ?2"),
            // The old id and the time make the new id unique.
            put_aside: format!(
                "UPDATE \"{table}\" SET id = '!' || substr(id, 1, 170) || '.' || ?3, tombstone = 1, \
                 expires = ?3 + {KEEP_UNREADABLE} WHERE id = ?1 AND CAST(record AS BLOB) = ?2"
            ),
            index_insert: format!(
                "INSERT INTO \"{index}\" (kind, value, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
            ),
            index_delete: format!("DELETE FROM \"{index}\" WHERE id = ?1"),
            count: format!("SELECT COUNT(*) FROM \"{table}\" WHERE {}", live(1)),
            // A row that is no live session counts for the length of the page too, so that each page is bounded.
            scan: format!(
                "SELECT id, substr(record, 1, {head}), touched, {} FROM \"{table}\" WHERE id > ?1 ORDER BY id LIMIT ?3",
                live(2)
            ),
            indexed: format!(
                "SELECT page.id, substr(record, 1, {head}), touched, COALESCE({}, 0) \
                 FROM (SELECT id FROM \"{index}\" WHERE kind = ?4 AND value = ?5 AND id > ?1 ORDER BY id LIMIT ?3) AS page \
                 LEFT JOIN \"{table}\" AS held ON held.id = page.id ORDER BY page.id",
                live(2)
            ),
            collect_index: format!("DELETE FROM \"{index}\" WHERE id IN ({oldest})"),
            collect: format!("DELETE FROM \"{table}\" WHERE id IN ({oldest})"),
            remaining: format!("SELECT 1 FROM \"{table}\" WHERE expires <= ?1 LIMIT 1"),
        }
    }
}
