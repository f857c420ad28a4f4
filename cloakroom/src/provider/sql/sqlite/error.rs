//! The errors of the SQLite provider. No message contains SQLite's own text, since that may quote what was stored.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode as Code;
use rusqlite::ffi;
use rustix::io::Errno;

use super::address::AddressError;
use crate::error::{Error, ErrorKind};
use crate::provider::private_folder::FolderError;
use crate::provider::sql::table::TableNameError;

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum SqliteError {
    #[error("the database's path: {0}")]
    Address(Arc<AddressError>),
    #[error("{0}")]
    Table(Arc<TableNameError>),
    #[error("{what}: expected {expected}, found {found}")]
    Setting { what: &'static str, expected: &'static str, found: String },
    #[error("{0}")]
    Folder(#[source] Arc<FolderError>),
    #[error("expected a database file, found that {path:?} is {found}; name another path or move it away")]
    FileKind { path: PathBuf, found: &'static str },
    #[error(
        "expected a database file of user {expected}, who runs this process, found that {path:?} belongs to user {found}; \
         chown it or name another path"
    )]
    FileOwner { path: PathBuf, expected: u32, found: u32 },
    #[error(
        "expected a database file that only its owner may write to, found that {path:?} has mode {mode:04o}, so that other \
         users could plant sessions; run chmod go-w"
    )]
    FileMode { path: PathBuf, mode: u32 },
    #[error("expected the database file {path:?}, found none; create it, or let `create_table` be true")]
    NoFile { path: PathBuf },
    #[error(
        "{doing} failed; check that the disk works and has room, and that this process may use the folder"
    )]
    File {
        doing: &'static str,
        #[source]
        cause: Errno,
    },
    #[error(
        "expected a local disk, found that {path:?} is on a network file system, where SQLite's shared memory does not work; \
         name a folder on a disk of this machine"
    )]
    Network { path: PathBuf },
    #[error(
        "the pragma {name}: expected {expected}, as the provider has set it, found {found}; check that the file system has shared memory \
         and that no program holds the database in another mode"
    )]
    Pragma { name: &'static str, expected: String, found: String },
    #[error("the table {table:?}: expected {expected}, found {found}{fix}")]
    Foreign { table: String, expected: &'static str, found: String, fix: SqliteFix },
    #[error("{0}")]
    Engine(EngineCause, #[source] EngineCode),
    #[error(
        "the database file was removed or replaced while in use; the change was not stored in the file that is there now"
    )]
    Moved,
    #[error("the database file was removed or replaced while in use: {0}")]
    Lost(#[source] Arc<SqliteError>),
    #[error("the thread that writes to the database has ended; check the log, and connect again")]
    Stopped,
    #[error("the thread that writes to the database could not be started; check the limit on threads")]
    Thread(#[source] Arc<std::io::Error>),
    #[error("the read was cancelled, since its runtime ended; try again")]
    BrokenOff,
    #[error(
        "expected an answer within {limit:?}, found none; check that no other program holds the database's lock and that the disk works, \
         or raise `deadline`"
    )]
    Timeout { limit: Duration },
    #[error("expected a record of at most {limit} bytes, found {found}; store less in the session")]
    TooLarge { limit: usize, found: usize },
    #[error("a row's {column} is not one that this provider writes; check what else writes to the table")]
    Row { column: &'static str },
}

/// The statement that fixes a table, as the end of an error message.
#[derive(Clone, Debug)]
pub(super) struct SqliteFix(pub(super) Option<String>);

impl std::fmt::Display for SqliteFix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(statement) => write!(f, "; run: {statement}"),
            None => f.write_str(
                "; name another table, or create one with the statement that `cloakroom schema sqlite` prints",
            ),
        }
    }
}

/// The extended result code of SQLite.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("SQLite's result code {0}")]
pub(super) struct EngineCode(i32);

/// The cause of an error of SQLite. The message says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineCause {
    #[error("another program holds the database's lock")]
    Locked,
    #[error(
        "the database or its folder is read-only; give this process the right to write; sessions can still be read"
    )]
    ReadOnly,
    #[error(
        "the disk is full, or the database has reached its largest size; free some space; sessions can still be read"
    )]
    Full,
    #[error("reading or writing the database failed; check the disk and the system's log")]
    Io,
    #[error(
        "the database file is damaged; stop every program that uses it, and restore a backup or move the file away"
    )]
    Damaged,
    #[error("the file is not a SQLite database; name another path or move the file away")]
    NoDatabase,
    #[error(
        "the database file cannot be opened; check the rights on the file, its -wal, its -shm and its folder"
    )]
    CannotOpen,
    #[error(
        "the table is missing or has another form, or a trigger or constraint of your own refuses the row; `cloakroom schema sqlite` \
         prints the expected tables"
    )]
    Schema,
    #[error("the process has no memory left for SQLite")]
    Memory,
    #[error("SQLite refuses the call; look the result code up in its manual")]
    Other,
}

impl EngineCause {
    fn of(code: Code, extended: i32) -> Self {
        use EngineCause as C;
        match (code, extended) {
            // The shared memory of the log could not grow.
            (_, ffi::SQLITE_IOERR_SHMSIZE) => C::Full,
            (Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed, _) => C::Locked,
            (Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied, _) => {
                C::ReadOnly
            }
            (Code::DiskFull, _) => C::Full,
            (Code::SystemIoFailure, _) => C::Io,
            (Code::DatabaseCorrupt, _) => C::Damaged,
            (Code::NotADatabase, _) => C::NoDatabase,
            (Code::CannotOpen, _) => C::CannotOpen,
            (Code::SchemaChanged | Code::Unknown | Code::ConstraintViolation | Code::TypeMismatch, _) => {
                C::Schema
            }
            (Code::OutOfMemory, _) => C::Memory,
            _ => C::Other,
        }
    }
}

