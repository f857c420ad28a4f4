//! The steps taken once, when a provider connects: the table, and what an operator should know of the server.

use sqlx::{Row, SqlStr};

use super::error::MySqlError;
use super::link::{Arguments, Link};
use super::schema;
use super::store::Store;
use crate::provider::sql::table::TableName;

/// A clock further off than this, in milliseconds, is worth a warning: deadlines are set by ours and compared with the server's.
const SKEW: u64 = 2_000;

/// Prepares the table, and answers with the server's `max_allowed_packet`.
pub(super) async fn prepare(store: &Store, table: &TableName, make: bool) -> Result<usize, MySqlError> {
    let mut link = store.link().await?;
    schema::prepare(&mut link, &store.sql, table, make).await?;
    advise(&mut link).await?;
    let Some(session) = link.session() else { return Err(MySqlError::Protocol) };
    if store.clock.is_none() && session.ahead.unsigned_abs() > SKEW {
        tracing::warn!(
            milliseconds = session.ahead,
            "the database server's clock is ahead of this machine's: sessions end so much earlier; synchronise them"
        );
    }
    Ok(session.max_packet)
}

/// Warns of what an application can live with and its operator should know.
pub(super) async fn advise(link: &mut Link<'_>) -> Result<(), MySqlError> {
    const ASKED: &str =
        "SELECT CAST(@@global.read_only AS CHAR), CAST(@@global.innodb_flush_log_at_trx_commit AS CHAR)";
    let rows = link.fetch(&SqlStr::from_static(ASKED), Arguments::default()).await?;
    let row = rows.first().ok_or(MySqlError::Protocol)?;
    let text = |place: usize| row.try_get::<String, _>(place).unwrap_or_default();
    if !matches!(&*text(0), "0" | "OFF" | "") {
        tracing::warn!(
            "the database server is read-only: sessions can be read, and nobody can log in or out; name the primary"
        );
    }
    if !matches!(&*text(1), "1" | "") {
        tracing::warn!(
            "innodb_flush_log_at_trx_commit is not 1: a server that crashes may lose what it acknowledged, logouts among it"
        );
    }
    Ok(())
}
