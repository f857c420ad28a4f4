//! What can go wrong with the database. No text holds what the server said: it quotes keys, values and users.

use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;

use super::dsn::DsnError;
use crate::error::{Error, ErrorKind};
use crate::provider::sql::table::TableNameError;

#[derive(Debug, thiserror::Error)]
pub(super) enum MySqlError {
    #[error("the data source name: {0}")]
    Dsn(#[from] DsnError),
    #[error("the data source name: expected a database, found none; write /dbname at its end")]
    NoDatabase,
    #[error(transparent)]
    Table(#[from] TableNameError),
    #[error("{what}: expected {expected}, found {found}")]
    Setting { what: &'static str, expected: &'static str, found: String },
    #[error(
        "expected MariaDB 10.6 or MySQL 8.0 or later, found {found}; this provider needs what came with those versions"
    )]
    TooOld { found: String },
    #[error(
        "the connection's variable {name}: expected {expected}, as it was set, found {found}; see what the server or a proxy \
         before it does with SET SESSION"
    )]
    Variable { name: &'static str, expected: &'static str, found: String },
    #[error("the table {table:?}: expected {expected}, found {found}{mend}")]
    Foreign { table: String, expected: &'static str, found: String, mend: Mend },
    #[error(
        "the table {table:?} is missing and this user may not make it; GRANT CREATE on the database, or run the statement \
         that `cloakroom schema mysql` prints"
    )]
    NoTable { table: String },
    #[error(
        "this user may not {right} in the table {table:?}; GRANT SELECT, INSERT, UPDATE, DELETE on it to the user"
    )]
    Right { table: String, right: &'static str },
    #[error("{0}")]
    Server(Trouble, #[source] Code),
    #[error("others kept making and ending a session under the same key at each of several tries")]
    Contended,
    /// Nothing of the step was done: the connection was lost inside a transaction that was not committed.
    #[error(transparent)]
    Undone(Box<MySqlError>),
    #[error("the connection to the server failed or was lost; see that it is up and can be reached")]
    Connection(#[source] std::io::Error),
    #[error(
        "the connection could not be encrypted; see the server's certificate and the data source name's tls"
    )]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server's answer is none of this protocol, or asks for a login that is not supported")]
    Protocol,
    #[error(
        "expected a connection within {limit:?}, found none; see that the server is up and can be reached"
    )]
    ConnectTimeout { limit: Duration },
    #[error(
        "expected an answer within {limit:?}, found none; see whether the server is up, or raise readTimeout"
    )]
    Timeout { limit: Duration },
    #[error(
        "expected a record of at most {limit} bytes ({reason}), found {found}; store less in the session"
    )]
    TooLarge { limit: usize, found: usize, reason: &'static str },
    #[error("a row's {column} is none that this provider writes; see who else writes to the table")]
    Row { column: &'static str },
}

/// The statement that mends a table, as the end of an error.
#[derive(Debug)]
pub(super) struct Mend(pub(super) Option<String>);

impl std::fmt::Display for Mend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(statement) => write!(f, "; run: {statement}"),
            None => f.write_str(
                "; name another table, or let `cloakroom schema mysql` print the statement that makes one",
            ),
        }
    }
}

/// A server's error: its number, and its SQLSTATE.
#[derive(Debug, thiserror::Error)]
#[error("error {number}, SQLSTATE {state}")]
pub(super) struct Code {
    number: u16,
    state: String,
}

/// The meaning of a server's error here: the cause, and the cure.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the server refuses the login ({0}); see user, password and the hosts the user may come from")]
    Login(u16),
    #[error("the server blocks this host after too many failed connections ({0}); run FLUSH HOSTS")]
    Blocked(u16),
    #[error(
        "the server does not know the database, or this user may not use it ({0}); see its name and the grants"
    )]
    Database(u16),
    #[error("this user lacks a right ({0}); GRANT SELECT, INSERT, UPDATE, DELETE on the table to the user")]
    Right(u16),
    #[error("the server has no connection left ({0}); raise max_connections or lower `pool`")]
    Connections(u16),
    #[error(
        "this user has used up what the server grants it ({0}); raise max_user_connections and the user's limits per hour, \
         or lower `pool`"
    )]
    Quota(u16),
    #[error(
        "the server does not take a setting of the data source name ({0}); see its charset, collation and variables"
    )]
    Setup(u16),
    #[error("the server is read-only ({0}), as a replica is; name the primary, or set rejectReadOnly=true")]
    ReadOnly(u16),
    #[error(
        "the server's disk, tablespace or memory is full ({0}); make room, old sessions can still be read"
    )]
    Full(u16),
    #[error("the server prepares no further statement ({0}); raise max_prepared_stmt_count, or lower `pool`")]
    Prepared(u16),
    #[error(
        "the server has forgotten a prepared statement ({0}); the table was changed, or a proxy stands between"
    )]
    Forgotten(u16),
    #[error("a key that is there already ({0})")]
    Duplicate(u16),
    #[error(
        "another transaction was in the way ({0}) at each of several tries; see what locks the table for long"
    )]
    Locked(u16),
    #[error("the server ended the connection or the statement ({0}): a shutdown, a KILL or its wait_timeout")]
    Ended(u16),
    #[error(
        "the server ended a statement that took too long ({0}); see max_statement_time or max_execution_time"
    )]
    Slow(u16),
    #[error("this node is not ready for use ({0}): it is not part of its cluster's primary component")]
    NotReady(u16),
    #[error(
        "the record is larger than the server takes ({0}); max_allowed_packet was lowered, connect anew or store less"
    )]
    Packet(u16),
    #[error(
        "the server logs statements and not rows ({0}), which does not go with READ COMMITTED; set binlog_format to ROW or \
         MIXED"
    )]
    Binlog(u16),
    #[error(
        "the table is missing or another one, or a key, trigger or constraint of your own refuses the row ({0}); `cloakroom \
         schema mysql` prints what is expected"
    )]
    Schema(u16),
    #[error("the server answered with error {0}; its manual tells what that is")]
    Other(u16),
}

