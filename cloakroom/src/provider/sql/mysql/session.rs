//! What every connection is set to before its first use, and what is asked of it then.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::dsn::Params;
use super::error::MySqlError;
use crate::clock::{Clock, Millis};
use crate::provider::sql::pool::LONGEST_IDLE;

/// What a connection says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    /// The most bytes of one statement.
    pub(super) max_packet: usize,
    /// How far the server's clock is ahead of ours, in milliseconds.
    pub(super) ahead: i64,
}

/// The server ends a connection that has said nothing for so long, and with it a transaction whose client was cut off in the middle.
/// We close ours earlier.
const WAIT: Duration = LONGEST_IDLE.saturating_mul(2);

/// Sets the connection up and looks at what it became.
pub(super) async fn set_up(raw: &mut MySqlConnection, params: &Params) -> Result<Session, MySqlError> {
    names(raw, params).await?;
    // Without gaps being locked, nobody waits for a garbage collection or for a neighbour in an index.
    command(raw, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()).await?;
    let mut variables = format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', wait_timeout = {}, \
         innodb_lock_wait_timeout = 1",
        WAIT.as_secs()
    );
    for variable in &params.variables {
        // Names and literals were checked to be no more than that.
        variables += &format!(", {} = {}", variable.name, variable.literal);
    }
    command(raw, variables).await?;
    const ASKED: &str = "SELECT VERSION(), @@sql_mode, CAST(@@max_allowed_packet AS UNSIGNED), \
         CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS UNSIGNED)";
    let before = Clock::system().millis();
    let rows = raw.fetch_all(sqlx::raw_sql(ASKED)).await?;
    let row = rows.first().ok_or(MySqlError::Protocol)?;
    session(row, before)
}

fn session(row: &MySqlRow, before: Millis) -> Result<Session, MySqlError> {
    let text = |place: usize| row.try_get::<String, _>(place).map_err(|_| MySqlError::Protocol);
    let number = |place: usize| row.try_get::<u64, _>(place).map_err(|_| MySqlError::Protocol);
    check_version(&text(0)?)?;
    if !text(1)?.split(',').any(|mode| mode == "STRICT_ALL_TABLES" || mode == "STRICT_TRANS_TABLES") {
        return Err(MySqlError::NotStrict);
    }
    let max_packet = usize::try_from(number(2)?).unwrap_or(usize::MAX);
    Ok(Session { max_packet, ahead: number(3)?.cast_signed().saturating_sub(before.0.cast_signed()) })
}

/// Tells the server how texts come and are wanted: in the first of the charsets that it knows. All of ours are ASCII or bytes, so that
/// nothing hangs on it.
async fn names(raw: &mut MySqlConnection, params: &Params) -> Result<(), MySqlError> {
    let collation = params.collation.as_deref();
    let of_collation = collation.and_then(|collation| collation.split('_').next()).unwrap_or("utf8mb4");
    let collate = collation.map(|collation| format!(" COLLATE {collation}")).unwrap_or_default();
    let mut charsets: Vec<&str> = params.charsets.iter().map(|charset| &**charset).collect();
    if charsets.is_empty() {
        charsets.push(of_collation);
    }
    let mut answer = Ok(());
    for charset in charsets {
        answer = command(raw, format!("SET NAMES {charset}{collate}")).await;
        if !matches!(answer, Err(MySqlError::Variable { .. })) {
            break;
        }
    }
    answer
}

async fn command(raw: &mut MySqlConnection, sql: String) -> Result<(), MySqlError> {
    raw.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(())
}

/// The oldest that have all we ask for, as (major, minor).
const MARIADB: (u32, u32) = (10, 6);
const MYSQL: (u32, u32) = (8, 0);

/// `10.11.6-MariaDB-log`, or `5.5.5-10.11.6-MariaDB` where a proxy stands between, or `8.0.36`.
fn check_version(version: &str) -> Result<(), MySqlError> {
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    let number = match mariadb {
        true => version.strip_prefix("5.5.5-").unwrap_or(version),
        false => version,
    };
    let mut parts =
        number.split(|char: char| !char.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let (name, least) = if mariadb { ("MariaDB", MARIADB) } else { ("MySQL", MYSQL) };
    match found >= least {
        true => Ok(()),
        false => Err(MySqlError::TooOld { found: format!("{name} {}.{}", found.0, found.1) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_told_so_by_name_and_number() {
        for version in [
            "10.6.0-MariaDB",
            "10.11.6-MariaDB-0+deb12u1",
            "5.5.5-10.6.1-MariaDB-log",
            "11.4.2-MariaDB",
            "8.0.11",
            "9.1.0",
        ] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for (version, found) in [
            ("10.5.99-MariaDB", "MariaDB 10.5"),
            ("5.5.5-10.3.1-MariaDB", "MariaDB 10.3"),
            ("5.7.44-log", "MySQL 5.7"),
            ("", "MySQL 0.0"),
        ] {
            let error = check_version(version).unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("10.6"), "{version}: {error}");
        }
    }
}
