//! The statements of one table.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::provider::sql::table::TableName;
use crate::record::Head;

/// The time that deadlines are compared with, in milliseconds since 1970: the bound value, or the server's clock if that is NULL.
/// It does not use UNIX_TIMESTAMP, which ends in 2038 on current servers.
const NOW: &str = "COALESCE(?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";

/// The time that an unreadable record is kept: a week, in milliseconds.
const KEEP_UNREADABLE: u32 = 7 * 24 * 3_600 * 1_000;

/// The columns that a change writes, in the order of their bound values.
const SET_COLUMNS: &str =
    "version = ?, expires = ?, absolute = ?, tombstone = ?, principal = ?, record = ?, touched = NULL";

/// The statements of one table. Each `?` is a bound value.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) load: SqlStr,
    pub(super) insert: SqlStr,
    /// Replaces an expired record.
    pub(super) replace: SqlStr,
    pub(super) update: SqlStr,
    /// Updates a record and its key.
    pub(super) change_key: SqlStr,
    pub(super) touch: SqlStr,
    pub(super) delete: SqlStr,
    /// Selects the version of a live session.
    pub(super) version: SqlStr,
    /// Finds a session or tombstone that has not expired.
    pub(super) exists: SqlStr,
    /// Deletes one expired record by its key.
    pub(super) delete_expired: SqlStr,
    /// Moves an unreadable record to an id that is no key, as a tombstone that expires after [`KEEP_UNREADABLE`].
    pub(super) put_aside: SqlStr,
    pub(super) count: SqlStr,
    pub(super) scan: SqlStr,
    pub(super) of_principal: SqlStr,
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
        let live = format!("tombstone = 0 AND expires > {NOW}");
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        // The record keeps the times of its last change, and a touch never changes the time between the two.
        let (used, deadline) = (header_time(33), header_time(41));
        let idle = format!("IF({deadline} > {used}, {deadline} - {used}, 0)");
        let listed = format!("SELECT id, LEFT(record, {}), touched, expires FROM", Head::MOST);
        Statements {
            load: sql(format!(
                "SELECT record, touched, expires FROM `{table}` WHERE id = ? AND expires > {NOW}"
            )),
            insert: sql(format!(
                "INSERT INTO `{table}` (version, expires, absolute, tombstone, principal, record, id) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            )),
            replace: sql(format!("UPDATE `{table}` SET {SET_COLUMNS} WHERE id = ? AND expires <= {NOW}")),
            update: sql(format!(
                "UPDATE `{table}` SET {SET_COLUMNS} WHERE id = ? AND version = ? AND {live}"
            )),
            change_key: sql(format!(
                "UPDATE `{table}` SET {SET_COLUMNS}, id = ? WHERE id = ? AND version = ? AND {live}"
            )),
            touch: sql(format!(
                "UPDATE `{table}` SET touched = GREATEST(COALESCE(touched, {used}), ?), \
                 expires = LEAST(absolute, GREATEST(expires, ? + LEAST({idle}, ~0 - ?))) WHERE id = ? AND {live}"
            )),
            delete: sql(format!("DELETE FROM `{table}` WHERE id = ? AND {live}")),
            version: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND {live}")),
            exists: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND expires > {NOW}")),
            delete_expired: sql(format!("DELETE FROM `{table}` WHERE id = ? AND expires <= {NOW}")),
            // The old id and the time make the new id unique.
            put_aside: sql(format!(
                "UPDATE `{table}` SET id = CONCAT('!', LEFT(id, 170), '.', {NOW}), tombstone = 1, expires = {NOW} + {KEEP_UNREADABLE} \
                 WHERE id = ? AND record = ?"
            )),
            count: sql(format!("SELECT COUNT(*) FROM `{table}` WHERE {live}")),
            scan: sql(format!("{listed} `{table}` WHERE id > ? AND {live} ORDER BY id LIMIT ?")),
            of_principal: sql(format!(
                "{listed} `{table}` WHERE principal = ? AND id > ? AND {live} ORDER BY id LIMIT ?"
            )),
            collect: sql(format!("DELETE FROM `{table}` WHERE expires <= {NOW} ORDER BY expires LIMIT ?")),
            remaining: sql(format!("SELECT version FROM `{table}` WHERE expires <= {NOW} LIMIT 1")),
            lock: sql("SELECT GET_LOCK(?, 0)".to_owned()),
            unlock: sql("DO RELEASE_LOCK(?)".to_owned()),
            lock_name: lock_name(table, database).into(),
        }
    }
}

/// Returns the time in the record's header at `place`, which counts from 1: 8 bytes, the most significant first.
fn header_time(place: usize) -> String {
    format!("CAST(CONV(HEX(SUBSTRING(record, {place}, 8)), 16, 10) AS UNSIGNED)")
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
