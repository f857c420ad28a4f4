//! The facts that a new connection reads, and the settings of its session.

use tokio_postgres::{Client, Row};

use super::backend;
use super::error::PostgresError;
use crate::clock::Clock;

/// The facts about the server that a new connection reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct PostgresFacts {
    /// True if the connection leads to a server process of its own, and not to a pooler that shares them.
    pub(super) direct: bool,
    /// The lead of the server's clock over this machine's, in milliseconds.
    pub(super) ahead: i64,
    /// True if the server or the role refuses changes.
    pub(super) read_only: bool,
    /// True if the server writes to the disk what it commits (`fsync`).
    pub(super) syncs: bool,
}

/// The oldest supported version, in the form of `server_version_num`. It has `MATERIALIZED`.
const OLDEST: i64 = 12_00_00;

const FACTS: &str = "SELECT pg_catalog.current_setting('server_version_num')::bigint, pg_catalog.pg_backend_pid()::bigint, \
     pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000::double precision)::bigint, \
     pg_catalog.current_setting('transaction_read_only') = 'on', pg_catalog.current_setting('fsync') = 'on'";

/// Reads the facts, and refuses a server that is too old.
pub(super) async fn read(client: &Client) -> Result<PostgresFacts, PostgresError> {
    let before = Clock::system().millis().0;
    let rows = client.query_typed(FACTS, &[]).await?;
    let row = rows.first().ok_or(PostgresError::Protocol)?;
    let number = |place: usize| row.try_get::<_, i64>(place).map_err(|_| PostgresError::Protocol);
    let flag = |place: usize| row.try_get::<_, bool>(place).map_err(|_| PostgresError::Protocol);
    let version = number(0)?;
    if version < OLDEST {
        return Err(PostgresError::TooOld { found: version / 10_000 });
    }
    let process = backend::process_id(client).await;
    Ok(PostgresFacts {
        direct: process.is_some_and(|process| i64::from(process) == number(1).unwrap_or_default()),
        ahead: number(2)?.saturating_sub(before.cast_signed()),
        read_only: flag(3)?,
        syncs: flag(4)?,
    })
}

/// The settings of the session, which only a server process of its own keeps. A caller that has given up leaves no statement
/// running for long: statements end after ten times the default deadline, and waits for a lock after half of it. A limit that the role,
/// the database or the connection string sets stays.
const SET_UP: &str = "SELECT pg_catalog.set_config('default_transaction_isolation', 'read committed', false), \
     pg_catalog.set_config('statement_timeout', \
     CASE pg_catalog.current_setting('statement_timeout') WHEN '0' THEN '20s' ELSE pg_catalog.current_setting('statement_timeout') END, false), \
     pg_catalog.set_config('lock_timeout', \
     CASE pg_catalog.current_setting('lock_timeout') WHEN '0' THEN '1s' ELSE pg_catalog.current_setting('lock_timeout') END, false)";

/// Sets up the session of a direct connection, and checks the settings that the server has taken.
pub(super) async fn set_up(client: &Client) -> Result<(), PostgresError> {
    let rows = client.query_typed(SET_UP, &[]).await?;
    let isolation = rows.first().and_then(|row: &Row| row.try_get::<_, String>(0).ok());
    if isolation.as_deref() == Some("read committed") {
        return Ok(());
    }
    let (what, expected) = ("default_transaction_isolation", "read committed, as the provider has set it");
    Err(PostgresError::Setting { what, expected, found: "another level".to_owned() })
}
