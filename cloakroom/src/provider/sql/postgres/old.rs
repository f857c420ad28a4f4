//! Another library's records in a table of PostgreSQL.

use std::time::{Duration, SystemTime};

use super::error::PostgresError;
use super::statements::SqlText;
use super::store::PostgresStore;
use super::value::{SqlValue, unstored};
use crate::error::Result;
use crate::migration::{OldBytes, OldColumns, OldStore, OldTable};

/// The table of tower-sessions.
const TOWER_SESSIONS: &str = "tower_sessions.session";

/// The rows of one table.
pub(super) struct PostgresOldRows {
    store: PostgresStore,
    load: SqlText,
    delete: SqlText,
}

impl PostgresOldRows {
    /// Opens an existing table, and checks that the user may read and delete its rows.
    pub(super) async fn open(store: PostgresStore, table: &OldTable) -> Result<Self, PostgresError> {
        let name = quoted(table)?;
        let columns = match table.columns() {
            // The record holds its own time of expiry.
            OldColumns::Date => "data, NULL::bigint",
            OldColumns::Seconds => "pg_catalog.convert_to(session, 'UTF8'), expires::bigint",
        };
        let rows = PostgresOldRows {
            store,
            load: SqlText::new(format!("SELECT {columns} FROM {name} WHERE id = $1")),
            delete: SqlText::new(format!("DELETE FROM {name} WHERE id = $1")),
        };
        // No id is empty, so neither finds a row.
        let nobody = [SqlValue::Text("")];
        let mut connection = rows.store.connection().await?;
        connection.fetch(&rows.load, &nobody).await?;
        connection.execute(&rows.delete, &nobody).await?;
        drop(connection);
        Ok(rows)
    }
}

/// Returns the quoted name of the table.
pub(super) fn quoted(table: &OldTable) -> Result<String, PostgresError> {
    let (what, expected) =
        ("the old table", "a name of letters, digits, _ and -, with a schema before a dot if need be");
    let found = || "another name".to_owned();
    table.quoted(TOWER_SESSIONS, '"').ok_or_else(|| PostgresError::Setting { what, expected, found: found() })
}

impl OldStore for PostgresOldRows {
    async fn load(&self, key: &str) -> Result<Option<OldBytes>> {
        let load = || async {
            let rows = self.store.connection().await?.fetch(&self.load, &[SqlValue::Text(key)]).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let bytes: Vec<u8> = row.try_get(0).map_err(|_| PostgresError::Row { column: "data" })?;
            let expires: Option<i64> =
                row.try_get(1).map_err(|_| PostgresError::Row { column: "expires" })?;
            let expires =
                expires.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unstored(at))));
            Ok(Some(OldBytes::new(bytes, expires)))
        };
        Ok(self.store.idempotent_step(load).await?)
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let delete = || async {
            let deleted =
                self.store.connection().await?.execute(&self.delete, &[SqlValue::Text(key)]).await?;
            Ok(deleted > 0)
        };
        Ok(self.store.idempotent_step(delete).await?)
    }
}
