//! The reasons for which a call fails.

use std::time::Duration;

use cloakroom::ErrorKind;

pub(crate) type Result<T> = std::result::Result<T, Reason>;

/// The reason for which a call fails. tower-sessions has three kinds of error, each with a text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error(
        "another request changed the session after this one had loaded it, so nothing was stored; repeat the request"
    )]
    Changed,
    #[error("the session has ended since this request loaded it, so nothing was stored; begin a new session")]
    Ended,
    #[error("expected a free id for the new session, found {tries} taken ones; check the random generator")]
    NoFreeId { tries: u32 },
    #[error(
        "expected an answer of the session store within {limit:?}, found none; see whether the store is up, or raise the \
         deadline (`with_deadline`)"
    )]
    Late { limit: Duration },
    #[error(transparent)]
    Store(#[from] cloakroom::Error),
}

/// The kinds of error that tower-sessions knows.
pub(crate) enum Class {
    Encode,
    Decode,
    Backend,
}

impl Reason {
    pub(crate) fn class(&self) -> Class {
        let Reason::Store(error) = self else { return Class::Backend };
        match error.kind() {
            ErrorKind::TooLarge | ErrorKind::Value => Class::Encode,
            ErrorKind::Corrupt | ErrorKind::Incompatible => Class::Decode,
            _ => Class::Backend,
        }
    }
}