impl Trouble {
    /// The numbers are those of the servers' manuals.
    fn of(number: u16) -> Self {
        use Trouble as T;
        match number {
            1045 | 1130 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 4151 => T::Login(number),
            1129 => T::Blocked(number),
            1044 | 1049 => T::Database(number),
            1142 | 1143 | 1227 | 1370 => T::Right(number),
            1040 | 1135 => T::Connections(number),
            1203 | 1226 => T::Quota(number),
            1115 | 1193 | 1229 | 1231 | 1232 | 1238 | 1253 | 1273 => T::Setup(number),
            // Of a server, a transaction, a table, a storage engine.
            1290 | 1792 | 1836 | 1036 | 1874 => T::ReadOnly(number),
            // A write that failed (3, 20), a disk, memory, a table, a log, an engine's own trouble, transactions, locks.
            3 | 20 | 1021 | 1026 | 1030 | 1037 | 1038 | 1041 | 1114 | 1206 | 1637 => T::Full(number),
            // The limit, and what cannot be prepared.
            1295 | 1461 => T::Prepared(number),
            1243 | 1615 => T::Forgotten(number),
            1022 | 1062 | 1586 => T::Duplicate(number),
            // A lock wait that took too long, a deadlock, a row that changed under a snapshot, a table that just was.
            1205 | 1213 | 1020 | 1412 => T::Locked(number),
            1053 | 1152 | 1156..=1161 | 1184 | 1317 | 1927 | 3169 | 4031 => T::Ended(number),
            1969 | 3024 => T::Slow(number),
            1047 => T::NotReady(number),
            1153 => T::Packet(number),
            1598 | 1665 => T::Binlog(number),
            // Columns, tables, values, foreign keys, views, constraints.
            1048 | 1054 | 1136 | 1146 | 1264 | 1265 | 1288 | 1305 | 1356 | 1364 | 1366 | 1406 | 1451
            | 1452 | 1471 | 1644 | 1932 | 3819 | 4025 => T::Schema(number),
            _ => T::Other(number),
        }
    }

    /// Whether the connection can go on: the server has answered, and the answer says nothing about the connection.
    fn leaves_connection(self) -> bool {
        use Trouble as T;
        matches!(
            self,
            T::Duplicate(_)
                | T::Locked(_)
                | T::Full(_)
                | T::Right(_)
                | T::Schema(_)
                | T::Slow(_)
                | T::Prepared(_)
        )
    }

    /// True if it is the settings that are wrong, provided that they never worked.
    fn is_of_settings(self) -> bool {
        use Trouble as T;
        matches!(self, T::Login(_) | T::Database(_) | T::Right(_) | T::Setup(_) | T::Schema(_) | T::Binlog(_))
    }
}

impl MySqlError {
    fn trouble(&self) -> Option<Trouble> {
        match self {
            MySqlError::Server(trouble, _) => Some(*trouble),
            _ => None,
        }
    }

