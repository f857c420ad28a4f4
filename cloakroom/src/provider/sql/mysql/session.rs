//! What every connection is set to before its first use, and what is asked of it then.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::dsn::Params;
use super::error::MySqlError;
use super::variables;
use crate::clock::{Clock, Millis};

/// What a connection says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    /// The most bytes of one statement.
    pub(super) max_packet: usize,
    /// How far the server's clock is ahead of ours, in milliseconds.
    pub(super) ahead: i64,
}

/// How long the server goes on with a statement whose caller has left, in seconds. The longest deadline of a caller, ten times that of a
/// request, is as long by default.
const STATEMENT_TIME: u32 = 20;

/// More seconds between two times in one statement than a busy server needs.
const STOPPED: u64 = 30;

/// Sets the connection up and looks at what it became.
pub(super) async fn set_up(raw: &mut MySqlConnection, params: &Params) -> Result<Session, MySqlError> {
    names(raw, params).await?;
    command(raw, settings(params)).await?;
    command(raw, variables::TRANSACTION.to_owned()).await?;
    let asked = format!(
        "SELECT VERSION(), CAST(@@max_allowed_packet AS UNSIGNED), \
         CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS UNSIGNED), \
         TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), SYSDATE()), {}",
        variables::read()
    );
    let before = Clock::system().millis();
    let rows = raw.fetch_all(sqlx::raw_sql(AssertSqlSafe(asked))).await?;
    let row = rows.first().ok_or(MySqlError::Protocol)?;
    session(row, before)
}

/// The settings that a data source name may change, then its own, then those on which promises depend. The last of several counts.
fn settings(params: &Params) -> String {
    // Each server reads its own of the two comments.
    let mut all = format!(
        "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1\
         /*M! , max_statement_time = {STATEMENT_TIME} */ /*!80000 , max_execution_time = {STATEMENT_TIME}000 */"
    );
    for variable in &params.variables {
        // Names and literals were checked to be no more than that.
        all += &format!(", {} = {}", variable.name, variable.literal);
    }
    all + ", " + &variables::assignments()
}

fn session(row: &MySqlRow, before: Millis) -> Result<Session, MySqlError> {
    let text = |place: usize| row.try_get::<String, _>(place).map_err(|_| MySqlError::Protocol);
    let number = |place: usize| row.try_get::<u64, _>(place).map_err(|_| MySqlError::Protocol);
    check_version(&text(0)?)?;
    let found: Vec<_> = (4..4 + variables::COUNT).map(|place| text(place).unwrap_or_default()).collect();
    variables::check(&found)?;
    // SET timestamp stops the clock of a connection, and SYSDATE goes on.
    let stopped = row.try_get::<i64, _>(3).map_err(|_| MySqlError::Protocol)?;
    if stopped.unsigned_abs() > STOPPED {
        let found = format!("{stopped} s of difference");
        return Err(MySqlError::Variable { name: "timestamp", expected: "the server's clock", found });
    }
    let max_packet = usize::try_from(number(1)?).unwrap_or(usize::MAX);
    Ok(Session { max_packet, ahead: number(2)?.cast_signed().saturating_sub(before.0.cast_signed()) })
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
    let mut answer: Result<(), MySqlError> = Ok(());
    for charset in charsets {
        answer = command(raw, format!("SET NAMES {charset}{collate}")).await;
        if !answer.as_ref().is_err_and(MySqlError::is_of_setup) {
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
