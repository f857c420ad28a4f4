//! The errors of the PostgreSQL provider. No message contains the server's text, since that quotes keys, values and users.

use std::time::Duration;

use tokio_postgres::error::DbError;

use super::settings::{OpenError, SettingsError};
use crate::error::{Error, ErrorKind};
use crate::provider::sql::step::DeadlineError;
use crate::provider::sql::table::TableNameError;

#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    #[error("the connection string: {0}")]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Table(#[from] TableNameError),
    #[error("{what}: expected {expected}, found {found}")]
    Setting { what: &'static str, expected: &'static str, found: String },
    #[error("expected PostgreSQL 12 or later, found {found}; upgrade the server")]
    TooOld { found: i64 },
    #[error(
        "expected a schema for the table, found that search_path names none that exists; write the table's name as schema.table"
    )]
    NoSchema,
    #[error("the table {table}: expected {expected}, found {found}{fix}")]
    Foreign { table: String, expected: &'static str, found: String, fix: RelationFix },
    #[error(
        "expected the table {table}, found that it is missing and that this user may not create it; GRANT CREATE ON SCHEMA to the user, \
         or run the statements that `cloakroom schema postgres` prints"
    )]
    NoTable { table: String },
    #[error(
        "expected the right {right} on the table {table}, found that this user lacks it; GRANT SELECT, INSERT, UPDATE, DELETE on the \
         table to the user"
    )]
    Right { table: String, right: &'static str },
    #[error("{0}")]
    Server(PostgresCause),
    #[error(
        "a conflict at each of several attempts: other calls kept creating and ending a session under the same key"
    )]
    Contended,
    #[error("{}", cause.as_ref().map_or_else(|| error.to_string(), PostgresCause::to_string))]
    Open {
        #[source]
        error: OpenError,
        /// The cause that the server gave when it refused the connection.
        cause: Option<PostgresCause>,
    },
    /// The connection had ended before the statement was sent.
    #[error("the connection to the server was lost; check that the server runs and can be reached")]
    Unsent,
    #[error("the connection to the server was lost; check that the server runs and can be reached")]
    Connection(#[source] tokio_postgres::Error),
    #[error("the server's answer does not follow the PostgreSQL protocol; check the address")]
    Protocol,
    #[error(
        "expected an answer within {limit:?}, found none; check that the server runs, or raise `deadline`"
    )]
    Timeout { limit: Duration },
    #[error(
        "expected a provider whose changes are told, found one that tells none; call notify(true) on the builder of every process, or use \
         Cached::builder(..).within(..)"
    )]
    Silent,
    #[error(
        "expected a direct connection, found a pooler in between, through which no notification comes; connect to the server itself, or use \
         Cached::builder(..).within(..)"
    )]
    Pooled,
    #[error("the operating system gives no random numbers")]
    Random,
    #[error("a row's {column} is not one that this provider writes; check what else writes to the table")]
    Row { column: &'static str },
    #[error(
        "expected a record of at most {limit} bytes ({reason}), found {found}; store less in the session"
    )]
    TooLarge { limit: usize, found: usize, reason: &'static str },
}

/// The statements that fix a table, as the end of an error message.
#[derive(Debug)]
pub(super) struct RelationFix(pub(super) Option<String>);

impl std::fmt::Display for RelationFix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(statements) => write!(f, "; run: {statements}"),
            None => f.write_str(
                "; name another table, or create one with the statements that `cloakroom schema postgres` prints",
            ),
        }
    }
}

/// The SQLSTATE of a server's error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StateCode([u8; 5]);

