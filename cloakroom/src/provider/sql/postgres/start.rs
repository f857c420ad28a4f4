//! The steps at the start of a provider: it finds the table's schema, checks the tables and warns about the server's settings.

use super::connection::{PostgresConnector, PostgresLease};
use super::error::PostgresError;
use super::facts::PostgresFacts;
use super::name::{ConfiguredName, TablePair, quoted};
use super::value::SqlValue;
use crate::provider::sql::pool::SqlPool;

/// The difference of the clocks, in milliseconds, that is worth a warning. This machine's clock sets deadlines, and the server's
/// clock is compared with them.
const MAX_SKEW: u64 = 2_000;

/// The schema of the table, or the first of `search_path` for one that is missing.
const SCHEMA: &str = "SELECT COALESCE((SELECT n.nspname FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass($1)::pg_catalog.oid), \
     pg_catalog.current_schema())::text";

/// Returns the tables with their schema, so that no statement depends on `search_path`, which may differ between connections.
pub(super) async fn tables(
    pool: &SqlPool<PostgresConnector>,
    name: &ConfiguredName,
) -> Result<TablePair, PostgresError> {
    if name.schema().is_some() {
        return Ok(name.as_given());
    }
    let mut connection = PostgresLease::new(pool.lease().await?);
    let rows = connection.query(SCHEMA, &[SqlValue::Text(&quoted(name.table.as_str()))]).await?;
    let schema = rows.first().and_then(|row| row.try_get::<_, Option<String>>(0).ok()).flatten();
    Ok(TablePair::new(&schema.ok_or(PostgresError::NoSchema)?, &name.table))
}

/// The failures that may undo answered changes, each with its cure.
pub(super) type Losses = &'static [&'static str];

/// Returns what may be lost with an UNLOGGED table, and by commits that do not wait for the disk.
pub(super) fn losses(unlogged: bool, relaxed: bool) -> Losses {
    const UNLOGGED: &str = "the sessions table is UNLOGGED: a crash of the database server ends every session; run ALTER TABLE .. SET LOGGED";
    const RELAXED: &str = "a crash of the database server may undo the latest changes, logouts included; set \"durability\": \"atomic\", \
         or leave out relaxed";
    match (unlogged, relaxed) {
        (false, false) => &[],
        (true, false) => &[UNLOGGED],
        (false, true) => &[RELAXED],
        (true, true) => &[UNLOGGED, RELAXED],
    }
}

/// Warns about settings of the server that weaken a promise and do not prevent a start.
pub(super) fn warn_about_server(facts: &PostgresFacts, own_clock: bool) {
    if facts.read_only {
        tracing::warn!(
            "the database server is read-only for this user: sessions can be read, but no login or logout works; name the primary, or \
             switch default_transaction_read_only off"
        );
    }
    if !facts.syncs {
        tracing::warn!(
            "fsync is off: a crash of the database server may lose acknowledged changes, such as logouts, and all its data"
        );
    }
    if !own_clock && facts.ahead.unsigned_abs() > MAX_SKEW {
        tracing::warn!(
            milliseconds = facts.ahead,
            "the database server's clock is ahead of this machine's, so sessions end earlier by that much; synchronise the clocks"
        );
    }
}
