//! A sealing key: its sources, the keys that are refused, and its id.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::XChaCha20Poly1305;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::weak::{Weakness, weakness};
use crate::error::{Error, ErrorKind, Result};
use crate::id::system_random;

/// A secret key for sealing, of at least 32 random bytes.
///
/// It is read from [bytes](Self::from_bytes), or parsed from their base64 in any form, or from their hex. Short keys, keys that
/// repeat themselves, and keys from documentation are refused. `Debug` shows only its [`KeyId`]. The memory of the key is wiped
/// when it is dropped.
///
/// ```
/// use cloakroom::seal::SealKey;
///
/// # let secret = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8c93";
/// let key: SealKey = secret.parse()?;
/// assert_eq!(key.id(), secret.to_uppercase().parse::<SealKey>()?.id());
/// assert!("correct horse battery staple".parse::<SealKey>().is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct SealKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl SealKey {
    /// The minimum length of a key in bytes.
    pub const MIN_LEN: usize = 32;

    /// Returns the key of these random bytes. There must be at least 32.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, seal::SealKey};
    ///
    /// assert_eq!(SealKey::from_bytes(b"secret").unwrap_err().kind(), ErrorKind::Config);
    /// assert_eq!(SealKey::from_bytes(&[7; 32]).unwrap_err().kind(), ErrorKind::Config, "it repeats one byte");
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a key that is short, repeats itself or is widely known.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < Self::MIN_LEN {
            return Err(Error::new(ErrorKind::Config, KeyError::Short { found: bytes.len() }));
        }
        if let Some(weakness) = weakness(bytes) {
            return Err(Error::new(ErrorKind::Config, KeyError::Weak { weakness }));
        }
        let key = derived(b"cloakroom/seal-key/1", bytes);
        // The id depends on the name of the algorithm, so one id always means one algorithm.
        let id = derived(b"cloakroom/seal-key-id/1/XChaCha20-Poly1305", bytes);
        let mut name = [0; KeyId::LEN];
        name.copy_from_slice(&id[..KeyId::LEN]);
        Ok(SealKey { id: KeyId(name), cipher: XChaCha20Poly1305::new((&*key).into()) })
    }

    /// Returns a new random key. It is for tests, and for keys that one process gives to others.
    ///
    /// Data that the key sealed cannot be read after the key is lost. `openssl rand -base64 32` prints a key for a configuration
    /// file.
    ///
    /// ```
    /// use cloakroom::seal::SealKey;
    ///
    /// assert_ne!(SealKey::generate()?.id(), SealKey::generate()?.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Random`] if the system gives no random bytes.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        system_random(&mut bytes[..]).map_err(|cause| Error::new(ErrorKind::Random, cause))?;
        SealKey::from_bytes(&bytes[..])
    }

    /// Returns the id of the key, which sealed data contains.
    ///
    /// It reveals nothing of the key, so it may be logged and compared between servers.
    ///
    /// ```
    /// use cloakroom::seal::SealKey;
    ///
    /// let text = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8c93";
    /// let (here, there): (SealKey, SealKey) = (text.parse()?, text.to_uppercase().parse()?);
    /// assert_eq!(here.id(), there.id());
    /// assert_ne!(here.id(), SealKey::generate()?.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn cipher(&self) -> &XChaCha20Poly1305 {
        &self.cipher
    }
}

/// Derives a key for one purpose. The secret itself is never used directly, so that using it elsewhere, too, is safe.
fn derived(label: &[u8], bytes: &[u8]) -> Zeroizing<[u8; 32]> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(bytes).expect("an HMAC takes a key of any length");
    Zeroizing::new(mac.chain_update(label).finalize().into_bytes().into())
}

impl FromStr for SealKey {
    type Err = Error;

