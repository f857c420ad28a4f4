//! Session ids and store keys.

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

/// The most characters an id may have, its prefix included.
pub(crate) const MAX_ID_LEN: usize = 160;

/// A session's secret name: what the client carries and nobody else may see.
///
/// Made from at least 32 bytes of the operating system's generator. `Debug` and `Display` hide it;
/// [`expose`](Self::expose) is the one way to the text.
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
    /// The id of a text that was checked, or made, as one.
    fn of(text: &[u8]) -> Self {
        SessionId(Text::new(text, b""))
    }

    /// The id itself. Whoever reads it can be the visitor: not for logs.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for SessionId {
    type Err = Error;

    /// Takes 2 to 160 characters of `A-Z a-z 0-9 - _`. Whether the manager makes such ids, and the store
    /// knows this one, is asked when it is used.
    fn from_str(text: &str) -> Result<Self> {
        let fits = (2..=MAX_ID_LEN).contains(&text.len()) && are_base64url(text.as_bytes());
        match fits {
            true => Ok(SessionId(Text::new(text.as_bytes(), b""))),
            false => Err(Error::new(ErrorKind::Value, IdError::Form { found: text.len() })),
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({} characters)", self.expose().len())
    }
}

/// What a provider is asked for: derived from the session id and the manager's namespace, as text.
///
/// 2 to 192 characters of `A-Z a-z 0-9 - _`, so that it is safe as a file name or a part of a key as it is. For providers that
/// persist it is the SHA-256 of namespace and id in hex (64 characters), so that a stolen store holds nothing that can
/// be used; where a configuration asks for clear ids it is the id itself, which is why `Debug` hides it.
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
    /// The key of a text that is one by construction.
    fn of(text: Text) -> Self {
        StoreKey(text)
    }

    /// The most characters a key has.
    pub const MAX_LEN: usize = 192;

    /// The key's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The key's text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// A name for this session that may be shown to its user, for a list of devices: 22 characters from which neither
    /// the key nor the id can be told.
    pub fn handle(&self) -> String {
        let digest = Sha256::new().chain_update(b"cloakroom/handle\0").chain_update(self.as_str()).finalize();
        BASE64URL_NOPAD.encode(&digest[..16])
    }
}

impl FromStr for StoreKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (2..=Self::MAX_LEN).contains(&text.len()) && are_base64url(text.as_bytes());
        match fits {
            true => Ok(StoreKey(Text::new(text.as_bytes(), b""))),
            false => Err(Error::new(ErrorKind::Value, IdError::Key { found: text.len() })),
        }
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
        "expected a session id of 2 to {MAX_ID_LEN} characters of A-Z a-z 0-9 - _, found {found} bytes that are not one"
    )]
    Form { found: usize },
    #[error("expected a store key of 2 to {max} characters of A-Z a-z 0-9 - _, found {found} bytes that are not one", max = StoreKey::MAX_LEN)]
    Key { found: usize },
}
