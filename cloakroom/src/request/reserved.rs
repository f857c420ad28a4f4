//! The keys that the library reserves in a session's data. Applications neither see nor write them.

use crate::error::{Error, ErrorKind, Result};

/// The first byte of every reserved key: a control character, which no application's key begins with by accident.
const MARK: u8 = 1;

/// The prefix of flash messages.
pub(crate) const FLASH: &str = "\u{1}flash/";

/// The key of the secret behind a session's CSRF tokens.
pub(crate) const CSRF: &str = "\u{1}csrf";

#[inline]
pub(crate) fn is_reserved(key: &str) -> bool {
    key.as_bytes().first() == Some(&MARK)
}

/// Refuses a reserved key that an application wants to write.
#[inline]
pub(crate) fn refuse(key: &str) -> Result<()> {
    if is_reserved(key) { Err(reserved()) } else { Ok(()) }
}

#[cold]
fn reserved() -> Error {
    Error::new(ErrorKind::Value, Reserved)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a key of the application, found one that begins with the control character U+0001, which the library reserves; choose another"
)]
struct Reserved;
