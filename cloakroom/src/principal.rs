//! The user a session belongs to.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The user a session belongs to: whatever names one uniquely in the application, such as a row's id.
///
/// Bound by [`Session::authenticate`](crate::Session::authenticate) and by nothing else. Providers index sessions by it.
/// 1 to 256 bytes of any text; `Debug` hides it.
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
    /// The most bytes of a principal: it becomes an index key, and databases bound those.
    pub const MAX_LEN: usize = 256;

    /// A principal of 1 to 256 bytes.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        match (1..=Self::MAX_LEN).contains(&name.len()) {
            true => Ok(Principal(name.into())),
            false => Err(Error::new(ErrorKind::Value, PrincipalError { found: name.len() })),
        }
    }

    /// The application's name for the user.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({} bytes)", self.0.len())
    }
}

/// How surely a user has proved who they are: the application's own scale, such as 1 for a password, 2 with a second factor, 3 with a
/// hardware key, as NIST SP 800-63B counts them.
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
    /// The level `number`; the higher the surer.
    pub const fn new(number: u8) -> Self {
        Level(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    /// Level 1: what a login has that names none.
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
    fn the_length_is_bounded_on_both_sides() {
        assert_eq!(Principal::new("").unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Principal::new("x".repeat(257)).unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Principal::new("x".repeat(256)).unwrap().as_str().len(), 256);
    }

    #[test]
    fn debug_hides_the_name() {
        assert_eq!(format!("{:?}", Principal::new("alice").unwrap()), "Principal(5 bytes)");
    }
}
