//! Creating ids, and recognizing them in requests.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
#[cfg(feature = "config-string")]
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::MAX_ID_LEN;
#[cfg(test)]
use super::SessionId;
use super::text::{are_base64url, is_lower_hex};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU8, Ordering, RwLock, fill_random};

/// The number of random bytes for each id: the output of SHA-256, and twice the 128 bits that OWASP ASVS 7.2.3 requires.
const ENTROPY: usize = 32;
/// The length of [`ENTROPY`] bytes in base64url, in characters.
const BASE64URL: usize = 43;

/// The function that forms an id out of at least 32 random bytes of the operating system.
///
/// The configuration key `sessionIDHashFunc` takes the names `random`, `md5`, `sha1` and `sha256`.
///
/// ```
/// use cloakroom::config::HashFunc;
///
/// assert_eq!("sha256".parse::<HashFunc>()?, HashFunc::Sha256);
/// assert!("crc32".parse::<HashFunc>().is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[doc(alias = "sessionIDHashFunc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashFunc {
    /// 32 random bytes in base64url: 43 characters, 256 bits. The default of the builder.
    Random,
    /// HMAC-MD5, 32 hex characters, 128 bits. It needs the feature `config-string`.
    #[cfg(feature = "config-string")]
    Md5,
    /// HMAC-SHA1, 40 hex characters, 160 bits. The default of the configuration string, as in Beego.
    Sha1,
    /// HMAC-SHA256, 64 hex characters, 256 bits.
    Sha256,
}

