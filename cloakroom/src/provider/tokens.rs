//! Tokens that are the records themselves, for a provider that stores nothing.
//!
//! A token is a record, sealed and encoded as base64url. It is the value of the session cookie, so its length is limited by the
//! cookie's.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MAX_ID_LEN, RandomSource, SessionId, StoreKey, are_base64url, system_random};
use crate::record::Record;
use crate::seal::{self, Context, KeyRing, Unopened};

/// The version of what a token is bound to.
const VERSION: u8 = 1;

/// Seals records into tokens and opens them, for a provider whose token is the record: see
/// [`Capabilities::with_tokens`](crate::providers::Capabilities::with_tokens). A clone shares all of it.
///
/// A token is bound to the cookie's name and to the namespace. The manager that is built on the provider sets both, before the
/// first request. Until then no token opens.
///
/// ```
/// use cloakroom::KeyRing;
/// use cloakroom::providers::SealedTokens;
/// use cloakroom::seal::SealKey;
///
/// let tokens = SealedTokens::new(KeyRing::new(SealKey::generate()?)).with_label("admin");
/// assert!(tokens.open(&"not-a-token".parse()?).is_none());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct SealedTokens(Arc<Shared>);

/// The parts of [`SealedTokens`] that all clones share: the provider seals and opens with the same ones as the engine.
struct Shared {
    ring: KeyRing,
    /// A text that separates this provider's tokens from others; usually empty.
    label: Box<str>,
    /// The longest time that a token which was not renewed is accepted, if the record allows longer.
    max_age: Option<Duration>,
    random: RandomSource,
    bound: OnceLock<Bound>,
}

/// The settings of the manager to which the tokens are bound. A token of another cookie or namespace does not open, even under the same
/// key.
struct Bound {
    name: Box<str>,
    namespace: Box<str>,
    context: Context,
    /// The maximum length of a token in characters.
    most: usize,
    #[allow(dead_code, reason = "the cookie provider asks for it, and it is a feature")]
    longest_request: Duration,
    #[allow(dead_code, reason = "the cookie provider asks for it, and it is a feature")]
    idle_timeout: Duration,
}

impl SealedTokens {
    /// The maximum length in bytes of a cookie's name and value together that browsers accept (RFC 6265bis, section 5.6).
    pub(crate) const MAX_COOKIE: usize = 4096;

    /// Fixes what the tokens are bound to: once, since a token of one cookie must be nothing to another.
    pub(crate) fn bind(&self, config: &Config) -> Result<()> {
        let (shared, name, namespace) = (&self.0, config.cookie().name(), config.namespace());
        let bound = shared.bound.get_or_init(|| Bound {
            name: name.into(),
            namespace: namespace.into(),
            context: Context::new("cookie", VERSION)
                .with(name.as_bytes())
                .with(namespace.as_bytes())
                .with(shared.label.as_bytes()),
            most: Self::MAX_COOKIE - name.len(),
            longest_request: config.longest_request,
            idle_timeout: config.idle_timeout,
        });
        if &*bound.name == name && &*bound.namespace == namespace {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Config, TokenError::Bound))
        }
    }

    /// Returns the longest time that a token which was not renewed is accepted; `None`: as long as its record says.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.0.max_age
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.0.ring
    }

    /// Returns the most bytes of data that a session without a user has room for, its id being one of the builder's.
    pub(crate) fn room(&self) -> usize {
        let most = self.0.bound.get().map_or(0, |bound| bytes_of(bound.most));
        most.saturating_sub(seal::OVERHEAD + Record::HEADER + 3 + 43)
    }

    /// Returns true if `token` has the length and the alphabet of one. The seal is not checked.
    pub(crate) fn recognises(&self, token: &[u8]) -> bool {
        let longest = self.0.bound.get().map_or(0, |bound| bound.most);
        (text_len(seal::OVERHEAD + Record::HEADER)..=longest).contains(&token.len()) && are_base64url(token)
    }

    fn check_len(&self, found: usize) -> Result<()> {
        let most = self.0.bound.get().map_or(0, |bound| bound.most);
        if found <= most {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::TooLarge, TokenError::Long { most, found }))
        }
    }

    /// Returns the token of the session `id`, with its whole record inside.
    pub(crate) fn seal(&self, id: &SessionId, record: &Record) -> Result<Vec<u8>> {
        let Some(bound) = self.0.bound.get() else {
            return Err(Error::new(ErrorKind::Config, TokenError::Unbound));
        };
        let record = record.with_id(id);
        let sealed = self.0.ring.seal(&bound.context, record.as_bytes(), self.0.random)?;
        let token = BASE64URL_NOPAD.encode(&sealed).into_bytes();
        self.check_len(token.len())?;
        Ok(token)
    }
}

#[allow(dead_code, reason = "the cookie provider calls these, and it is a feature")]
impl SealedTokens {
    /// The largest record in bytes that fits with the longest cookie name (128 characters) and the longest id.
    pub(crate) const MAX_RECORD: usize = bytes_of(Self::MAX_COOKIE - 128) - seal::OVERHEAD - Self::ID_ROOM;

    /// The maximum length of an id in a record: tag, length and text.
    const ID_ROOM: usize = 3 + MAX_ID_LEN;

