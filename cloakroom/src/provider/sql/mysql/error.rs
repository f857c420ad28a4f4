//! The errors of the MySQL provider. No message contains the server's text, since that quotes keys, values and users.

use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;

use super::dsn::DsnError;
use crate::error::{Error, ErrorKind};
use crate::provider::sql::step::DeadlineError;
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
    #[error("expected MariaDB 10.6 or MySQL 8.0 or later, found {found}; upgrade the server")]
    TooOld { found: String },
    #[error(
        "the connection's variable {name}: expected {expected}, as the provider has set it, found {found}; check whether the server or a \
         proxy changes SET SESSION"
    )]
    Variable { name: &'static str, expected: &'static str, found: String },
    #[error("the table {table:?}: expected {expected}, found {found}{fix}")]
    Foreign { table: String, expected: &'static str, found: String, fix: Fix },
    #[error(
        "expected the table {table:?}, found that it is missing and that this user may not create it; GRANT CREATE on the database, or \
         run the statement that `cloakroom schema mysql` prints"
    )]
    NoTable { table: String },
    #[error(
        "expected the right {right} on the table {table:?}, found that this user lacks it; GRANT SELECT, INSERT, UPDATE, DELETE on the \
         table to the user"
    )]
    Right { table: String, right: &'static str },
    #[error("{0}")]
    Server(ErrorCause, #[source] ErrorCode),
    #[error(
        "a conflict at each of several attempts: other calls kept creating and ending a session under the same key"
    )]
    Contended,
    /// The connection was lost inside a transaction before its commit, so the step has changed nothing.
    #[error(transparent)]
    Undone(Box<MySqlError>),
    #[error("the connection to the server failed or was lost; check that the server runs and can be reached")]
    Connection(#[source] std::io::Error),
    #[error(
        "the connection could not be encrypted; check the server's certificate and the data source name's tls"
    )]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the server's answer does not follow the MySQL protocol, or asks for an unsupported login; check the address and the user's plugin"
    )]
    Protocol,
    #[error(
        "expected a connection within {limit:?}, found none; check that the server runs and can be reached"
    )]
    ConnectTimeout { limit: Duration },
    #[error(
        "expected an answer within {limit:?}, found none; check that the server runs, or raise readTimeout"
    )]
    Timeout { limit: Duration },
    #[error(
        "expected a record of at most {limit} bytes ({reason}), found {found}; store less in the session"
    )]
    TooLarge { limit: usize, found: usize, reason: &'static str },
    #[error("a row's {column} is not one that this provider writes; check what else writes to the table")]
    Row { column: &'static str },
}

/// The statement that fixes a table, as the end of an error message.
#[derive(Debug)]
pub(super) struct Fix(pub(super) Option<String>);

impl std::fmt::Display for Fix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(statement) => write!(f, "; run: {statement}"),
            None => f.write_str(
                "; name another table, or create one with the statement that `cloakroom schema mysql` prints",
            ),
        }
    }
}

/// The number and the SQLSTATE of a server's error.
#[derive(Debug, thiserror::Error)]
#[error("error {number}, SQLSTATE {state}")]
pub(super) struct ErrorCode {
    number: u16,
    state: String,
}

