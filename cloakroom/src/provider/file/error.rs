//! What can go wrong with a folder of sessions. No text holds a key: with clear ids the key is the session id.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("durability: expected atomic or durable, found {found:?}")]
    Durability { found: String },
    #[error("format: the provider file keeps native and beego, found {found}")]
    Format { found: crate::config::Format },
    #[error("providerConfig: expected the path of the session folder, found nothing; give one such as ./tmp")]
    NoFolder,
    #[error("the session folder {path:?} is a symbolic link; name the folder it leads to")]
    RootLink { path: PathBuf },
    #[error("the session folder {path:?} is not a folder; name another path or move away what is there")]
    RootKind { path: PathBuf },
    #[error(
        "expected a session folder of this process's user {expected}, found that {path:?} belongs to user {found}; \
         chown it or name another folder"
    )]
    RootOwner { path: PathBuf, expected: u32, found: u32 },
    #[error(
        "the session folder {path:?} has mode {mode:04o}: others may write to it and plant sessions; \
         take that away with chmod go-w, or name a folder that holds sessions alone"
    )]
    RootMode { path: PathBuf, mode: u32 },
    #[error("the session folder {path:?} cannot be opened or made; name a folder that this process may use")]
    Root {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the session folder {path:?} cannot be made: {above:?} {found}; name another path or mend that one"
    )]
    Above { path: PathBuf, above: PathBuf, found: &'static str },
    #[error(
        "the session folder {path:?} cannot be made, since making {missing:?} failed; make it by hand or name another path"
    )]
    Make {
        path: PathBuf,
        missing: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "a lock file below the session folder is {found}; nobody but this program should write there, remove it"
    )]
    LockFile { found: &'static str },
    #[error("the sessions could not be counted: {0}")]
    Count(#[source] Arc<Error>),
    #[error("the session folder was replaced while in use: {0}")]
    Lost(#[source] Box<FileError>),
    #[error(
        "a folder below the session folder {found}; nobody but this program should write there, remove it"
    )]
    Branch { found: &'static str },
    #[error(
        "{doing} failed; see that the disk has room and works, and that nobody else changes the session folder"
    )]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("the file work was broken off; try again")]
    BrokenOff(#[source] tokio::task::JoinError),
    #[error("expected a record of at most {limit} bytes, found {found}; store less in the session")]
    TooLarge { limit: usize, found: usize },
    #[error("expected a regular file, found {found}")]
    Kind { found: &'static str },
    #[error("expected a file of this process's user {expected}, found one of user {found}")]
    Owner { expected: u32, found: u32 },
    #[error("expected a file that this process may read, found mode {mode:04o}")]
    FileMode { mode: u32 },
    #[error("expected a file of at most {limit} bytes, found one of {found}")]
    Size { limit: u64, found: u64 },
    #[error("expected a record and its CRC-32, found {found} bytes whose checksum is another")]
    Checksum { found: usize },
}

impl FileError {
    /// An `io::Error` or `Errno` while `doing` something.
    pub(super) fn io<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> FileError {
        move |cause| FileError::Io { doing, cause: cause.into() }
    }

    /// True if the file system takes nothing new: it is full, or this process may only read it.
    pub(super) fn refuses_writes(&self) -> bool {
        use io::ErrorKind as K;
        let refusals = [K::StorageFull, K::QuotaExceeded, K::ReadOnlyFilesystem, K::PermissionDenied];
        matches!(self, FileError::Io { cause, .. } if refusals.contains(&cause.kind()))
    }

    fn kind(&self) -> ErrorKind {
        use FileError as F;
        match self {
            F::Durability { .. }
            | F::Format { .. }
            | F::NoFolder
            | F::RootLink { .. }
            | F::RootKind { .. } => ErrorKind::Config,
            F::RootOwner { .. } | F::RootMode { .. } | F::Above { .. } => ErrorKind::Config,
            F::Lost(_) | F::Root { .. } | F::Make { .. } | F::Branch { .. } => ErrorKind::Unavailable,
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
