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
        "expected a connection in strict mode, which alone keeps the server from cutting what does not fit, found it \
         switched off; drop sql_mode from the data source name"
    )]
    NotStrict,
    #[error("the server refuses the login or the database ({code}); see user, password, database and grants")]
    Denied { code: Code },
    #[error("the server has no connection left for this user ({code}); raise its limit or lower `pool`")]
    NoConnection { code: Code },
    #[error(
        "the server does not take a setting of the data source name ({code}); see its charset, collation and variables"
    )]
    Variable { code: Code },
    #[error(
        "the server is read-only ({code}), as a replica is; name the primary, or set rejectReadOnly=true"
    )]
    ReadOnly { code: Code },
    #[error(
        "the table is missing or another one ({code}); `cloakroom schema mysql` prints what is expected, let the provider \
         make it or run that"
    )]
    Schema { code: Code },
    #[error("the table {table:?} has {found}; expected {expected}, as `cloakroom schema mysql` prints it")]
    Foreign { table: String, expected: &'static str, found: String },
    #[error("a key that is there already ({code})")]
    Duplicate { code: Code },
    #[error("another transaction was in the way ({code}) at each of several tries")]
    Locked { code: Code },
    #[error("others kept making and ending a session under the same key at each of several tries")]
    Contended,
    #[error("the server answered with error {code}; its manual tells what that is")]
    Server { code: Code },
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

/// A server's error: its number, and its SQLSTATE.
#[derive(Debug, thiserror::Error)]
#[error("error {number}, SQLSTATE {state}")]
pub(super) struct Code {
    number: u16,
    state: String,
}

impl MySqlError {
    /// Whether the connection can go on: the server has answered, and the answer says nothing about the connection.
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, MySqlError::Duplicate { .. } | MySqlError::Locked { .. })
    }

    /// Whether the server undid the statement, and it may well succeed at another try.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, MySqlError::Locked { .. })
    }

    /// Whether nobody knows what became of the statement, since the connection failed.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, MySqlError::Connection(_) | MySqlError::Protocol)
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, MySqlError::ReadOnly { .. })
    }

    /// Whether it is the settings that are wrong, provided that they never worked.
    fn is_of_settings(&self) -> bool {
        use MySqlError as M;
        matches!(
            self,
            M::Denied { .. }
                | M::Variable { .. }
                | M::Schema { .. }
                | M::Foreign { .. }
                | M::NotStrict
                | M::TooOld { .. }
        )
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
            M::Timeout { .. } | M::ConnectTimeout { .. } => ErrorKind::Timeout,
            M::TooLarge { .. } => ErrorKind::TooLarge,
            M::Row { .. } => ErrorKind::Corrupt,
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
                Some(error) => MySqlError::answered(error),
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

impl MySqlError {
    /// The numbers are those of the servers' manuals.
    fn answered(error: &MySqlDatabaseError) -> Self {
        let number = error.number();
        let code = Code { number, state: error.code().unwrap_or("unknown").to_owned() };
        match number {
            1062 => MySqlError::Duplicate { code },
            // A lock wait that took too long, a deadlock, a row that changed under a snapshot.
            1205 | 1213 | 1020 => MySqlError::Locked { code },
            1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1251 | 1698 | 3118 | 3159 => {
                MySqlError::Denied { code }
            }
            1040 | 1203 | 1226 => MySqlError::NoConnection { code },
            1115 | 1193 | 1229 | 1231 | 1232 | 1238 | 1253 | 1273 => MySqlError::Variable { code },
            1290 | 1792 | 1836 => MySqlError::ReadOnly { code },
            1054 | 1146 | 1364 | 1406 => MySqlError::Schema { code },
            _ => MySqlError::Server { code },
        }
    }
}