/// The cause of a server's error, with its number. The message says what to do.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(super) enum ErrorCause {
    #[error(
        "the server refuses the login ({0}); check the user, the password and the hosts that the user may connect from"
    )]
    Login(u16),
    #[error("the server blocks this host after too many failed connections ({0}); run FLUSH HOSTS")]
    Blocked(u16),
    #[error(
        "the server does not know the database, or this user may not use it ({0}); check its name and the grants"
    )]
    Database(u16),
    #[error("this user lacks a right ({0}); GRANT SELECT, INSERT, UPDATE, DELETE on the table to the user")]
    Right(u16),
    #[error("the server has no connection left ({0}); raise max_connections or lower `pool`")]
    Connections(u16),
    #[error(
        "this user has reached a limit of the server ({0}); raise max_user_connections and the user's limits per hour, or lower \
         `pool`"
    )]
    Quota(u16),
    #[error(
        "the server refuses a setting of the data source name ({0}); check its charset, collation and variables"
    )]
    Setup(u16),
    #[error("the server is read-only ({0}), like a replica; name the primary, or set rejectReadOnly=true")]
    ReadOnly(u16),
    #[error(
        "the server's disk, tablespace or memory is full ({0}); free some space; sessions can still be read"
    )]
    Full(u16),
    #[error("the server prepares no further statement ({0}); raise max_prepared_stmt_count, or lower `pool`")]
    Prepared(u16),
    #[error(
        "the server has lost a prepared statement ({0}); the table was changed, or a proxy is in between"
    )]
    Forgotten(u16),
    #[error("the key exists already ({0})")]
    Duplicate(u16),
    #[error(
        "a lock conflict with another transaction ({0}) at each of several attempts; check what locks the table for long"
    )]
    Locked(u16),
    #[error("the server ended the connection or the statement ({0}): a shutdown, a KILL or its wait_timeout")]
    Ended(u16),
    #[error(
        "the server ended a statement that took too long ({0}); check max_statement_time or max_execution_time"
    )]
    Slow(u16),
    #[error("this node is not ready for use ({0}): it is not part of its cluster's primary component")]
    NotReady(u16),
    #[error(
        "the record is larger than the server accepts ({0}), since max_allowed_packet was lowered; connect again, or store less"
    )]
    Packet(u16),
    #[error(
        "the server's binary log holds statements and not rows ({0}), which READ COMMITTED does not allow; set binlog_format to ROW \
         or MIXED"
    )]
    Binlog(u16),
    #[error(
        "the table is missing or has another form, or a key, trigger or constraint of your own refuses the row ({0}); `cloakroom \
         schema mysql` prints the expected table"
    )]
    Schema(u16),
    #[error("the server answered with error {0}; look it up in its manual")]
    Other(u16),
}

impl ErrorCause {
    /// Classifies an error number. The numbers come from the manuals of MariaDB and MySQL.
    fn of(number: u16) -> Self {
        use ErrorCause as T;
        match number {
            1045 | 1130 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 4151 => T::Login(number),
            1129 => T::Blocked(number),
            1044 | 1049 => T::Database(number),
            1142 | 1143 | 1227 | 1370 => T::Right(number),
            1040 | 1135 => T::Connections(number),
            1203 | 1226 => T::Quota(number),
            1115 | 1193 | 1229 | 1231 | 1232 | 1238 | 1253 | 1273 => T::Setup(number),
            // A read-only server, transaction, table or storage engine.
            1290 | 1792 | 1836 | 1036 | 1874 => T::ReadOnly(number),
            // A failed write (3, 20); a full disk, memory, table or log; an engine's error; too many transactions or locks.
            3 | 20 | 1021 | 1026 | 1030 | 1037 | 1038 | 1041 | 1114 | 1206 | 1637 => T::Full(number),
            // A statement that cannot be prepared, and the limit of prepared statements.
            1295 | 1461 => T::Prepared(number),
            1243 | 1615 => T::Forgotten(number),
            1022 | 1062 | 1586 => T::Duplicate(number),
            // A lock wait timeout, a deadlock, a row that changed since the snapshot, a table that changed just now.
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

    /// Returns true if the connection can be used further: the error is about the statement and not about the connection.
    fn keeps_connection(self) -> bool {
        use ErrorCause as T;
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

    /// Returns true if the error means wrong settings, when it happens at the first connection.
    fn is_configuration_error(self) -> bool {
        use ErrorCause as T;
        matches!(self, T::Login(_) | T::Database(_) | T::Right(_) | T::Setup(_) | T::Schema(_) | T::Binlog(_))
    }
}

impl MySqlError {
    fn cause(&self) -> Option<ErrorCause> {
        match self {
            MySqlError::Server(cause, _) => Some(*cause),
            _ => None,
        }
    }

    pub(super) fn keeps_connection(&self) -> bool {
        self.cause().is_some_and(ErrorCause::keeps_connection)
    }

    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Duplicate(_)))
    }

