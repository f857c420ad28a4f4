//! The statements of one provider, for its two tables.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::provider::sql::index::MAX_ROWS;
use crate::provider::sql::row::KEEP_UNREADABLE;
use crate::provider::sql::table::TableName;
use crate::record::Head;

/// The time that deadlines are compared with, in milliseconds since 1970: the bound value, or the server's clock if that is NULL.
/// It does not use UNIX_TIMESTAMP, which ends in 2038 on current servers.
const NOW: &str = "COALESCE(?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";

/// The columns that a change writes, in the order of their bound values.
const SET_COLUMNS: &str =
    "version = ?, expires = ?, absolute = ?, idle = ?, tombstone = ?, record = ?, touched = NULL";

/// The statements on one table and its index. Each `?` is a bound value.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) load: SqlStr,
    pub(super) insert: SqlStr,
    pub(super) update: SqlStr,
    /// [`update`](Self::update), only if the record has no index rows.
    pub(super) update_unindexed: SqlStr,
    /// Updates a record and its key.
    pub(super) change_key: SqlStr,
    /// [`change_key`](Self::change_key), only if the record has no index rows.
    pub(super) change_key_unindexed: SqlStr,
    pub(super) touch: SqlStr,
    /// Deletes a live session and its index rows.
    pub(super) delete: SqlStr,
    /// Selects the version of a live session.
    pub(super) version: SqlStr,
    /// Finds a session or tombstone that has not expired.
    pub(super) exists: SqlStr,
    /// Deletes one expired record and its index rows.
    pub(super) delete_expired: SqlStr,
    /// Moves an unreadable record to an id that is no key, as a tombstone that expires after [`KEEP_UNREADABLE`].
    pub(super) put_aside: SqlStr,
    /// Insert 1 to [`MAX_ROWS`] index rows.
    pub(super) index_insert: Vec<SqlStr>,
    /// Deletes the index rows of a key.
    pub(super) index_delete: SqlStr,
    pub(super) count: SqlStr,
    pub(super) scan: SqlStr,
    /// Selects a page of the sessions under an index entry.
    pub(super) indexed: SqlStr,
    /// Deletes the index rows of the oldest expired records.
    pub(super) collect_index: SqlStr,
    /// Deletes the oldest expired records that have no index rows.
    pub(super) collect: SqlStr,
    pub(super) remaining: SqlStr,
    pub(super) lock: SqlStr,
    pub(super) unlock: SqlStr,
    /// The name of the lock of garbage collection. Lock names belong to the server, not to the database.
    pub(super) lock_name: Arc<str>,
}

impl Statements {
    /// Writes the statements for `table` of `database`.
    pub(super) fn of(table: &TableName, database: &str) -> Self {
        let index = table.index();
        let live = format!("tombstone = 0 AND expires > {NOW}");
        let expired = format!("expires <= {NOW}");
        let unindexed = format!("NOT EXISTS (SELECT 1 FROM `{index}` WHERE `{index}`.id = `{table}`.id)");
        let update = format!("UPDATE `{table}` SET {SET_COLUMNS} WHERE id = ? AND version = ? AND {live}");
        let change_key =
            format!("UPDATE `{table}` SET {SET_COLUMNS}, id = ? WHERE id = ? AND version = ? AND {live}");
        let delete = delete(table, &index);
        let head = Head::MOST;
        Statements {
            load: sql(format!("SELECT record, touched FROM `{table}` WHERE id = ? AND expires > {NOW}")),
            insert: sql(format!(
                "INSERT INTO `{table}` (version, expires, absolute, idle, tombstone, record, id) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            )),
            update_unindexed: sql(format!("{update} AND {unindexed}")),
            update: sql(update),
            change_key_unindexed: sql(format!("{change_key} AND {unindexed}")),
            change_key: sql(change_key),
            touch: sql(touch(table, &live)),
            delete_expired: sql(format!("{delete} AND {expired}")),
            delete: sql(format!("{delete} AND {live}")),
            version: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND {live}")),
            exists: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND expires > {NOW}")),
            // The old id and the time make the new id unique.
            put_aside: sql(format!(
                "UPDATE `{table}` SET id = CONCAT('!', LEFT(id, 170), '.', {NOW}), tombstone = 1, \
                 expires = {NOW} + {KEEP_UNREADABLE} WHERE id = ? AND record = ?"
            )),
            index_insert: (1..=MAX_ROWS).map(|rows| sql(index_insert(&index, rows))).collect(),
            index_delete: sql(format!("DELETE FROM `{index}` WHERE id = ?")),
            count: sql(format!("SELECT COUNT(*) FROM `{table}` WHERE {live}")),
            scan: sql(format!(
                "SELECT id, LEFT(record, {head}), touched FROM `{table}` \
                 WHERE id > ? AND {live} ORDER BY id LIMIT ?"
            )),
            // STRAIGHT_JOIN reads the index first, which has the rows in the order of the page.
            indexed: sql(format!(
                "SELECT `{table}`.id, LEFT(record, {head}), touched \
                 FROM `{index}` STRAIGHT_JOIN `{table}` ON `{table}`.id = `{index}`.id \
                 WHERE kind = ? AND value = ? AND `{index}`.id > ? AND {live} ORDER BY `{index}`.id LIMIT ?"
            )),
            collect_index: sql(format!(
                "DELETE `{index}` FROM (SELECT id FROM `{table}` WHERE {expired} ORDER BY expires LIMIT ?) AS oldest \
                 STRAIGHT_JOIN `{index}` ON `{index}`.id = oldest.id"
            )),
            collect: sql(format!(
                "DELETE FROM `{table}` WHERE {expired} AND {unindexed} ORDER BY expires LIMIT ?"
            )),
            remaining: sql(format!("SELECT version FROM `{table}` WHERE {expired} LIMIT 1")),
            lock: sql("SELECT GET_LOCK(?, 0)".to_owned()),
            unlock: sql("DO RELEASE_LOCK(?)".to_owned()),
            lock_name: lock_name(table, database).into(),
        }
    }
}

/// Deletes a row and its index rows in one statement, so that no other call sees one without the other.
fn delete(table: &TableName, index: &TableName) -> String {
    format!(
        "DELETE `{table}`, `{index}` FROM `{table}` LEFT JOIN `{index}` ON `{index}`.id = `{table}`.id \
         WHERE `{table}`.id = ?"
    )
}

/// Stores a use. The last LEAST keeps the sum within the type, for sessions that never end.
fn touch(table: &TableName, live: &str) -> String {
    format!(
        "UPDATE `{table}` SET touched = GREATEST(COALESCE(touched, 0), ?), \
         expires = LEAST(absolute, GREATEST(expires, ? + LEAST(idle, ~0 - ?))) WHERE id = ? AND {live}"
    )
}

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// Returns the statement that inserts `rows` index rows. It ignores a row that exists, which a restored backup may have left. An upsert
/// would need the right to UPDATE.
fn index_insert(index: &TableName, rows: usize) -> String {
    let values = vec!["(?, ?, ?)"; rows].join(", ");
    format!("INSERT IGNORE INTO `{index}` (kind, value, id) VALUES {values}")
}

/// Returns the name of the lock. It is a digest, since a lock's name has at most 64 characters and a database's name may have as many.
fn lock_name(table: &TableName, database: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(b"cloakroom/gc\0")
        .chain_update(database)
        .chain_update(b"\0")
        .chain_update(table.as_str())
        .finalize();
    format!("cloakroom/gc/{}", data_encoding::HEXLOWER.encode(&digest[..16]))
}