    /// Parses hex, or base64 with either alphabet, with or without padding. A text of only hex digits is hex.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for anything else, and for a weak key.
    fn from_str(text: &str) -> Result<Self> {
        // Some widely known keys are valid hex or base64.
        if weakness(text.as_bytes()) == Some(Weakness::Known) {
            return Err(Error::new(ErrorKind::Config, KeyError::Weak { weakness: Weakness::Known }));
        }
        let decoded = if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
        } else {
            let forms = [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD];
            forms.iter().find_map(|form| form.decode(text.as_bytes()).ok())
        };
        match decoded.map(Zeroizing::new) {
            Some(bytes) => SealKey::from_bytes(&bytes),
            None => Err(Error::new(ErrorKind::Config, KeyError::Text { found: text.len() })),
        }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

/// The id of a key: 64 bits that reveal nothing about the key. `Display` shows 16 hex characters.
///
/// ```
/// use cloakroom::seal::{KeyId, SealKey};
///
/// let id = SealKey::generate()?.id();
/// assert_eq!(id.to_string().parse::<KeyId>()?, id);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KeyId::LEN]);

impl KeyId {
    pub(super) const LEN: usize = 8;

    pub(super) fn as_bytes(&self) -> &[u8; KeyId::LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(KeyId).ok_or_else(|| Error::new(ErrorKind::Value, KeyError::Id { found: text.len() }))
    }
}

#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("expected a sealing key of at least {min} random bytes, found {found}; `openssl rand -base64 32` makes one", min = SealKey::MIN_LEN)]
    Short { found: usize },
    #[error("{weakness}; `openssl rand -base64 32` makes a random one")]
    Weak { weakness: Weakness },
    #[error(
        "expected a sealing key in base64 or hex, as `openssl rand -base64 32` prints one, found {found} other characters"
    )]
    Text { found: usize },
    #[error("expected a key id of 16 lower-case hex characters, found {found} other characters")]
    Id { found: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff";

    fn error(text: &str) -> String {
        let error = text.parse::<SealKey>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn one_key_has_one_id_in_every_text_form() {
        let bytes = HEXLOWER.decode(HEX.as_bytes()).unwrap();
        let id = SealKey::from_bytes(&bytes).unwrap().id();
        for text in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            BASE64.encode(&bytes),
            BASE64_NOPAD.encode(&bytes),
            BASE64URL.encode(&bytes),
            BASE64URL_NOPAD.encode(&bytes),
        ] {
            assert_eq!(text.parse::<SealKey>().unwrap().id(), id);
        }
        let mut other = bytes;
        other[31] ^= 1;
        assert_ne!(SealKey::from_bytes(&other).unwrap().id(), id);
    }

    #[test]
    fn an_id_is_the_documented_hmac() {
        // printf 'cloakroom/seal-key-id/1/XChaCha20-Poly1305' | openssl dgst -sha256 -mac HMAC -macopt hexkey:2f8c...
        assert_eq!(HEX.parse::<SealKey>().unwrap().id().to_string(), "ba6b34aa3555477f");
    }

    #[test]
    fn short_repeating_and_widely_known_keys_are_refused() {
        assert!(error(&HEX[..62]).contains("at least 32 random bytes, found 31"));
        assert!(error(&BASE64.encode(&[7; 31])).contains("at least 32 random bytes, found 31"));
        for repeated in [vec![0; 32], vec![0xff; 64], b"secret".repeat(8), b"0123456789abcdef".repeat(2)] {
            assert!(error(&BASE64.encode(&repeated)).contains("repeats itself"), "{repeated:?}");
            assert!(SealKey::from_bytes(&repeated).unwrap_err().to_string().contains("repeats itself"));
        }
        let counted: Vec<u8> = (0..32).collect();
        assert!(error(&HEXLOWER.encode(&counted)).contains("counts up"));
        for known in [
            "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
            "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
        ] {
            assert!(error(known).contains("widely known"), "{known}");
            assert!(error(&BASE64.encode(known.as_bytes())).contains("widely known"), "{known}");
        }
        assert!(error("correct horse battery staple, said thrice").contains("in base64 or hex"));
        assert!(error("").contains("at least 32 random bytes, found 0"));
    }

    #[test]
    fn debug_display_and_errors_hide_the_key() {
        let key: SealKey = HEX.parse().unwrap();
        let shown = format!("{key:?} {:?} {}", key.id(), key.id());
        for start in 0..HEX.len() - 6 {
            assert!(!shown.contains(&HEX[start..start + 6]));
        }
        let text = "hunter2hunter3hunter4!hunter5hunter6hunter7";
        assert!(!error(text).contains("hunter"));
    }
}
