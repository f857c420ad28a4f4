//! A label: a text of the application's own by which sessions are found.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// A text by which sessions are found, besides their user. The application chooses it, such as the issuer and session id of an
/// OpenID provider.
///
/// A record has at most [`MAX_COUNT`](Self::MAX_COUNT) labels. Providers index sessions by each of them: see
/// [`Provider::indexed`](crate::Provider::indexed). A label is any text of 1 to 256 bytes. `Debug` hides it.
///
/// ```
/// use cloakroom::providers::Label;
///
/// let label = Label::new("https://id.example.com/ 08a5019c-17e1")?;
/// assert_eq!(label.as_str(), "https://id.example.com/ 08a5019c-17e1");
/// assert!(Label::new("").is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub(super) Arc<str>);

impl Label {
    /// The maximum length in bytes. A label becomes an index key, which databases limit.
    pub const MAX_LEN: usize = 256;

    /// The maximum number of labels of one record.
    pub const MAX_COUNT: usize = 8;

    /// Returns the label with this text. Use a digest of a longer text.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, providers::Label};
    ///
    /// let label = Label::new("sid 08a5019c-17e1")?;
    /// assert_eq!(label.as_str(), "sid 08a5019c-17e1");
    /// assert_eq!(Label::new("x".repeat(257)).unwrap_err().kind(), ErrorKind::Value);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`] for a text that is empty or longer than 256 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if (1..=Self::MAX_LEN).contains(&text.len()) {
            Ok(Label(text.into()))
        } else {
            Err(Error::new(ErrorKind::Value, LabelError { found: text.len() }))
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({} bytes)", self.0.len())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected a label of 1 to {max} bytes, found {found}; use a digest of a longer text", max = Label::MAX_LEN)]
struct LabelError {
    found: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_1_to_256_bytes() {
        assert_eq!(Label::new("").unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Label::new("x".repeat(257)).unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(Label::new("x".repeat(256)).unwrap().as_str().len(), 256);
    }
}
