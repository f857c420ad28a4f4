//! Session ids and store keys.
//!
//! The client sends an id, and the store is asked for a key. [`IdMaker`] makes ids from the operating system's random bytes, and
//! recognizes their form in a request, so that other text causes no I/O. [`Keying`] derives the key: the SHA-256 of namespace and
//! id for a persistent store, or the id itself.

mod key;
mod make;
mod text;

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use self::text::Text;
use crate::error::{Error, ErrorKind, Result};

pub(crate) use self::text::are_base64url;
pub(crate) use key::{Keying, Named};
pub use make::HashFunc;
pub(crate) use make::{IdMaker, RandomSource, system_random};

/// The maximum length of an id in characters, its prefix included.
pub(crate) const MAX_ID_LEN: usize = 160;

/// The secret id of a session, which the client presents in its cookie.
///
/// Anyone who knows it can act as the visitor. It is formed from at least 32 random bytes of the operating system. `Debug`
/// hides the text; only [`expose`](Self::expose) returns it.
///
/// ```
/// use cloakroom::SessionId;
///
/// let id: SessionId = "4964887021784b5975bc56b27a0a5b6bd10d7cbb".parse()?;
/// assert_eq!(format!("{id:?}"), "SessionId(40 characters)");
/// assert_eq!(id.expose().len(), 40);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[doc(alias = "sid")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Text);

impl SessionId {
    /// Wraps a text that was checked or created as an id.
    fn of(text: &[u8]) -> Self {
        SessionId(Text::new(text, b""))
    }

    /// Returns the id itself. Never log it: anyone who reads it can act as the visitor. Logs use
    /// [`Session::id_hash`](crate::Session::id_hash).
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for SessionId {
    type Err = Error;

    /// Parses 2 to 160 characters of `A-Z a-z 0-9 - _`.
    ///
    /// The manager checks its own form, and the store whether the session exists, when the id is used. Other text is an
    /// error of kind [`Value`](ErrorKind::Value).
    fn from_str(text: &str) -> Result<Self> {
        let fits = (2..=MAX_ID_LEN).contains(&text.len()) && are_base64url(text.as_bytes());
        if !fits {
            return Err(Error::new(ErrorKind::Value, IdError::Form { found: text.len() }));
        }
        Ok(SessionId(Text::new(text.as_bytes(), b"")))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({} characters)", self.expose().len())
    }
}

/// The key under which a provider stores a session, derived from the session id and the manager's namespace.
///
/// It has 2 to 192 characters of `A-Z a-z 0-9 - _`, so it is safe as a file name or in a database key. For persistent
/// providers it is the SHA-256 of namespace and id in hex (64 characters), so a stolen store contains no usable ids. If a
/// configuration stores plain ids, it is the id itself. So `Debug` hides it.
///
/// ```
/// use cloakroom::providers::StoreKey;
///
/// let key: StoreKey = "0f3b".parse()?;
/// assert_eq!(key.as_str(), "0f3b");
/// assert!("../0f3b".parse::<StoreKey>().is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey(Text);

impl StoreKey {
    /// Wraps a text that was checked or derived as a key.
    fn of(text: Text) -> Self {
        StoreKey(text)
    }

    /// The maximum length of a key in characters.
    pub const MAX_LEN: usize = 192;

    /// Returns the key that a [`Manager`](crate::Manager) of `namespace` derives from `id` for a persistent provider.
    ///
    /// It is the SHA-256, in lower-case hex, of `cloakroom/key/1`, a NUL, the namespace, a NUL, and the text of the id.
    ///
    /// ```
    /// use cloakroom::providers::StoreKey;
    ///
    /// // printf 'cloakroom/key/1\0shop\0abcd' | sha256sum
    /// let key = StoreKey::derive("shop", &"abcd".parse()?);
    /// assert_eq!(key.as_str(), "c34860c604f32ade51f88c056fe9db6143a40486eeb6bc2693cc46f1c89b492e");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn derive(namespace: &str, id: &SessionId) -> StoreKey {
        Keying::hashed_key(namespace, id.expose().as_bytes())
    }

    /// Returns the text of the key.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the text of the key as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns a public name for this session, such as for a user's list of devices.
    ///
    /// It has 22 characters, and reveals neither the key nor the id.
    ///
    /// ```
    /// use cloakroom::providers::StoreKey;
    ///
    /// let key: StoreKey = "0f3b".parse()?;
    /// assert_eq!(key.handle().len(), 22);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn handle(&self) -> String {
        let digest = Sha256::new().chain_update(b"cloakroom/handle\0").chain_update(self.as_str()).finalize();
        BASE64URL_NOPAD.encode(&digest[..16])
    }
}

impl FromStr for StoreKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (2..=Self::MAX_LEN).contains(&text.len()) && are_base64url(text.as_bytes());
        if !fits {
            return Err(Error::new(ErrorKind::Value, IdError::Key { found: text.len() }));
        }
        Ok(StoreKey(Text::new(text.as_bytes(), b"")))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey(#{})", &self.handle()[..8])
    }
}

#[derive(Debug, thiserror::Error)]
enum IdError {
    #[error(
        "expected a session id of 2 to {MAX_ID_LEN} characters of A-Z a-z 0-9 - _, found {found} other bytes"
    )]
    Form { found: usize },
    #[error("expected a store key of 2 to {max} characters of A-Z a-z 0-9 - _, found {found} other bytes", max = StoreKey::MAX_LEN)]
    Key { found: usize },
}