impl HashFunc {
    /// The functions, each with its name and the length of its ids in characters.
    const ALL: &[(&'static str, HashFunc, usize)] = &[
        ("random", HashFunc::Random, BASE64URL),
        #[cfg(feature = "config-string")]
        ("md5", HashFunc::Md5, 32),
        ("sha1", HashFunc::Sha1, 40),
        ("sha256", HashFunc::Sha256, 64),
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl FromStr for HashFunc {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = HashFunc::ALL.iter().find(|(known, ..)| *known == name);
        known.map(|(_, func, _)| *func).ok_or_else(|| {
            Error::new(ErrorKind::Config, MakeError::HashFunc { found: name.chars().take(40).collect() })
        })
    }
}

/// A function that fills a buffer with random bytes.
pub(crate) type RandomSource = fn(&mut [u8]) -> std::io::Result<()>;

/// Fills `buffer` from the generator of the operating system.
///
/// No state is kept in the process, so a forked process or a cloned virtual machine cannot repeat it.
pub(crate) fn system_random(buffer: &mut [u8]) -> std::io::Result<()> {
    fill_random(buffer).map_err(std::io::Error::from)
}

/// Creates ids of one form, and recognizes every form that this manager has used.
pub(crate) struct IdMaker {
    present: RwLock<PresentForm>,
    prefix: Box<str>,
    /// A bit for each function used since the start, so that a change of the function logs nobody out. It is no part of `present`, so
    /// that a request takes no lock.
    accepted: AtomicU8,
    /// The fixed length in bytes of hex, if one was set.
    accepted_hex: Option<usize>,
    /// True if ids in any form that Beego uses are accepted, too.
    accepts_beego: bool,
    random: RandomSource,
}

/// The form of new ids, which may change while the manager runs.
struct PresentForm {
    shape: Shape,
    /// The key of the function.
    key: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Function(HashFunc),
    /// Hex of this many bytes, as Beego 1.4 and 2.x create ids.
    Hex(usize),
}

impl IdMaker {
    /// Returns a maker of ids of `func`. An empty `key` is replaced by a random one.
    pub(crate) fn new(func: HashFunc, key: &[u8], random: RandomSource) -> Result<Self> {
        Ok(IdMaker {
            present: RwLock::new(PresentForm::new(func, key, random)?),
            prefix: "".into(),
            accepted: AtomicU8::new(func.bit()),
            accepted_hex: None,
            accepts_beego: false,
            random,
        })
    }

    /// Creates ids of `bytes` random bytes in hex, in place of a function's output.
    pub(crate) fn with_hex_of(mut self, bytes: usize) -> Self {
        self.present.write().shape = Shape::Hex(bytes);
        self.accepted = AtomicU8::new(0);
        self.accepted_hex = Some(bytes);
        self
    }

    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Accepts ids of Beego, too: hex of at least 16 bytes after the prefix, with URL query escapes.
    pub(crate) fn with_those_of_beego(mut self) -> Self {
        self.accepts_beego = true;
        self
    }

    /// Changes the function of new ids. Existing ids stay valid.
    pub(crate) fn switch(&self, func: HashFunc, key: &[u8]) -> Result<()> {
        let form = PresentForm::new(func, key, self.random)?;
        // The new ids are accepted before the first of them is made.
        self.accepted.fetch_or(func.bit(), Ordering::AcqRel);
        *self.present.write() = form;
        Ok(())
    }

    /// Writes a new id into `text`, and returns the part that it occupies.
    pub(crate) fn write<'a>(&self, text: &'a mut [u8; MAX_ID_LEN]) -> Result<&'a [u8]> {
        let mut entropy = [0; 64];
        let present = self.present.read();
        let needed = match present.shape {
            Shape::Hex(bytes) => bytes.max(ENTROPY),
            Shape::Function(HashFunc::Random) => BASE64URL,
            Shape::Function(_) => ENTROPY,
        };
        fill(self.random, &mut entropy[..needed])?;
        let (prefix, body) = text.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix.as_bytes());
        let key = &present.key;
        let len = match present.shape {
            Shape::Function(HashFunc::Random) => {
                // The last character of 256 bits in base64url has four of them.
                entropy[BASE64URL - 1] &= 0b11_1100;
                body[..BASE64URL].copy_from_slice(&entropy.map(base64url)[..BASE64URL]);
                BASE64URL
            }
            #[cfg(feature = "config-string")]
            Shape::Function(HashFunc::Md5) => hex_of(&mac::<Hmac<Md5>>(key, &entropy[..needed]), body),
            Shape::Function(HashFunc::Sha1) => hex_of(&mac::<Hmac<Sha1>>(key, &entropy[..needed]), body),
            Shape::Function(HashFunc::Sha256) => hex_of(&mac::<Hmac<Sha256>>(key, &entropy[..needed]), body),
            Shape::Hex(bytes) if bytes >= ENTROPY => hex_of(&entropy[..needed], body),
            Shape::Hex(bytes) => hex_of(&Sha256::digest(&entropy[..needed])[..bytes], body),
        };
        Ok(&text[..self.prefix.len() + len])
    }

    #[cfg(test)]
    fn make(&self) -> Result<SessionId> {
        let mut text = [0; MAX_ID_LEN];
        Ok(SessionId::of(self.write(&mut text)?))
    }

    /// Returns true if `token` has a length and an alphabet that this manager uses. It does no I/O.
    #[inline]
    pub(crate) fn recognises(&self, token: &[u8]) -> bool {
        let Some(body) = token.strip_prefix(self.prefix.as_bytes()) else { return false };
        if self.accepts_beego && is_of_beego(body) {
            return true;
        }
        let accepted = self.accepted.load(Ordering::Acquire);
        if accepted & HashFunc::Random.bit() != 0 && body.len() == BASE64URL {
            return are_base64url(body);
        }
        let of_func =
            |(_, func, len): &(_, HashFunc, usize)| accepted & func.bit() != 0 && body.len() == *len;
        let known = HashFunc::ALL.iter().any(of_func)
            || self.accepted_hex.is_some_and(|bytes| body.len() == 2 * bytes);
        known && body.iter().all(|&byte| is_lower_hex(byte))
    }

    /// Returns the id of an escaped `token`, as Go's `url.QueryUnescape` decodes it. Only Beego's ids may need escapes.
    pub(crate) fn unescaped(&self, token: &[u8]) -> Option<Vec<u8>> {
        if !self.accepts_beego || token.len() > 3 * MAX_ID_LEN {
            return None;
        }
        let mut id = Vec::with_capacity(token.len());
        let mut rest = token;
        while let [first, tail @ ..] = rest {
            rest = tail;
            match (first, tail) {
                (b'%', [high, low, tail @ ..]) => {
                    let digit = |byte: &u8| char::from(*byte).to_digit(16);
                    id.push((digit(high)? << 4 | digit(low)?) as u8);
                    rest = tail;
                }
                (b'%', _) => return None,
                (b'+', _) => id.push(b' '),
                (plain, _) => id.push(*plain),
            }
        }
        Some(id).filter(|id| self.recognises(id))
    }
}

