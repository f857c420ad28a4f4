//! The one error type: what kind of thing went wrong, and why.

use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;

/// What `cloakroom`'s calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Self::kind) is for code, the text for logs: it says what was expected, what was found and what to do, and
/// never holds a session id, a credential or a stored value. The provider's own cause is the
/// [`source`](StdError::source).
///
/// An error is one pointer wide, so that results stay small on the path of every request.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Set when the log has this error already.
    #[cfg(feature = "tower")]
    logged: bool,
    reason: Box<dyn StdError + Send + Sync>,
}

/// What kind of thing went wrong, and so what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration cannot work. The text names the key, what was found and what is expected.
    Config,
    /// The provider failed. The session may well be there: answer 503 and keep the cookie.
    Unavailable,
    /// The provider did not answer within the deadline. What was asked may or may not have happened.
    Timeout,
    /// Other requests kept changing the session first, and the bounded number of tries is used up.
    Conflict,
    /// The session was destroyed, rotated away or has expired since this request loaded it.
    Gone,
    /// A value or a whole record is over a limit, or a memory provider holds its `max_sessions`. Nothing was changed. A full disk or
    /// server is [`Unavailable`](ErrorKind::Unavailable).
    TooLarge,
    /// A stored record cannot be read. It was left, or put aside, for inspection.
    Corrupt,
    /// A newer release wrote the stored session, or this build lacks its codec. The session is left as it is, so a process that can read it
    /// still serves it: answer 503 and keep the cookie.
    Incompatible,
    /// A value does not turn into what was asked for, or cannot be stored at all.
    Value,
    /// The provider cannot do this; its [`Capabilities`](crate::providers::Capabilities) say so.
    Unsupported,
    /// The operating system's random generator failed: no id was made.
    Random,
    /// The response head has left, so the change could no longer be committed with it.
    Released,
    /// The user has not proved who they are, not surely enough or not recently enough, for what was asked. Have them log in.
    Denied,
    /// The user has as many sessions as the manager allows. Nothing was changed.
    Refused,
    /// The application's [`admit`](crate::ManagerBuilder::admit) refused one anonymous session more. Nothing was stored.
    Throttled,
    /// The store holds as many sessions as the [quota](crate::ManagerBuilder::session_quota) allows. Nothing was stored.
    Full,
    /// Another site's page may have sent the request: it came from elsewhere, or without the session's token.
    Forged,
    /// The session layer is not around the handler that asks for a session.
    NoLayer,
}

impl ErrorKind {
    fn headline(self) -> &'static str {
        match self {
            ErrorKind::Config => "the session configuration cannot work",
            ErrorKind::Unavailable => "the session store is unavailable",
            ErrorKind::Timeout => "the session store did not answer in time",
            ErrorKind::Conflict => "the session changed under every try to commit",
            ErrorKind::Gone => "the session has ended",
            ErrorKind::TooLarge => "a session limit is exceeded",
            ErrorKind::Corrupt => "a stored session cannot be read",
            ErrorKind::Incompatible => "this build cannot read a stored session",
            ErrorKind::Value => "a session value does not fit",
            ErrorKind::Unsupported => "the session provider cannot do this",
            ErrorKind::Random => "no session id could be made",
            ErrorKind::Released => "the session was released",
            ErrorKind::Denied => "the user must prove who they are",
            ErrorKind::Refused => "one session more is not allowed",
            ErrorKind::Throttled => "no session may begin now",
            ErrorKind::Full => "there is no room for one session more",
            ErrorKind::Forged => "the request may be forged",
            ErrorKind::NoLayer => "there is no session for this request",
        }
    }
}

impl Error {
    /// An error of `kind` because of `reason`, which must not hold an id, a credential or a stored value.
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, std::io::Error::other("disk on fire"));
    /// assert_eq!(error.kind(), ErrorKind::Unavailable);
    /// assert_eq!(error.to_string(), "the session store is unavailable: disk on fire");
    /// ```
    pub fn new(kind: ErrorKind, reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error(Box::new(Inner {
            kind,
            #[cfg(feature = "tower")]
            logged: false,
            reason: reason.into(),
        }))
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The status that tells a client what it may know:
    ///
    /// | status | kinds |
    /// |---|---|
    /// | 401 | `Denied` |
    /// | 403 | `Refused`, `Forged` |
    /// | 409 | `Conflict`, `Gone` |
    /// | 413 | `TooLarge` |
    /// | 429 | `Throttled` |
    /// | 503 | `Unavailable`, `Timeout`, `Random`, `Full`, `Incompatible` |
    /// | 500 | every other kind |
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Timeout, "nothing within 2 s");
    /// assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    /// ```
    pub fn status(&self) -> StatusCode {
        match self.0.kind {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Random => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Full | ErrorKind::Incompatible => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Conflict | ErrorKind::Gone => StatusCode::CONFLICT,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Denied => StatusCode::UNAUTHORIZED,
            ErrorKind::Refused | ErrorKind::Forged => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Notes that the error is being logged; false if it was before.
    #[cfg(feature = "tower")]
    pub(crate) fn begin_to_log(&mut self) -> bool {
        !std::mem::replace(&mut self.0.logged, true)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.headline(), self.0.reason)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("reason", &self.0.reason).finish()
    }
}

impl StdError for Error {
    /// The cause beneath the reason that the text already tells.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.reason.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_kind_and_reason_and_the_source_goes_deeper() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder");
        let error = Error::new(ErrorKind::Unavailable, std::io::Error::other(cause));
        assert_eq!(error.to_string(), "the session store is unavailable: no such folder");
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
