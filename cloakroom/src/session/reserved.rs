//! Keys of the library's own in a session's data. Applications neither see nor write them.

use crate::error::{Error, ErrorKind, Result};

/// The first byte of every reserved key: a control character, which no application's key begins with by accident.
const MARK: u8 = 1;

/// Before the place and the name of a flash message.
pub(super) const FLASH: &str = "\u{1}flash/";

/// The secret behind a session's tokens against cross-site request forgery.
pub(crate) const CSRF: &str = "\u{1}csrf";

#[inline]
pub(super) fn is_reserved(key: &str) -> bool {
    key.as_bytes().first() == Some(&MARK)
}

/// Refuses a reserved key to an application that would write it.
#[inline]
pub(super) fn refuse(key: &str) -> Result<()> {
    match is_reserved(key) {
        false => Ok(()),
        true => Err(refused()),
    }
}

#[cold]
fn refused() -> Error {
    Error::new(ErrorKind::Value, Reserved)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a key of the application's, found one that begins with the control character U+0001, which the library keeps for its own; choose another"
)]
struct Reserved;