    pub(crate) fn with(ring: KeyRing, label: &str, max_age: Option<Duration>, random: RandomSource) -> Self {
        let (label, bound) = (label.into(), OnceLock::new());
        SealedTokens(Arc::new(Shared { ring, label, max_age, random, bound }))
    }
}

impl SealedTokens {
    /// Returns tokens that `ring` seals, and that are accepted until their records expire.
    ///
    /// A provider hands them to [`Capabilities::with_tokens`](crate::providers::Capabilities::with_tokens). The manager then binds them to its
    /// cookie name and namespace.
    ///
    /// ```
    /// use cloakroom::{KeyRing, providers::{Capabilities, SealedTokens}, seal::SealKey};
    ///
    /// let tokens = SealedTokens::new(KeyRing::new(SealKey::generate()?));
    /// assert!(tokens.open(&"forged".parse()?).is_none());
    /// assert!(Capabilities::new("own cookie").with_tokens(tokens).token_is_record());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new(ring: KeyRing) -> Self {
        SealedTokens::with(ring, "", None, system_random)
    }

    /// Separates these tokens from others with the same cookie name, namespace and key. Call it before a manager is built.
    pub fn with_label(self, label: &str) -> Self {
        SealedTokens::with(self.0.ring.clone(), label, self.0.max_age, self.0.random)
    }

    /// Sets the longest time that a token which was not renewed is accepted. The manager renews the token of a session in use in time.
    /// Call it before a manager is built.
    pub fn with_max_age(self, age: Duration) -> Self {
        SealedTokens::with(self.0.ring.clone(), &self.0.label, Some(age), self.0.random)
    }

    /// Returns the idle timeout of the manager's policy; zero before there is a manager.
    pub fn idle_timeout(&self) -> Duration {
        self.0.bound.get().map_or(Duration::ZERO, |bound| bound.idle_timeout)
    }

    /// Returns the namespace that the tokens are bound to; empty before there is a manager.
    pub fn namespace(&self) -> &str {
        self.0.bound.get().map_or("", |bound| &bound.namespace)
    }

    /// Returns the time for which a request may still run after its session ended; zero before there is a manager.
    pub fn longest_request(&self) -> Duration {
        self.0.bound.get().map_or(Duration::ZERO, |bound| bound.longest_request)
    }

    /// Checks that the token of the session `id` fits into the cookie with this `record`. A provider calls it before it accepts a
    /// change.
    ///
    /// # Errors
    /// - [`ErrorKind::TooLarge`] if name and token would be longer than the 4,096 bytes that browsers accept
    /// - [`ErrorKind::Value`] if `id` is not a session's id
    pub fn fits(&self, id: &StoreKey, record: &Record) -> Result<()> {
        let id = id.as_str().parse()?;
        self.check_len(text_len(seal::OVERHEAD + record.with_id(&id).as_bytes().len()))
    }

    /// Returns the record in `token`, or `None` if no key of the ring has sealed it for this cookie and namespace.
    ///
    /// Nothing of the token is read before its seal is checked. The caller checks whether the record has expired.
    ///
    /// ```
    /// use cloakroom::KeyRing;
    /// use cloakroom::providers::{Record, SealedTokens, StoreKey};
    /// use cloakroom::seal::SealKey;
    /// use std::time::SystemTime;
    ///
    /// fn load(tokens: &SealedTokens, token: &StoreKey) -> Option<Record> {
    ///     tokens.open(token).filter(|record| !record.is_expired(SystemTime::now()))
    /// }
    ///
    /// let tokens = SealedTokens::new(KeyRing::new(SealKey::generate()?));
    /// assert!(load(&tokens, &"forged".parse()?).is_none());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn open(&self, token: &StoreKey) -> Option<Record> {
        let token = token.as_bytes();
        let bound = self.0.bound.get()?;
        if !self.recognises(token) {
            return None;
        }
        let sealed = BASE64URL_NOPAD.decode(token).ok()?;
        match self.0.ring.open(&bound.context, &sealed) {
            Ok(record) => {
                let record = Record::from_bytes(&record).ok()?;
                record.token_id().is_some().then_some(record)
            }
            Err(Unopened::UnknownKey) => {
                tracing::debug!("a cookie was sealed by a key that the ring does not hold");
                None
            }
            Err(Unopened::Forged) => {
                tracing::debug!("a cookie of the session's name is none that was sealed for it");
                None
            }
        }
    }
}

/// Returns the bytes that `chars` characters of base64url hold.
const fn bytes_of(chars: usize) -> usize {
    chars * 3 / 4
}

/// Returns the characters that `bytes` bytes take in base64url.
const fn text_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

impl PartialEq for SealedTokens {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SealedTokens {}

impl fmt::Debug for SealedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealedTokens").field(&self.0.ring).finish()
    }
}

#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(
        "expected a session of at most {most} characters in its cookie, found {found}; keep less in it, or keep it in a store"
    )]
    Long { most: usize, found: usize },
    #[error(
        "one cookie provider serves one cookie name and one namespace, and another manager has bound it already; make one for each"
    )]
    Bound,
    #[error("the cookie provider has no manager yet, and so no cookie to seal for")]
    Unbound,
}
