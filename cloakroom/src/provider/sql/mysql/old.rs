//! Another library's records in a table of MariaDB or MySQL.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, SqlStr};

use super::connection::Arguments;
use super::error::MySqlError;
use super::store::MySqlStore;
use crate::error::Result;
use crate::migration::{OldBytes, OldColumns, OldStore, OldTable};

/// The table of tower-sessions.
const TOWER_SESSIONS: &str = "tower_sessions.session";

/// The rows of one table.
pub(super) struct MySqlOldRows {
    store: MySqlStore,
    load: SqlStr,
    delete: SqlStr,
}

impl MySqlOldRows {
    /// Opens an existing table, and checks that the user may read and delete its rows.
    pub(super) async fn open(store: MySqlStore, table: &OldTable) -> Result<Self, MySqlError> {
        // The id is compared twice: by the column's collation, which uses the index but may ignore case, and byte for byte.
        const ID: &str = "id = ? AND CAST(id AS BINARY) = ?";
        let name = quoted(table)?;
        let columns = match table.columns() {
            // The record holds its own time of expiry.
            OldColumns::Date => "CAST(data AS BINARY), CAST(NULL AS UNSIGNED)",
            OldColumns::Seconds => {
                "CAST(CONVERT(session USING utf8mb4) AS BINARY), CAST(GREATEST(expires, 0) AS UNSIGNED)"
            }
        };
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        let rows = MySqlOldRows {
            store,
            load: sql(format!("SELECT {columns} FROM {name} WHERE {ID}")),
            delete: sql(format!("DELETE FROM {name} WHERE {ID}")),
        };
        let mut connection = rows.store.connection().await?;
        connection.prepare(&rows.load).await?;
        connection.prepare(&rows.delete).await?;
        drop(connection);
        Ok(rows)
    }
}

/// Returns the quoted name of the table.
pub(super) fn quoted(table: &OldTable) -> Result<String, MySqlError> {
    let (what, expected) =
        ("the old table", "a name of letters, digits, _ and -, with a database before a dot if need be");
    let found = || "another name".to_owned();
    table.quoted(TOWER_SESSIONS, '`').ok_or_else(|| MySqlError::Setting { what, expected, found: found() })
}

fn id(key: &str) -> Arguments<'_> {
    let mut bound = Arguments::default();
    bound.text(key);
    bound.bytes(key.as_bytes());
    bound
}

impl OldStore for MySqlOldRows {
    async fn load(&self, key: &str) -> Result<Option<OldBytes>> {
        let load = || async {
            let rows = self.store.connection().await?.fetch(&self.load, id(key)).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let bytes = row.try_get::<Vec<u8>, _>(0).map_err(|_| MySqlError::Row { column: "data" })?;
            let expires =
                row.try_get::<Option<u64>, _>(1).map_err(|_| MySqlError::Row { column: "expires" })?;
            let expires = expires.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
            Ok(Some(OldBytes::new(bytes, expires)))
        };
        Ok(self.store.within_deadline(self.store.retry_idempotent(load)).await?)
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let delete =
            || async { Ok(self.store.connection().await?.execute(&self.delete, id(key)).await? > 0) };
        Ok(self.store.within_deadline(self.store.retry_idempotent(delete)).await?)
    }
}