impl std::fmt::Display for StateCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StateCode {
    fn new(code: &str) -> Self {
        let mut bytes = [b'0'; 5];
        for (place, byte) in bytes.iter_mut().zip(code.bytes()) {
            *place = if byte.is_ascii_alphanumeric() { byte } else { b'?' };
        }
        StateCode(bytes)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The cause of a server's error, with its SQLSTATE. The message says what to do.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(super) enum PostgresCause {
    #[error("the server refuses the login ({0}); check the user, the password and pg_hba.conf")]
    Login(StateCode),
    #[error("the server does not know the database ({0}); check its name")]
    Database(StateCode),
    #[error(
        "this user lacks a right ({0}); GRANT SELECT, INSERT, UPDATE, DELETE on the tables to the user, and USAGE on their schema"
    )]
    Right(StateCode),
    #[error(
        "the server has no connection left ({0}); raise max_connections or the limit of the role or database, or lower `pool`"
    )]
    Connections(StateCode),
    #[error(
        "the server is read-only ({0}): a standby, or default_transaction_read_only is on; name the primary, list all hosts with \
         target_session_attrs=read-write, or switch the setting off"
    )]
    ReadOnly(StateCode),
    #[error("the server's disk or memory is full ({0}); free some space; sessions can still be read")]
    Full(StateCode),
    #[error(
        "the server does not know a prepared statement, or knows another one ({0}): a pooler is in between; write \
         prepared_statements=false"
    )]
    Prepared(StateCode),
    #[error("the table was changed since a statement was prepared ({0})")]
    Forgotten(StateCode),
    #[error("the key exists already ({0})")]
    Duplicate(StateCode),
    #[error(
        "a lock conflict with another transaction ({0}) at each of several attempts; check what locks the table for long"
    )]
    Locked(StateCode),
    #[error(
        "the server ended the connection ({0}): a shutdown, a failover, pg_terminate_backend or idle_session_timeout"
    )]
    Ended(StateCode),
    #[error("the server is not ready for connections ({0}): it starts, stops or recovers; wait until it has")]
    NotReady(StateCode),
    #[error(
        "the server ended a statement that took too long or was cancelled ({0}); check statement_timeout and what locks the table"
    )]
    Slow(StateCode),
    #[error("the record is larger than the server accepts ({0}); store less in the session")]
    Large(StateCode),
    #[error(
        "the server's queue of notifications is full ({0}): a session that listens is in a long transaction; end it, or leave out \
         notify(true); pg_notification_queue_usage() shows the queue"
    )]
    Notifications(StateCode),
    #[error(
        "the connection string or the pooler does not fit the server ({0}); check the settings that the connection string sets, and \
         ignore_startup_parameters of PgBouncer"
    )]
    Setup(StateCode),
    #[error(
        "the table is missing or has another form, or a trigger, rule or constraint of your own refuses the row ({0}); `cloakroom \
         schema postgres` prints the expected tables"
    )]
    Schema(StateCode),
    #[error("the server answered with SQLSTATE {0}; look it up in its manual")]
    Other(StateCode),
}

impl PostgresCause {
    /// Classifies a SQLSTATE. The codes come from appendix A of PostgreSQL's manual. One code has several causes, which the server's
    /// `routine` tells apart: its function that reported the error.
    fn of(code: StateCode, routine: Option<&str>) -> Self {
        use PostgresCause as C;
        let text = code.as_str();
        match (&text[..2], text) {
            // The one error of this function, in `commands/async.c` of versions 12 to 18.
            (_, "54000") if routine == Some("PreCommit_Notify") => C::Notifications(code),
            (_, "3D000") => C::Database(code),
            (_, "42501") => C::Right(code),
            (_, "53300" | "53400") => C::Connections(code),
            (_, "25006") => C::ReadOnly(code),
            (_, "26000" | "42P05") => C::Prepared(code),
            // "cached plan must not change result type" comes as 0A000.
            (_, "0A000") => C::Forgotten(code),
            (_, "23505") => C::Duplicate(code),
            (_, "40001" | "40P01" | "55P03") => C::Locked(code),
            (_, "57014") => C::Slow(code),
            (_, "57P03") => C::NotReady(code),
            (_, "54000" | "22001") => C::Large(code),
            (_, "42704" | "22023" | "55P02" | "08P01") => C::Setup(code),
            ("28", _) => C::Login(code),
            ("53", _) | (_, "58030") => C::Full(code),
            ("08" | "57", _) | (_, "25P03") => C::Ended(code),
            ("23" | "42" | "44" | "P0", _) | (_, "3F000" | "428C9") => C::Schema(code),
            _ => C::Other(code),
        }
    }

