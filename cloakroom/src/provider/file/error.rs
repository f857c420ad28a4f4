//! The errors of the file provider. No message holds a key, since with ids in clear the key is the session id.

use std::io;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::provider::private_folder::FolderError;

#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("format: the provider file keeps native and beego, found {found}")]
    Format { found: crate::config::Format },
    #[error("providerConfig: expected the path of the session folder, found nothing; give one such as ./tmp")]
    NoFolder,
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(
        "a lock file below the session folder is {found}; remove it, and let only this program write there"
    )]
    LockFile { found: &'static str },
    #[error("the sessions could not be counted: {0}")]
    Count(#[source] Arc<Error>),
    #[error("the session folder was replaced while in use: {0}")]
    Lost(#[source] Box<FileError>),
    #[error("a folder below the session folder {found}; remove it, and let only this program write there")]
    Branch { found: &'static str },
    #[error(
        "{doing} failed; check that the disk works and has room, and that no other program changes the session folder"
    )]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("the file operation was cancelled, since its runtime ended or it panicked; try again")]
    BrokenOff(#[source] tokio::task::JoinError),
    #[error("expected a record of at most {limit} bytes, found {found}; store less in the session")]
    TooLarge { limit: usize, found: usize },
    #[error("expected a regular file, found {found}")]
    Kind { found: &'static str },
    #[error("expected a file of user {expected}, who runs this process, found one of user {found}")]
    Owner { expected: u32, found: u32 },
    #[error("expected a file that this process may read, found mode {mode:04o}")]
    FileMode { mode: u32 },
    #[error("expected a file of at most {limit} bytes, found one of {found}")]
    Size { limit: u64, found: u64 },
    #[error("expected a record and its CRC-32, found {found} bytes with a wrong checksum")]
    Checksum { found: usize },
}

impl FileError {
    /// Returns a function that wraps an `io::Error` or `Errno`, for an operation named `doing`.
    pub(super) fn io<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> FileError {
        move |cause| FileError::Io { doing, cause: cause.into() }
    }

    /// Returns true if the file system is full or may only be read.
    pub(super) fn refuses_writes(&self) -> bool {
        use io::ErrorKind as K;
        let refusals = [K::StorageFull, K::QuotaExceeded, K::ReadOnlyFilesystem, K::PermissionDenied];
        matches!(self, FileError::Io { cause, .. } if refusals.contains(&cause.kind()))
    }

    fn kind(&self) -> ErrorKind {
        use FileError as F;
        match self {
            F::Format { .. } | F::NoFolder => ErrorKind::Config,
            F::Folder(cause) => cause.kind(),
            F::Lost(_) | F::Branch { .. } => ErrorKind::Unavailable,
            F::Io { .. } | F::BrokenOff(_) | F::LockFile { .. } => ErrorKind::Unavailable,
            F::Count(cause) => cause.kind(),
            F::TooLarge { .. } => ErrorKind::TooLarge,
            F::Kind { .. } | F::Owner { .. } | F::FileMode { .. } => ErrorKind::Corrupt,
            F::Size { .. } | F::Checksum { .. } => ErrorKind::Corrupt,
        }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Error::new(error.kind(), error)
    }
}
