//! The user a session belongs to.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The user that a session belongs to: a name that is unique in the application, such as the id of a database row.
///
/// Only [`Session::authenticate`](crate::Session::authenticate) binds it to a session. Providers index sessions by it, to list
/// and end the sessions of a user. It is text of 1 to 256 bytes.
///
/// It may be personal data, so no log line of the library contains it: `Debug` shows its length alone, and there is no `Display`. To
/// show it on a page, write [`as_str`](Self::as_str). For a log, prefer a value that names nobody, such as the [hash of the
/// session](crate::event::Event::session) in an event.
///
/// ```
/// use cloakroom::Principal;
///
/// let user = Principal::new("user-4711")?;
/// assert_eq!(user.as_str(), "user-4711");
/// assert!(Principal::new("").is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The maximum length in bytes. A principal becomes an index key, which databases limit.
    pub const MAX_LEN: usize = 256;

    /// Returns the principal with this name. Any text will do; names are compared byte for byte.
    ///
    /// Choose a name that never changes and is never given to another user: the id of a database row, not an email address.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Principal};
    ///
    /// let user = Principal::new("user-4711")?;
    /// assert_eq!(user, "user-4711".try_into()?);
    /// assert_eq!(Principal::new("x".repeat(257)).unwrap_err().kind(), ErrorKind::Value);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if the name is empty or longer than 256 bytes.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if !(1..=Self::MAX_LEN).contains(&name.len()) {
            return Err(Error::new(ErrorKind::Value, PrincipalError { found: name.len() }));
        }
        Ok(Principal(name.into()))
    }

    /// Returns the application's name for the user.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({} bytes)", self.0.len())
    }
}

/// The strength of a user's authentication, on the application's own scale; a higher number is stronger.
///
/// NIST SP 800-63B counts 1 for a password, 2 with a second factor, and 3 with a hardware key.
/// [`Session::set_level`](crate::Session::set_level) changes the level of a session.
///
/// ```
/// use cloakroom::Level;
///
/// assert!(Level::new(2) > Level::default());
/// assert_eq!(Level::default().number(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Returns the level with this number.
    ///
    /// ```
    /// use cloakroom::Level;
    ///
    /// const SECOND_FACTOR: Level = Level::new(2);
    /// assert!(SECOND_FACTOR > Level::new(1));
    /// ```
    pub const fn new(number: u8) -> Self {
        Level(number)
    }

    /// Returns the number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    /// Returns level 1, the level of a login that names none.
    fn default() -> Self {
        Level(1)
    }
}

impl TryFrom<&str> for Principal {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self> {
        Principal::new(name)
    }
}

impl TryFrom<String> for Principal {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Principal::new(name)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected a principal of 1 to {max} bytes, found {found}; use a shorter name, such as the user's row id", max = Principal::MAX_LEN)]
struct PrincipalError {
    found: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_1_to_256_bytes() {
        assert_eq!(Principal::new("").unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Principal::new("x".repeat(257)).unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Principal::new("x".repeat(256)).unwrap().as_str().len(), 256);
    }

    #[test]
    fn debug_hides_the_name() {
        assert_eq!(format!("{:?}", Principal::new("alice").unwrap()), "Principal(5 bytes)");
    }
}
