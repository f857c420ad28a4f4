//! The steps at the start of a provider: it checks the table and warns about the server's settings.

use sqlx::{Row, SqlStr};

use super::connection::{Arguments, ConnectionLease};
use super::error::MySqlError;
use super::schema;
use super::store::MySqlStore;
use crate::provider::sql::table::TableName;

/// The difference of the clocks, in milliseconds, that is worth a warning. This machine's clock sets deadlines, and the server's
/// clock is compared with them.
const MAX_SKEW: u64 = 2_000;

/// Creates or checks the table, and returns the server's `max_allowed_packet`.
pub(super) async fn prepare(store: &MySqlStore, table: &TableName, make: bool) -> Result<usize, MySqlError> {
    let mut connection = store.connection().await?;
    schema::prepare(&mut connection, &store.sql, table, make).await?;
    warn_about_server(&mut connection).await?;
    let Some(session) = connection.session() else { return Err(MySqlError::Protocol) };
    if store.clock.is_none() && session.ahead.unsigned_abs() > MAX_SKEW {
        tracing::warn!(
            milliseconds = session.ahead,
            "the database server's clock is ahead of this machine's, so sessions end earlier by that much; synchronise the clocks"
        );
    }
    Ok(session.max_packet)
}

/// Warns about settings of the server that weaken a promise and do not prevent a start.
pub(super) async fn warn_about_server(connection: &mut ConnectionLease<'_>) -> Result<(), MySqlError> {
    const ASKED: &str =
        "SELECT CAST(@@global.read_only AS CHAR), CAST(@@global.innodb_flush_log_at_trx_commit AS CHAR)";
    let rows = connection.fetch(&SqlStr::from_static(ASKED), Arguments::default()).await?;
    let row = rows.first().ok_or(MySqlError::Protocol)?;
    let text = |place: usize| row.try_get::<String, _>(place).unwrap_or_default();
    if !matches!(&*text(0), "0" | "OFF" | "") {
        tracing::warn!(
            "the database server is read-only: sessions can be read, but no login or logout works; name the primary"
        );
    }
    if !matches!(&*text(1), "1" | "") {
        tracing::warn!(
            "innodb_flush_log_at_trx_commit is not 1: a server that crashes may lose acknowledged changes, such as logouts"
        );
    }
    Ok(())
}