    fn of_error(error: &DbError) -> Self {
        PostgresCause::of(StateCode::new(error.code().code()), error.routine())
    }

    /// Returns true if the error means wrong settings, when it happens at the first connection.
    fn is_configuration_error(self) -> bool {
        use PostgresCause as C;
        matches!(self, C::Login(_) | C::Database(_) | C::Right(_) | C::Schema(_) | C::Setup(_))
    }
}

impl PostgresError {
    fn of_server(error: &DbError) -> Self {
        PostgresError::Server(PostgresCause::of_error(error))
    }

    fn cause(&self) -> Option<PostgresCause> {
        match self {
            PostgresError::Server(cause) => Some(*cause),
            PostgresError::Open { cause, .. } => *cause,
            _ => None,
        }
    }

    /// Returns true if the connection that gave this error can be used further.
    pub(super) fn keeps_connection(&self) -> bool {
        use PostgresCause as C;
        match self {
            PostgresError::Server(cause) => !matches!(
                cause,
                C::ReadOnly(_)
                    | C::Prepared(_)
                    | C::Forgotten(_)
                    | C::Ended(_)
                    | C::NotReady(_)
                    | C::Setup(_)
            ),
            _ => false,
        }
    }

    #[cfg(feature = "beego")]
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, PostgresError::Server(PostgresCause::Duplicate(_)))
    }

    /// Returns true if the server lacks a prepared statement, or has one of the same name.
    pub(super) fn is_lost_statement(&self) -> bool {
        matches!(self, PostgresError::Server(PostgresCause::Prepared(_)))
    }

    pub(super) fn is_missing_right(&self) -> bool {
        matches!(self, PostgresError::Server(PostgresCause::Right(_)))
    }

    /// Returns true if the server undid the statement because of another transaction. A retry after a pause may succeed.
    pub(super) fn is_lock_conflict(&self) -> bool {
        matches!(self, PostgresError::Server(PostgresCause::Locked(_)))
    }

    /// Returns true if no statement has run. A retry on another connection may succeed at once.
    pub(super) fn has_run_nothing(&self) -> bool {
        matches!(self, PostgresError::Unsent)
            || matches!(self, PostgresError::Server(PostgresCause::Prepared(_) | PostgresCause::Forgotten(_)))
    }

    /// Returns true if the server refused the connection or the change, and another attempt may find another server, or this one ready.
    pub(super) fn may_pass(&self) -> bool {
        use PostgresCause as C;
        match self {
            PostgresError::Server(C::ReadOnly(_)) => true,
            PostgresError::Open { cause: Some(cause), .. } => {
                matches!(cause, C::Connections(_) | C::NotReady(_) | C::Ended(_))
            }
            PostgresError::Open { error, .. } => !error.is_config() && !error.is_timeout(),
            _ => false,
        }
    }

    /// Returns true if the connection failed. The statement may have run, unless [`has_run_nothing`](Self::has_run_nothing) is true.
    pub(super) fn is_lost_connection(&self) -> bool {
        use PostgresCause as C;
        match self {
            PostgresError::Connection(_) | PostgresError::Unsent | PostgresError::Protocol => true,
            _ => matches!(self.cause(), Some(C::Ended(_) | C::NotReady(_))),
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.cause(), Some(PostgresCause::ReadOnly(_)))
    }

    /// Converts an error of the first connection, where wrong settings are of the kind `Config`.
    pub(super) fn at_start(self) -> Error {
        use PostgresError as P;
        let config = match &self {
            P::Foreign { .. } | P::NoTable { .. } | P::Right { .. } | P::TooOld { .. } | P::NoSchema => true,
            P::Open { error, cause } => {
                error.is_config() || cause.is_some_and(PostgresCause::is_configuration_error)
            }
            P::Server(cause) => cause.is_configuration_error(),
            _ => false,
        };
        let kind = if config { ErrorKind::Config } else { self.kind() };
        Error::new(kind, self)
    }

    fn kind(&self) -> ErrorKind {
        use PostgresError as P;
        match self {
            P::Settings(_) | P::Table(_) | P::Setting { .. } => ErrorKind::Config,
            P::Open { error, .. } if error.is_timeout() => ErrorKind::Timeout,
            P::Timeout { .. } | P::Server(PostgresCause::Slow(_)) => ErrorKind::Timeout,
            P::TooLarge { .. } | P::Server(PostgresCause::Large(_)) => ErrorKind::TooLarge,
            P::Row { .. } => ErrorKind::Corrupt,
            P::Silent | P::Pooled => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        }
    }
}

