//! The setup of a new connection: it sets the variables, reads them back and checks the server's version.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Executor, Row};

use super::dsn::Params;
use super::error::MySqlError;
use super::variables;
use crate::clock::{Clock, Millis};

/// The facts about the server that a new connection reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerFacts {
    /// The server's `max_allowed_packet`: the most bytes of one statement.
    pub(super) max_packet: usize,
    /// The lead of the server's clock over this machine's, in milliseconds.
    pub(super) ahead: i64,
}

/// The time limit of a statement on the server, in seconds, for statements whose caller has given up. It is the longest default deadline:
/// ten times that of a request.
const STATEMENT_TIME: u32 = 20;

/// The difference in seconds between two times of one statement at which the connection's clock counts as stopped.
const MAX_CLOCK_DIFFERENCE: u64 = 30;

/// Sets up a connection and reads back its variables.
pub(super) async fn set_up(raw: &mut MySqlConnection, params: &Params) -> Result<ServerFacts, MySqlError> {
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

/// Returns the statement that sets the variables: first those that a data source name may change, then the data source name's own,
/// then those on which promises depend. The last assignment of a variable counts.
fn settings(params: &Params) -> String {
    // MariaDB executes the first comment, MySQL the second.
    let mut all = format!(
        "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1\
         /*M! , max_statement_time = {STATEMENT_TIME} */ /*!80000 , max_execution_time = {STATEMENT_TIME}000 */"
    );
    for variable in &params.variables {
        // The data source name's parser has checked names and literals.
        all += &format!(", {} = {}", variable.name, variable.literal);
    }
    all + ", " + &variables::assignments()
}

fn session(row: &MySqlRow, before: Millis) -> Result<ServerFacts, MySqlError> {
    let text = |place: usize| row.try_get::<String, _>(place).map_err(|_| MySqlError::Protocol);
    let number = |place: usize| row.try_get::<u64, _>(place).map_err(|_| MySqlError::Protocol);
    check_version(&text(0)?)?;
    let found: Vec<_> = (4..4 + variables::COUNT).map(|place| text(place).unwrap_or_default()).collect();
    variables::check(&found)?;
    // SET timestamp stops the clock of a connection, but not SYSDATE.
    let stopped = row.try_get::<i64, _>(3).map_err(|_| MySqlError::Protocol)?;
    if stopped.unsigned_abs() > MAX_CLOCK_DIFFERENCE {
        let found = format!("{stopped} s of difference");
        return Err(MySqlError::Variable { name: "timestamp", expected: "the server's clock", found });
    }
    let max_packet = usize::try_from(number(1)?).unwrap_or(usize::MAX);
    Ok(ServerFacts { max_packet, ahead: number(2)?.cast_signed().saturating_sub(before.0.cast_signed()) })
}

/// Sets the character set of the connection: the first that the server knows. This provider sends only ASCII and bytes, so any will
/// do.
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
        if !answer.as_ref().is_err_and(MySqlError::is_bad_setting) {
            break;
        }
    }
    answer
}

async fn command(raw: &mut MySqlConnection, sql: String) -> Result<(), MySqlError> {
    raw.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(())
}

/// The oldest supported versions, as (major, minor).
const MARIADB: (u32, u32) = (10, 6);
const MYSQL: (u32, u32) = (8, 0);

/// Checks a version such as `10.11.6-MariaDB-log`, `5.5.5-10.11.6-MariaDB` (behind a proxy) or `8.0.36`.
fn check_version(version: &str) -> Result<(), MySqlError> {
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    let number = version.strip_prefix("5.5.5-").filter(|_| mariadb).unwrap_or(version);
    let mut parts =
        number.split(|char: char| !char.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let (name, least) = if mariadb { ("MariaDB", MARIADB) } else { ("MySQL", MYSQL) };
    if found >= least {
        return Ok(());
    }
    Err(MySqlError::TooOld { found: format!("{name} {}.{}", found.0, found.1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_by_name_and_version() {
        for version in [
            "10.6.0-MariaDB",
            "10.11.6-MariaDB-0+deb12u1",
            "5.5.5-10.6.1-MariaDB-log",
            "11.4.2-MariaDB",
            "8.0.11",
            "9.1.0",
        ] {
            check_version(version).unwrap_or_else(|error| panic!("{version}: {error}"));
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