impl SqliteError {
    pub(super) fn file(doing: &'static str) -> impl FnOnce(Errno) -> SqliteError {
        move |cause| SqliteError::File { doing, cause }
    }

    /// Returns the error of a change that a full disk has no room for.
    pub(super) fn full() -> SqliteError {
        SqliteError::Engine(EngineCause::Full, EngineCode(ffi::SQLITE_FULL))
    }

    fn cause(&self) -> Option<EngineCause> {
        match self {
            SqliteError::Engine(cause, _) => Some(*cause),
            _ => None,
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.cause() == Some(EngineCause::Locked)
    }

    pub(super) fn is_full(&self) -> bool {
        self.cause() == Some(EngineCause::Full)
    }

    /// Returns true if the file's place holds no file, or not the one that was opened.
    pub(super) fn is_moved(&self) -> bool {
        matches!(self, SqliteError::Moved)
    }

    /// Returns true if the connection may be of no further use. A new one sees the file as it is.
    pub(super) fn ends_connection(&self) -> bool {
        use EngineCause as C;
        let broken = [C::Io, C::Damaged, C::NoDatabase, C::CannotOpen, C::ReadOnly, C::Memory, C::Other];
        self.is_moved() || self.cause().is_some_and(|cause| broken.contains(&cause))
    }

    /// Converts an error of a later opening. The database was usable at the start, so this is an outage and no configuration error.
    pub(super) fn while_in_use(self) -> SqliteError {
        match self.kind() {
            ErrorKind::Config => SqliteError::Lost(Arc::new(self)),
            _ => self,
        }
    }

    /// Converts an error of the start, where wrong settings are of the kind `Config`.
    pub(super) fn at_start(self) -> Error {
        let kind = match self.cause() {
            Some(EngineCause::NoDatabase) => ErrorKind::Config,
            _ => self.kind(),
        };
        Error::new(kind, self)
    }

    fn kind(&self) -> ErrorKind {
        use SqliteError as S;
        match self {
            S::Address(_) | S::Table(_) | S::Setting { .. } | S::Foreign { .. } => ErrorKind::Config,
            S::FileKind { .. } | S::FileOwner { .. } | S::FileMode { .. } | S::NoFile { .. } => {
                ErrorKind::Config
            }
            S::Network { .. } | S::Pragma { .. } => ErrorKind::Config,
            S::Folder(cause) => cause.kind(),
            S::Timeout { .. } => ErrorKind::Timeout,
            S::TooLarge { .. } => ErrorKind::TooLarge,
            S::Row { .. } => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        }
    }
}

impl From<SqliteError> for Error {
    fn from(error: SqliteError) -> Self {
        Error::new(error.kind(), error)
    }
}

impl From<AddressError> for SqliteError {
    fn from(error: AddressError) -> Self {
        SqliteError::Address(Arc::new(error))
    }
}

impl From<TableNameError> for SqliteError {
    fn from(error: TableNameError) -> Self {
        SqliteError::Table(Arc::new(error))
    }
}

impl From<FolderError> for SqliteError {
    fn from(error: FolderError) -> Self {
        SqliteError::Folder(Arc::new(error))
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(error, _) => {
                let cause = EngineCause::of(error.code, error.extended_code);
                SqliteError::Engine(cause, EngineCode(error.extended_code))
            }
            rusqlite::Error::SqlInputError { error, .. } => {
                SqliteError::Engine(EngineCause::Schema, EngineCode(error.extended_code))
            }
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => {
                SqliteError::Row { column: "column" }
            }
            // The driver's text for other errors may quote a path or a statement.
            _ => SqliteError::Engine(EngineCause::Other, EngineCode(ffi::SQLITE_ERROR)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32) -> SqliteError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("a key".to_owned())).into()
    }

    #[test]
    fn an_error_of_sqlite_has_its_cause_and_kind() {
        for (code, word) in [
            (ffi::SQLITE_BUSY, "lock"),
            (ffi::SQLITE_BUSY_RECOVERY, "lock"),
            (ffi::SQLITE_FULL, "full"),
            (ffi::SQLITE_IOERR_SHMSIZE, "full"),
            (ffi::SQLITE_IOERR_WRITE, "check the disk"),
            (ffi::SQLITE_CORRUPT, "damaged"),
            (ffi::SQLITE_NOTADB, "not a SQLite database"),
            (ffi::SQLITE_READONLY, "read-only"),
            (ffi::SQLITE_CANTOPEN, "cannot be opened"),
            (ffi::SQLITE_CONSTRAINT, "another form"),
            (ffi::SQLITE_NOMEM, "memory"),
            (ffi::SQLITE_MISUSE, "manual"),
        ] {
            let error = Error::from(told(code));
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
            assert!(text.contains(word) && !text.contains("a key"), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_a_config_error_at_start() {
        assert_eq!(told(ffi::SQLITE_NOTADB).at_start().kind(), ErrorKind::Config);
        assert_eq!(told(ffi::SQLITE_CORRUPT).at_start().kind(), ErrorKind::Unavailable);
    }
}