impl PresentForm {
    fn new(func: HashFunc, key: &[u8], random: RandomSource) -> Result<Self> {
        let mut form = PresentForm { shape: Shape::Function(func), key: key.into() };
        if key.is_empty() {
            let mut fresh = [0; ENTROPY];
            fill(random, &mut fresh)?;
            form.key = fresh.into();
        }
        Ok(form)
    }
}

fn fill(random: RandomSource, buffer: &mut [u8]) -> Result<()> {
    random(buffer).map_err(|cause| Error::new(ErrorKind::Random, MakeError::Random(cause)))
}

impl fmt::Debug for IdMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdMaker").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Returns true for hex of `sessionIDLength` bytes (Beego 2.x) or of a hash (1.4).
fn is_of_beego(body: &[u8]) -> bool {
    matches!(body.len(), 32..=128)
        && body.len().is_multiple_of(2)
        && body.iter().all(|&byte| is_lower_hex(byte))
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> impl AsRef<[u8]> + use<M> {
    let mac = M::new_from_slice(key).expect("an HMAC takes a key of any length");
    mac.chain_update(message).finalize().into_bytes()
}

/// Returns the character of base64url for the low six bits of a byte. Without a table, the compiler vectorizes it.
fn base64url(byte: u8) -> u8 {
    let bits = byte & 63;
    // The distances between the ranges A-Z, a-z, 0-9, - and _ in ASCII.
    let steps = [(26, 6_u8), (52, 181), (62, 243), (63, 49)];
    let from = |(first, step): (u8, u8)| if bits >= first { step } else { 0 };
    steps.into_iter().map(from).fold(bits + b'A', u8::wrapping_add)
}

fn hex_of(bytes: &(impl AsRef<[u8]> + ?Sized), text: &mut [u8]) -> usize {
    let bytes = bytes.as_ref();
    HEXLOWER.encode_mut(bytes, &mut text[..2 * bytes.len()]);
    2 * bytes.len()
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error("sessionIDHashFunc: expected sha1, md5, sha256 or random, found {found:?}")]
    HashFunc { found: String },
    #[error("the operating system's random generator failed; try again")]
    Random(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(func: HashFunc) -> IdMaker {
        IdMaker::new(func, b"", system_random).unwrap()
    }

    #[test]
    fn each_function_has_its_length_and_alphabet() {
        for (name, func, len) in [
            #[cfg(feature = "config-string")]
            ("md5", HashFunc::Md5, 32),
            ("sha1", HashFunc::Sha1, 40),
            ("sha256", HashFunc::Sha256, 64),
            ("random", HashFunc::Random, 43),
        ] {
            assert_eq!(name.parse::<HashFunc>().unwrap(), func);
            let maker = maker(func);
            let id = maker.make().unwrap();
            assert_eq!(id.expose().len(), len, "{name}");
            assert!(maker.recognises(id.expose().as_bytes()));
            assert_ne!(maker.make().unwrap(), id);
            let hex = id.expose().bytes().all(is_lower_hex);
            assert_eq!(hex, func != HashFunc::Random, "{name}");
        }
    }

    #[test]
    fn a_hash_id_is_the_hmac_of_the_random_bytes() {
        let ones = |buffer: &mut [u8]| {
            buffer.fill(1);
            Ok(())
        };
        let id = |func| IdMaker::new(func, b"key", ones).unwrap().make().unwrap().expose().to_owned();
        // python3: hmac.new(b"key", b"\x01" * 32, "sha1").hexdigest(), and so on.
        assert_eq!(id(HashFunc::Sha1), "906f6b3933e78be91a22891c88da61c1029bafce");
        #[cfg(feature = "config-string")]
        assert_eq!(id(HashFunc::Md5), "4f996ac280a4322ebd527a21ad3fac62");
        assert_eq!(id(HashFunc::Random), "B".repeat(42) + "A");
    }

    #[test]
    fn a_random_id_is_base64url_of_32_bytes() {
        let alphabet: Vec<u8> = (0..64).map(base64url).collect();
        assert_eq!(alphabet, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
        for _ in 0..1_000 {
            let id = maker(HashFunc::Random).make().unwrap();
            let bytes = data_encoding::BASE64URL_NOPAD.decode(id.expose().as_bytes()).unwrap();
            assert_eq!(bytes.len(), ENTROPY);
        }
    }

    #[test]
    fn a_failing_generator_is_an_error_and_never_an_id() {
        let fails = |_: &mut [u8]| Err(std::io::Error::other("no entropy"));
        assert_eq!(IdMaker::new(HashFunc::Sha1, b"", fails).unwrap_err().kind(), ErrorKind::Random);
        let maker = IdMaker::new(HashFunc::Sha1, b"given", fails).unwrap();
        assert_eq!(maker.make().unwrap_err().kind(), ErrorKind::Random);
    }

    #[test]
    fn only_the_exact_length_and_alphabet_is_recognised() {
        let random = maker(HashFunc::Random);
        let id = random.make().unwrap();
        let good = id.expose().as_bytes();
        for bad in [
            b"".to_vec(),
            b"x".to_vec(),
            b"../x".to_vec(),
            good[..42].to_vec(),
            [good, b"A"].concat(),
            [&good[..42], b"\0"].concat(),
            [&good[..42], b"="].concat(),
            [&good[..41], "é".as_bytes()].concat(),
            vec![b'A'; 1 << 20],
        ] {
            assert!(!random.recognises(&bad));
        }
        let sha1 = maker(HashFunc::Sha1);
        assert!(!sha1.recognises(&[b'A'; 40]), "upper-case hex is not an id");
        assert!(!sha1.recognises(good), "not a form of this manager");
    }

    #[test]
    fn a_change_of_the_function_keeps_existing_ids_valid() {
        let maker = maker(HashFunc::Sha1);
        let old = maker.make().unwrap();
        maker.switch(HashFunc::Sha256, b"").unwrap();
        assert_eq!(maker.make().unwrap().expose().len(), 64);
        assert!(maker.recognises(old.expose().as_bytes()));
        assert!(!maker.recognises(&[b'a'; 32]), "md5 was never in use");
        let fixed = IdMaker::new(HashFunc::Sha1, b"", system_random).unwrap().with_hex_of(24);
        let old = fixed.make().unwrap();
        fixed.switch(HashFunc::Random, b"").unwrap();
        assert!(fixed.recognises(old.expose().as_bytes()));
    }

    #[test]
    fn an_id_has_the_configured_prefix_and_length() {
        for bytes in [16, 20, 32, 48, 64] {
            let maker = maker(HashFunc::Sha1).with_hex_of(bytes).with_prefix("shop-");
            let id = maker.make().unwrap();
            assert_eq!(id.expose().len(), 5 + 2 * bytes);
            assert!(id.expose().starts_with("shop-"));
            assert!(maker.recognises(id.expose().as_bytes()));
            assert!(!maker.recognises(&id.expose().as_bytes()[5..]));
        }
    }
}