impl DeadlineError for PostgresError {
    fn timeout(limit: Duration) -> Self {
        PostgresError::Timeout { limit }
    }
}

impl From<PostgresError> for Error {
    fn from(error: PostgresError) -> Self {
        Error::new(error.kind(), error)
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(error) = error.as_db_error() {
            return PostgresError::of_server(error);
        }
        let io = std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
        // The driver's text for other errors may quote what was sent.
        if error.is_closed() || io { PostgresError::Connection(error) } else { PostgresError::Protocol }
    }
}

impl From<OpenError> for PostgresError {
    fn from(error: OpenError) -> Self {
        let refused = error.driver_error().and_then(tokio_postgres::Error::as_db_error);
        let cause = refused.map(PostgresCause::of_error);
        PostgresError::Open { error, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: &str) -> PostgresError {
        answered_by(code, "errfinish")
    }

    fn answered_by(code: &str, routine: &str) -> PostgresError {
        PostgresError::Server(PostgresCause::of(StateCode::new(code), Some(routine)))
    }

    #[test]
    fn a_full_queue_of_notifications_is_no_large_record() {
        let queue = Error::from(answered_by("54000", "PreCommit_Notify"));
        assert_eq!(queue.kind(), ErrorKind::Unavailable);
        assert!(queue.to_string().contains("queue of notifications is full (54000)"), "{queue}");
        let record = Error::from(answered_by("54000", "RelationGetBufferForTuple"));
        assert_eq!(record.kind(), ErrorKind::TooLarge);
        assert!(record.to_string().contains("the record is larger"), "{record}");
    }

    #[test]
    fn a_servers_error_has_its_cause_code_and_kind() {
        for (code, word, kind) in [
            ("53300", "max_connections", ErrorKind::Unavailable),
            ("28P01", "refuses the login", ErrorKind::Unavailable),
            ("3D000", "the database", ErrorKind::Unavailable),
            ("42501", "lacks a right", ErrorKind::Unavailable),
            ("25006", "read-only", ErrorKind::Unavailable),
            ("53100", "full", ErrorKind::Unavailable),
            ("53200", "full", ErrorKind::Unavailable),
            ("26000", "prepared_statements=false", ErrorKind::Unavailable),
            ("42P05", "prepared_statements=false", ErrorKind::Unavailable),
            ("40001", "another transaction", ErrorKind::Unavailable),
            ("40P01", "another transaction", ErrorKind::Unavailable),
            ("55P03", "another transaction", ErrorKind::Unavailable),
            ("57P01", "ended the connection", ErrorKind::Unavailable),
            ("57P03", "not ready", ErrorKind::Unavailable),
            ("57P05", "idle_session_timeout", ErrorKind::Unavailable),
            ("08006", "ended the connection", ErrorKind::Unavailable),
            ("57014", "statement_timeout", ErrorKind::Timeout),
            ("42P01", "missing or has another form", ErrorKind::Unavailable),
            ("XX000", "manual", ErrorKind::Unavailable),
        ] {
            let error = Error::from(answered(code));
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.contains(word) && text.contains(code), "{text}");
        }
    }

    #[test]
    fn only_wrong_settings_are_of_the_kind_config() {
        for code in ["28000", "28P01", "3D000", "42501", "42P01", "42704"] {
            assert_eq!(answered(code).at_start().kind(), ErrorKind::Config, "{code}");
        }
        for code in ["53300", "25006", "53100", "40001", "57P01", "57P03", "XX000"] {
            assert_eq!(answered(code).at_start().kind(), ErrorKind::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_code_of_another_length_is_no_panic() {
        for code in ["", "1", "123456789", "\u{e4}\u{f6}"] {
            let _ = Error::from(answered(code)).to_string();
        }
    }
}
