//! Every statement there is, written once for a table.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::provider::sql::table::TableName;
use crate::record::Head;

/// The time that deadlines are compared with, in milliseconds since 1970: the bound one, or where that is NULL the server's own.
/// Not by UNIX_TIMESTAMP, which ends in 2038 on servers of today.
const NOW: &str = "COALESCE(?, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";

/// How long a record that cannot be read is kept: a week, in milliseconds.
const ASIDE: u32 = 7 * 24 * 3_600 * 1_000;

/// The columns that a change writes, in the order in which they are bound.
const CHANGED: &str =
    "version = ?, expires = ?, absolute = ?, tombstone = ?, principal = ?, record = ?, touched = NULL";

/// The statements of one table; `?` stand for what is bound.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) load: SqlStr,
    pub(super) insert: SqlStr,
    /// Puts a record in the place of an expired one.
    pub(super) replace: SqlStr,
    pub(super) update: SqlStr,
    /// [`update`](Self::update), and the key with it.
    pub(super) rekey: SqlStr,
    pub(super) touch: SqlStr,
    pub(super) delete: SqlStr,
    /// The version of a live session.
    pub(super) version: SqlStr,
    /// Whether anything that has not expired is under a key.
    pub(super) taken: SqlStr,
    /// Removes one expired record by its key.
    pub(super) bury: SqlStr,
    /// Moves an unreadable record to a key that is none, as the mark that nothing is there, for [`ASIDE`].
    pub(super) put_aside: SqlStr,
    pub(super) count: SqlStr,
    pub(super) scan: SqlStr,
    pub(super) of_principal: SqlStr,
    pub(super) collect: SqlStr,
    pub(super) remaining: SqlStr,
    pub(super) lock: SqlStr,
    pub(super) unlock: SqlStr,
    /// What the lock of garbage collection is called. Such names are the server's, not the database's.
    pub(super) lock_name: Arc<str>,
}

impl Statements {
    /// `database` is where the table is.
    pub(super) fn of(table: &TableName, database: &str) -> Self {
        let live = format!("tombstone = 0 AND expires > {NOW}");
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        let listed = format!("SELECT id, LEFT(record, {}), touched, expires FROM", Head::MOST);
        Statements {
            load: sql(format!(
                "SELECT record, touched, expires FROM `{table}` WHERE id = ? AND expires > {NOW}"
            )),
            insert: sql(format!(
                "INSERT INTO `{table}` (version, expires, absolute, tombstone, principal, record, id) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            )),
            replace: sql(format!("UPDATE `{table}` SET {CHANGED} WHERE id = ? AND expires <= {NOW}")),
            update: sql(format!("UPDATE `{table}` SET {CHANGED} WHERE id = ? AND version = ? AND {live}")),
            rekey: sql(format!(
                "UPDATE `{table}` SET {CHANGED}, id = ? WHERE id = ? AND version = ? AND {live}"
            )),
            touch: sql(format!(
                "UPDATE `{table}` SET touched = ?, expires = LEAST(?, absolute) WHERE id = ? AND version = ? AND {live}"
            )),
            delete: sql(format!("DELETE FROM `{table}` WHERE id = ? AND {live}")),
            version: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND {live}")),
            taken: sql(format!("SELECT version FROM `{table}` WHERE id = ? AND expires > {NOW}")),
            bury: sql(format!("DELETE FROM `{table}` WHERE id = ? AND expires <= {NOW}")),
            // The old id and the time make one that no other record has.
            put_aside: sql(format!(
                "UPDATE `{table}` SET id = CONCAT('!', LEFT(id, 170), '.', {NOW}), tombstone = 1, expires = {NOW} + {ASIDE} \
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

/// A digest, since a lock's name has at most 64 characters and those of databases and tables as many each.
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
