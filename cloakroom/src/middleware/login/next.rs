//! `NextPath`: the way back after a login.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A path of this site, to which a visitor returns after a login.
///
/// It comes from a request, so anyone can have written it. A text that could lead to another site becomes `/`. A path is kept if it
///
/// - begins with one `/`, not with `//` or `/\`, which browsers take for another host,
/// - has no control characters, some of which browsers drop before they look,
/// - and has at most 2 KiB.
///
/// Characters that a URL does not have (RFC 3986, section 2.2), and the quotes, are percent-encoded. So the text fits into a `Location`
/// header, and between quotes in HTML.
///
/// ```
/// use cloakroom::middleware::NextPath;
///
/// assert_eq!(NextPath::new("/orders?page=2").as_str(), "/orders?page=2");
/// assert_eq!(NextPath::new("/bücher").as_str(), "/b%C3%BCcher");
/// for foreign in ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", ""] {
///     assert_eq!(NextPath::new(foreign).as_str(), "/");
/// }
/// ```
///
/// It can be read from a form or a query, and accepts a text of any content:
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Login {
///     user: String,
///     password: String,
///     #[serde(default)]
///     next: cloakroom::middleware::NextPath,
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPath(Box<str>);

impl NextPath {
    /// The most bytes of a path, 2 KiB. It is sent back and forth in the login page's address, and many servers accept 8 KiB of those.
    pub const MAX_LEN: usize = 2048;

    /// Returns `path`, or `/` if it may lead to another site.
    pub fn new(path: &str) -> Self {
        Self::parse(path).unwrap_or_default()
    }

    /// Returns `path`; `None` if it may lead to another site.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let begins_well = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\");
        if !begins_well || path.len() > Self::MAX_LEN || path.chars().any(char::is_control) {
            return None;
        }
        let mut encoded = String::with_capacity(path.len());
        encode(path, &mut encoded, |byte| byte.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&byte));
        (encoded.len() <= Self::MAX_LEN).then(|| NextPath(encoded.into()))
    }

    /// Returns the path, perhaps with a query. It has neither quotes nor blanks, and no character outside of ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NextPath {
    /// Returns `/`.
    fn default() -> Self {
        NextPath("/".into())
    }
}

impl fmt::Display for NextPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NextPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|path| NextPath::new(&path))
    }
}

/// Appends `text` to `encoded`, with every byte percent-encoded that `is_plain` refuses.
pub(super) fn encode(text: &str, encoded: &mut String, is_plain: impl Fn(u8) -> bool) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}