    pub(super) fn leaves_connection(&self) -> bool {
        self.trouble().is_some_and(Trouble::leaves_connection)
    }

    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Duplicate(_)))
    }

    /// True if the server does not prepare the statement, and may well run it as it is.
    pub(super) fn is_unprepared(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Prepared(_)))
    }

    pub(super) fn is_of_rights(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Right(_) | Trouble::Database(_)))
    }

    pub(super) fn is_of_setup(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Setup(_)))
    }

    pub(super) fn is_of_schema(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Schema(_)))
    }

    /// True if the server undid the statement for the sake of another, and it may well succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::Locked(_)))
    }

    /// True if nothing was done and another connection may well do it at once.
    pub(super) fn is_undone(&self) -> bool {
        matches!(self, MySqlError::Undone(_)) || matches!(self.trouble(), Some(Trouble::Forgotten(_)))
    }

    /// True if the connection failed. The statement's fate is then unknown, unless it [is undone](Self::is_undone).
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            MySqlError::Undone(cause) => cause.is_lost_connection(),
            MySqlError::Connection(_) | MySqlError::Protocol => true,
            _ => matches!(self.trouble(), Some(Trouble::Ended(_) | Trouble::NotReady(_))),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.trouble(), Some(Trouble::ReadOnly(_)))
    }

    /// Whether it is the settings that are wrong, provided that they never worked.
    fn is_of_settings(&self) -> bool {
        use MySqlError as M;
        match self {
            M::Server(trouble, _) => trouble.is_of_settings(),
            M::Variable { .. }
            | M::Foreign { .. }
            | M::NoTable { .. }
            | M::Right { .. }
            | M::TooOld { .. } => true,
            _ => false,
        }
    }

    /// The error of a first connection, which is the time to find mistakes in the settings.
    pub(super) fn at_start(self) -> Error {
        let kind = if self.is_of_settings() { ErrorKind::Config } else { self.kind() };
        Error::new(kind, self)
    }

    fn kind(&self) -> ErrorKind {
        use MySqlError as M;
        match self {
            M::Dsn(_) | M::NoDatabase | M::Table(_) | M::Setting { .. } => ErrorKind::Config,
            M::Timeout { .. } | M::ConnectTimeout { .. } | M::Server(Trouble::Slow(_), _) => {
                ErrorKind::Timeout
            }
            M::TooLarge { .. } | M::Server(Trouble::Packet(_), _) => ErrorKind::TooLarge,
            M::Row { .. } => ErrorKind::Corrupt,
            M::Undone(cause) => cause.kind(),
            _ => ErrorKind::Unavailable,
        }
    }
}

impl From<MySqlError> for Error {
    fn from(error: MySqlError) -> Self {
        Error::new(error.kind(), error)
    }
}

impl From<sqlx::Error> for MySqlError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => {
                    let (number, state) = (error.number(), error.code().unwrap_or("unknown").to_owned());
                    MySqlError::Server(Trouble::of(number), Code { number, state })
                }
                None => MySqlError::Protocol,
            },
            // A certificate that does not verify comes as an error of reading.
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                MySqlError::Tls(Box::new(cause))
            }
            sqlx::Error::Io(cause) => MySqlError::Connection(cause),
            sqlx::Error::Tls(cause) => MySqlError::Tls(cause),
            // What the driver says of the rest may quote what was sent.
            _ => MySqlError::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(number: u16) -> MySqlError {
        MySqlError::Server(Trouble::of(number), Code { number, state: "HY000".to_owned() })
    }

    #[test]
    fn a_servers_trouble_names_its_cause_number_and_kind() {
        for (number, word, kind) in [
            (1040, "max_connections", ErrorKind::Unavailable),
            (1203, "max_user_connections", ErrorKind::Unavailable),
            (1226, "limits per hour", ErrorKind::Unavailable),
            (1045, "refuses the login", ErrorKind::Unavailable),
            (1044, "the database", ErrorKind::Unavailable),
            (1142, "lacks a right", ErrorKind::Unavailable),
            (1290, "read-only", ErrorKind::Unavailable),
            (1114, "full", ErrorKind::Unavailable),
            (1021, "full", ErrorKind::Unavailable),
            (1461, "max_prepared_stmt_count", ErrorKind::Unavailable),
            (1205, "another transaction", ErrorKind::Unavailable),
            (1213, "another transaction", ErrorKind::Unavailable),
            (1927, "ended the connection", ErrorKind::Unavailable),
            (1969, "max_statement_time", ErrorKind::Timeout),
            (1153, "max_allowed_packet", ErrorKind::TooLarge),
            (1665, "binlog_format", ErrorKind::Unavailable),
            (1364, "missing or another one", ErrorKind::Unavailable),
            (9999, "manual", ErrorKind::Unavailable),
        ] {
            let error = Error::from(answered(number));
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.contains(word) && text.contains(&number.to_string()), "{text}");
        }
    }

    #[test]
    fn only_mistakes_in_the_settings_are_of_the_configuration() {
        for number in [1045, 1044, 1049, 1142, 1193, 1146, 1665] {
            assert_eq!(answered(number).at_start().kind(), ErrorKind::Config, "{number}");
        }
        for number in [1040, 1226, 1290, 1114, 1205, 1927, 9999] {
            assert_eq!(answered(number).at_start().kind(), ErrorKind::Unavailable, "{number}");
        }
    }
}
