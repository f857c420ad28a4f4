//! The cookies of the `cookie` crate: plain, signed and private, as the old libraries send them.

use std::borrow::Cow;
use std::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::COOKIE;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cookie::each_token;
use crate::error::{Error, ErrorKind, Result};

/// The longest cookie value that is looked at, in bytes. Browsers keep 4,096, and percent-encoding makes three of one.
const LONGEST: usize = 16 * 1024;
/// The length of an HMAC-SHA256 in base64.
const DIGEST: usize = 44;
const NONCE: usize = 12;

/// The key of the old application's cookies: `cookie::Key`, which tower-sessions, actix-web and axum_session use.
///
/// `Debug` does not show it, and its memory is cleared when it is dropped.
///
/// ```
/// use cloakroom::migration::CookieKey;
///
/// let secret = [7; 64];
/// let key = CookieKey::from_bytes(&secret)?;
/// assert_eq!(format!("{key:?}"), "CookieKey");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct CookieKey(Zeroizing<[u8; 64]>);

impl CookieKey {
    /// Returns the key of `cookie::Key::from`: the first 64 of these bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for fewer bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes.first_chunk::<64>() {
            Some(key) => Ok(CookieKey(Zeroizing::new(*key))),
            None => Err(Error::new(ErrorKind::Config, OldKeyError { least: 64, found: bytes.len() })),
        }
    }

    /// Returns the key of `cookie::Key::derive_from`: HKDF-SHA256 of a master key of 32 bytes or more.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for fewer bytes.
    pub fn derive_from(master: &[u8]) -> Result<Self> {
        const INFO: &[u8] = b"COOKIE;SIGNED:HMAC-SHA256;PRIVATE:AEAD-AES-256-GCM";
        if master.len() < 32 {
            return Err(Error::new(ErrorKind::Config, OldKeyError { least: 32, found: master.len() }));
        }
        let mut key = Zeroizing::new([0; 64]);
        // HKDF-Expand (RFC 5869, section 2.3), with the master key as the pseudorandom key.
        let mut former: Zeroizing<Vec<u8>> = Zeroizing::default();
        for (counter, block) in (1_u8..).zip(key.chunks_mut(32)) {
            let mac = mac_of(master).chain_update(&*former).chain_update(INFO).chain_update([counter]);
            former = Zeroizing::new(mac.finalize().into_bytes().to_vec());
            block.copy_from_slice(&former);
        }
        Ok(CookieKey(key))
    }

    fn signing(&self) -> &[u8] {
        &self.0[..32]
    }

    fn encryption(&self) -> &[u8] {
        &self.0[32..]
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey")
    }
}

/// The protection of the old cookie's value.
#[derive(Clone, Debug)]
pub(crate) enum OldSeal {
    #[cfg_attr(
        not(any(feature = "from-axum-session", feature = "from-tower-sessions")),
        allow(dead_code, reason = "actix-session has no such cookie")
    )]
    Plain,
    Signed(CookieKey),
    #[cfg_attr(
        not(any(feature = "from-actix-session", feature = "from-tower-sessions")),
        allow(dead_code, reason = "axum_session has no such cookie")
    )]
    Private(CookieKey),
}

impl OldSeal {
    /// Returns the text that the cookie `name` with this `value` protects; `None` if it is not the application's.
    ///
    /// `message` is signed behind the text.
    pub(crate) fn open(&self, name: &str, value: &[u8], message: &[u8]) -> Option<String> {
        if value.len() > LONGEST {
            return None;
        }
        let value = unescaped(value)?;
        match self {
            OldSeal::Plain => Some(value.into_owned()),
            OldSeal::Signed(key) => {
                let (digest, text) = value.split_at_checked(DIGEST)?;
                let digest = BASE64.decode(digest.as_bytes()).ok()?;
                let mac = mac_of(key.signing()).chain_update(text).chain_update(message);
                mac.verify_slice(&digest).ok()?;
                Some(text.to_owned())
            }
            OldSeal::Private(key) => decrypted(key, name.as_bytes(), &value),
        }
    }
}

/// Returns the text that was encrypted with AES-256-GCM, and bound to `context`: base64 of the nonce, the ciphertext and the tag.
pub(crate) fn decrypted(key: &CookieKey, context: &[u8], sealed: &str) -> Option<String> {
    let bytes = BASE64.decode(sealed.as_bytes()).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
    let cipher = Aes256Gcm::new_from_slice(key.encryption()).ok()?;
    let text = cipher.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: context }).ok()?;
    String::from_utf8(text).ok()
}

/// Calls `take` with the value of every cookie called `name`.
pub(crate) fn each_value<'a>(headers: &'a HeaderMap, name: &str, take: impl FnMut(&'a [u8])) {
    each_token(headers.get_all(COOKIE), name.as_bytes(), take);
}

/// Decodes the percent-encoding of a value, if it has any. No base64 contains a percent sign.
pub(super) fn unescaped(value: &[u8]) -> Option<Cow<'_, str>> {
    if !value.contains(&b'%') {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    let (mut decoded, mut rest) = (Vec::with_capacity(value.len()), value);
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', Some(hex)) = (first, tail.first_chunk::<2>()) {
            let [byte] = data_encoding::HEXUPPER_PERMISSIVE.decode(hex).ok()?[..] else { return None };
            decoded.push(byte);
            rest = &tail[2..];
        } else {
            decoded.push(*first);
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn mac_of(key: &[u8]) -> Hmac<Sha256> {
    // HMAC accepts a key of any length.
    Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the key of the old cookies: expected {least} bytes or more, found {found}; take the key of the old application"
)]
struct OldKeyError {
    least: usize,
    found: usize,
}
