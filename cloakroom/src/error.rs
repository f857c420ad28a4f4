//! The error type of the library, and its kinds.

use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

/// The result of the calls of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The text for a visitor whose change was refused because the session had ended.
pub(crate) const ENDED: &str = "Your session has ended or was replaced in the meantime, so nothing was changed. Please load the page again.";

/// The error of every call in this library.
///
/// [`kind`](Self::kind) is for code, [`status`](Self::status) for clients, and the text for logs. The text never contains a session
/// id, a credential or a stored value. The [`source`](StdError::source) is the cause that the provider reported. An error is one
/// pointer wide.
///
/// ```
/// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// session.set("theme", "dark")?;
/// match session.get::<u32>("theme") {
///     Err(error) if error.kind() == ErrorKind::Value => session.delete("theme")?,
///     found => assert_eq!(found?, None),
/// }
/// assert!(!session.contains("theme")?);
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// The chapter [errors](crate::guide::errors) lists every kind with its causes and cures.
pub struct Error(Box<ErrorParts>);

struct ErrorParts {
    kind: ErrorKind,
    /// True if the error was logged already.
    logged: AtomicBool,
    reason: Box<dyn StdError + Send + Sync>,
}

/// The kind of an [`Error`], by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is invalid. The text names the key, what was found and what is expected.
    Config,
    /// The provider failed. The session may still exist: answer 503 and keep the cookie.
    Unavailable,
    /// The provider did not answer within the deadline. The operation may or may not have happened.
    Timeout,
    /// Other requests changed the session before each of a bounded number of tries to commit.
    Conflict,
    /// The session has ended, expired or got another id since this request loaded it.
    Gone,
    /// A value or a record exceeds a limit, or a memory provider already holds `max_sessions`. Nothing was changed.
    ///
    /// A full disk or server is [`Unavailable`](ErrorKind::Unavailable).
    TooLarge,
    /// A stored record is not readable. It was left in place or put aside, for inspection.
    Corrupt,
    /// A newer release wrote the stored session, or this build lacks its codec.
    ///
    /// The session is unchanged, so a process that can read it still serves it: answer 503 and keep the cookie.
    Incompatible,
    /// A value does not decode to the requested type, or cannot be stored.
    Value,
    /// The provider does not support this call, as its [`Capabilities`](crate::providers::Capabilities) say.
    Unsupported,
    /// The random generator of the operating system failed, so no id was created.
    Random,
    /// The response head was sent already, so the change was not committed.
    Released,
    /// The user is not logged in, or the login is too old or too weak for the request. Ask them to log in.
    Denied,
    /// The user already has the maximum number of sessions. Nothing was changed.
    Refused,
    /// The application's [`admit`](crate::ManagerBuilder::admit) callback refused a new anonymous session. Nothing was stored.
    Throttled,
    /// The store already holds as many sessions as the [quota](crate::ManagerBuilder::session_quota) allows. Nothing was stored.
    Full,
    /// Another site may have caused the request: its origin is another one, or it has no valid CSRF token.
    Forged,
    /// The handler asks for a session, but no session layer wraps it.
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
    /// Returns an error of this kind, for providers and listeners outside of this library.
    ///
    /// The `reason` must not contain a session id, a credential or a stored value.
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, std::io::Error::other("disk on fire"));
    /// assert_eq!(error.kind(), ErrorKind::Unavailable);
    /// assert_eq!(error.to_string(), "the session store is unavailable: disk on fire");
    /// ```
    pub fn new(kind: ErrorKind, reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error(Box::new(ErrorParts { kind, logged: AtomicBool::new(false), reason: reason.into() }))
    }

    /// Returns the kind of the error. New kinds may be added, so a `match` needs a last arm for all others.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Principal};
    ///
    /// let error = Principal::new("").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Value);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the HTTP status for the client:
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

    /// Returns a short sentence for visitors, such as the body of a response. The error's own text is for logs only.
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Denied, "the session has no user");
    /// assert_eq!(error.visitor_text(), "Please sign in.");
    /// ```
    pub fn visitor_text(&self) -> &'static str {
        match self.kind() {
            ErrorKind::Gone => ENDED,
            ErrorKind::Conflict => {
                "Other requests changed your session at the same time, so nothing was changed. Please try again."
            }
            ErrorKind::TooLarge => "Your session cannot hold that much, so nothing was changed.",
            ErrorKind::Denied => "Please sign in.",
            ErrorKind::Refused => "You have too many sessions. Please sign out elsewhere first.",
            ErrorKind::Forged => {
                "This form is out of date or was sent by another site, so nothing was changed. Please load the page again."
            }
            ErrorKind::Throttled => "Too many new visitors just now. Please try again later.",
            _ => self.status().canonical_reason().unwrap_or_default(),
        }
    }

    /// Logs that `what` failed and why, unless this error was logged before. Call it where an error becomes a response.
    ///
    /// The level is ERROR for a fault of the server, and INFO or DEBUG for an error that any visitor can cause.
    ///
    /// ```
    /// use cloakroom::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Timeout, "nothing within 2 s");
    /// error.log("a request could not read its session");
    /// error.log("a handler answered with an error"); // logs nothing
    /// ```
    #[cold]
    pub fn log(&self, what: &str) {
        if self.0.logged.swap(true, Ordering::Relaxed) {
            return;
        }
        let error = self;
        match self.kind() {
            // Every visitor who is not logged in can cause this. Usually nothing is wrong.
            ErrorKind::Denied => tracing::debug!(%error, "{what}"),
            // A flood of new visitors can fill the store. The response is 503 all the same.
            ErrorKind::Full => tracing::info!(%error, "{what}"),
            _ if self.status().is_server_error() => tracing::error!(%error, "{what}"),
            _ => tracing::info!(%error, "{what}"),
        }
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
    /// Returns the cause of the reason, which the text already contains.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.reason.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_kind_and_reason_and_the_source_is_deeper() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder");
        let error = Error::new(ErrorKind::Unavailable, std::io::Error::other(cause));
        assert_eq!(error.to_string(), "the session store is unavailable: no such folder");
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