    /// Returns true if the server refuses to prepare the statement. It may still run it unprepared.
    pub(super) fn cannot_be_prepared(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Prepared(_)))
    }

    pub(super) fn is_missing_right(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Right(_) | ErrorCause::Database(_)))
    }

    pub(super) fn is_bad_setting(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Setup(_)))
    }

    pub(super) fn is_wrong_table(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Schema(_)))
    }

    /// Returns true if the server undid the statement because of another transaction. A retry after a pause may succeed.
    pub(super) fn is_lock_conflict(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::Locked(_)))
    }

    /// Returns true if the step has changed nothing. A retry on another connection may succeed at once.
    pub(super) fn has_changed_nothing(&self) -> bool {
        matches!(self, MySqlError::Undone(_)) || matches!(self.cause(), Some(ErrorCause::Forgotten(_)))
    }

    /// Returns true if the connection failed. Unless [`has_changed_nothing`](Self::has_changed_nothing) is true, the statement may have run.
    pub(super) fn is_lost_connection(&self) -> bool {
        match self {
            MySqlError::Undone(cause) => cause.is_lost_connection(),
            MySqlError::Connection(_) | MySqlError::Protocol => true,
            _ => matches!(self.cause(), Some(ErrorCause::Ended(_) | ErrorCause::NotReady(_))),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.cause(), Some(ErrorCause::ReadOnly(_)))
    }

    /// Returns true if the error means wrong settings, when it happens at the first connection.
    fn is_configuration_error(&self) -> bool {
        use MySqlError as M;
        match self {
            M::Server(cause, _) => cause.is_configuration_error(),
            M::Variable { .. }
            | M::Foreign { .. }
            | M::NoTable { .. }
            | M::Right { .. }
            | M::TooOld { .. } => true,
            _ => false,
        }
    }

    /// Converts an error of the first connection, where wrong settings are of the kind `Config`.
    pub(super) fn at_start(self) -> Error {
        let kind = if self.is_configuration_error() { ErrorKind::Config } else { self.kind() };
        Error::new(kind, self)
    }

    fn kind(&self) -> ErrorKind {
        use MySqlError as M;
        match self {
            M::Dsn(_) | M::NoDatabase | M::Table(_) | M::Setting { .. } => ErrorKind::Config,
            M::Timeout { .. } | M::ConnectTimeout { .. } | M::Server(ErrorCause::Slow(_), _) => {
                ErrorKind::Timeout
            }
            M::TooLarge { .. } | M::Server(ErrorCause::Packet(_), _) => ErrorKind::TooLarge,
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

impl DeadlineError for MySqlError {
    fn timeout(limit: Duration) -> Self {
        MySqlError::Timeout { limit }
    }
}

impl From<sqlx::Error> for MySqlError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => {
                    let (number, state) = (error.number(), error.code().unwrap_or("unknown").to_owned());
                    MySqlError::Server(ErrorCause::of(number), ErrorCode { number, state })
                }
                None => MySqlError::Protocol,
            },
            // The driver reports a certificate that does not verify as a read error.
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                MySqlError::Tls(Box::new(cause))
            }
            sqlx::Error::Io(cause) => MySqlError::Connection(cause),
            sqlx::Error::Tls(cause) => MySqlError::Tls(cause),
            // The driver's text for other errors may quote what was sent.
            _ => MySqlError::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(number: u16) -> MySqlError {
        MySqlError::Server(ErrorCause::of(number), ErrorCode { number, state: "HY000".to_owned() })
    }

    #[test]
    fn a_servers_error_has_its_cause_number_and_kind() {
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
            (1364, "missing or has another form", ErrorKind::Unavailable),
            (9999, "manual", ErrorKind::Unavailable),
        ] {
            let error = Error::from(answered(number));
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.contains(word) && text.contains(&number.to_string()), "{text}");
        }
    }

    #[test]
    fn only_wrong_settings_are_of_the_kind_config() {
        for number in [1045, 1044, 1049, 1142, 1193, 1146, 1665] {
            assert_eq!(answered(number).at_start().kind(), ErrorKind::Config, "{number}");
        }
        for number in [1040, 1226, 1290, 1114, 1205, 1927, 9999] {
            assert_eq!(answered(number).at_start().kind(), ErrorKind::Unavailable, "{number}");
        }
    }
}
