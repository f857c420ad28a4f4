//! The error type, and the reasons behind it.

use std::fmt;

use crate::decode::MAX_DECODED_DEPTH;
use crate::types::MAX_TYPES;

/// The error of every call in this crate.
///
/// Its text names the place and the Go type, but never a value, a map key or a field: they may be secrets of the
/// application.
#[derive(Debug)]
pub struct Error(Reason);

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes are not a gob, or they contradict themselves.
    Malformed,
    /// The gob exceeds a bound of this crate: [`MAX_DECODED_DEPTH`](crate::MAX_DECODED_DEPTH) or
    /// [`MAX_TYPES`](crate::MAX_TYPES).
    Limit,
    /// The Rust value has no Go counterpart, or the Go value does not fit the requested Rust type.
    Value,
}

impl Error {
    /// Returns what went wrong, for code that reacts to it.
    pub fn kind(&self) -> ErrorKind {
        match self.0 {
            Reason::Depth | Reason::TooManyTypes => ErrorKind::Limit,
            Reason::Value => ErrorKind::Value,
            _ => ErrorKind::Malformed,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Error(reason)
    }
}

/// The reason of an error. No text holds a value or a map key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("the gob ends within a message")]
    Truncated,
    #[error("byte {at} of the gob begins a number of more than 8 bytes")]
    Number { at: usize },
    #[error("the gob defines type {id} twice, or under a number that gob reserves")]
    Redefined { id: i64 },
    #[error("the gob uses type {id} but does not define it")]
    Undefined { id: i64 },
    #[error("a type definition in the gob is malformed")]
    Definition,
    #[error("bytes follow a type definition within its message")]
    Extra,
    #[error("the gob defines more than {MAX_TYPES} types")]
    TooManyTypes,
    #[error("a struct in the gob has a field past its last one")]
    Field,
    #[error("a value in the gob does not follow the zero byte that gob requires")]
    Delta,
    #[error("the gob claims {found} elements or bytes for {what}, more than it holds")]
    Length { what: &'static str, found: u64 },
    #[error("an array in the gob has another length than its type")]
    ArrayLength,
    #[error("values in the gob nest deeper than {MAX_DECODED_DEPTH} levels")]
    Depth,
    #[error("a type name in the gob is not UTF-8, or longer than 1,024 bytes")]
    TypeName,
    #[error("a value in the gob has another type than its name says")]
    Mismatch,
    #[error("a number in the gob is out of the range of its type")]
    Range,
    #[error("a map in the gob has a key that Go cannot compare: a slice, a map or bytes")]
    Key,
    #[error(
        "the value does not fit: it has no Go counterpart, or the Go value has another shape than the type asked for"
    )]
    Value,
}
