//! How ids are made, and recognised when they come back.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::MAX_ID_LEN;
#[cfg(test)]
use super::SessionId;
use super::text::{are_base64url, is_lower_hex};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::fill_random;

/// Random bytes behind every id; 32 is what SHA-256's output holds, twice what OWASP ASVS 7.2.3 asks for.
const ENTROPY: usize = 32;

/// The function that shapes an id. Each is fed at least 32 bytes of the operating system's generator.
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
    /// 32 random bytes in base64url: 43 characters, 256 bits. The builder's default.
    Random,
    /// HMAC-MD5, 32 hex characters, 128 bits.
    Md5,
    /// HMAC-SHA1, 40 hex characters, 160 bits. The string door's default, as in the seed.
    Sha1,
    /// HMAC-SHA256, 64 hex characters, 256 bits.
    Sha256,
}

impl HashFunc {
    const ALL: [(&'static str, HashFunc); 4] = [
        ("random", HashFunc::Random),
        ("md5", HashFunc::Md5),
        ("sha1", HashFunc::Sha1),
        ("sha256", HashFunc::Sha256),
    ];

    fn id_len(self) -> usize {
        match self {
            HashFunc::Random => 43,
            HashFunc::Md5 => 32,
            HashFunc::Sha1 => 40,
            HashFunc::Sha256 => 64,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl FromStr for HashFunc {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = HashFunc::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, func)| *func).ok_or_else(|| {
            Error::new(ErrorKind::Config, MakeError::HashFunc { found: name.chars().take(40).collect() })
        })
    }
}

/// Fills a buffer with random bytes or says that it cannot.
pub(crate) type RandomSource = fn(&mut [u8]) -> std::io::Result<()>;

/// The operating system's generator, asked anew for every id: nothing to clone with a forked process or a virtual machine.
pub(crate) fn system_random(buffer: &mut [u8]) -> std::io::Result<()> {
    fill_random(buffer).map_err(std::io::Error::from)
}

/// Makes ids of one shape and recognises those this manager has ever made.
#[derive(Clone)]
pub(crate) struct IdMaker {
    shape: Shape,
    key: Box<[u8]>,
    prefix: Box<str>,
    /// The functions in use since the start: changing the function logs nobody out.
    accepted: u8,
    /// And the fixed length, in bytes of hex, if there was one.
    accepted_hex: Option<usize>,
    /// Whether the ids of Beego are valid, too, in every form that it gives them.
    accepts_beego: bool,
    random: RandomSource,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Function(HashFunc),
    /// Hex of this many bytes, as Beego 1.4.x and 2.x make their ids.
    Hex(usize),
}

impl IdMaker {
    /// An empty `key` means a random one for this process.
    pub(crate) fn new(func: HashFunc, key: &[u8], random: RandomSource) -> Result<Self> {
        let mut maker = IdMaker {
            shape: Shape::Function(func),
            key: key.into(),
            prefix: "".into(),
            accepted: func.bit(),
            accepted_hex: None,
            accepts_beego: false,
            random,
        };
        if key.is_empty() {
            let mut fresh = [0; ENTROPY];
            maker.fill(&mut fresh)?;
            maker.key = fresh.into();
        }
        Ok(maker)
    }

    /// Ids of the hex of `bytes` bytes instead of a function's output.
    pub(crate) fn with_hex_of(mut self, bytes: usize) -> Self {
        self.shape = Shape::Hex(bytes);
        self.accepted = 0;
        self.accepted_hex = Some(bytes);
        self
    }

    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Recognises the ids of Beego, too: hex of 16 bytes or more, behind the prefix if there is one, escaped as a URL's query is.
    pub(crate) fn with_those_of_beego(mut self) -> Self {
        self.accepts_beego = true;
        self
    }

    /// From now on makes ids of `func`; the former kinds stay valid.
    pub(crate) fn switch(&mut self, func: HashFunc, key: &[u8]) -> Result<()> {
        let fresh = IdMaker::new(func, key, self.random)?;
        self.key = fresh.key;
        self.accepted |= func.bit();
        self.shape = Shape::Function(func);
        Ok(())
    }

    /// Writes a fresh id into `text`, and gives the part of it that the id takes.
    pub(crate) fn write<'a>(&self, text: &'a mut [u8; MAX_ID_LEN]) -> Result<&'a [u8]> {
        let mut entropy = [0; 64];
        let needed = match self.shape {
            Shape::Hex(bytes) => bytes.max(ENTROPY),
            Shape::Function(_) => ENTROPY,
        };
        self.fill(&mut entropy[..needed])?;
        let (prefix, body) = text.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(self.prefix.as_bytes());
        let len = match self.shape {
            // The byte behind the entropy is zero and fills up the last group, whose last character holds none of it.
            Shape::Function(HashFunc::Random) => {
                base64url(&entropy[..ENTROPY + 1], &mut body[..44]);
                43
            }
            Shape::Function(HashFunc::Md5) => hex_of(&mac::<Hmac<Md5>>(&self.key, &entropy[..needed]), body),
            Shape::Function(HashFunc::Sha1) => {
                hex_of(&mac::<Hmac<Sha1>>(&self.key, &entropy[..needed]), body)
            }
            Shape::Function(HashFunc::Sha256) => {
                hex_of(&mac::<Hmac<Sha256>>(&self.key, &entropy[..needed]), body)
            }
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

    /// Whether `token` has a length and an alphabet that this manager gives out. No I/O.
    #[inline]
    pub(crate) fn recognises(&self, token: &[u8]) -> bool {
        let Some(body) = token.strip_prefix(self.prefix.as_bytes()) else { return false };
        if self.accepts_beego && is_of_beego(body) {
            return true;
        }
        let known = |func: HashFunc| self.accepted & func.bit() != 0 && body.len() == func.id_len();
        if known(HashFunc::Random) {
            return are_base64url(body);
        }
        let length = known(HashFunc::Md5)
            || known(HashFunc::Sha1)
            || known(HashFunc::Sha256)
            || self.accepted_hex.is_some_and(|bytes| body.len() == 2 * bytes);
        length && body.iter().all(|&byte| is_lower_hex(byte))
    }

    /// The id that an escaped `token` stands for, where such are valid: Go's `url.QueryUnescape`. In our ids nothing needs escaping.
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

    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        (self.random)(buffer).map_err(|cause| Error::new(ErrorKind::Random, MakeError::Random(cause)))
    }
}

impl fmt::Debug for IdMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdMaker").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Hex of `sessionIDLength` bytes (2.x), or of a hash (1.4).
fn is_of_beego(body: &[u8]) -> bool {
    matches!(body.len(), 32..=128)
        && body.len().is_multiple_of(2)
        && body.iter().all(|&byte| is_lower_hex(byte))
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> impl AsRef<[u8]> + use<M> {
    let mac = M::new_from_slice(key).expect("an HMAC takes a key of any length");
    mac.chain_update(message).finalize().into_bytes()
}

/// Base64url of whole groups of three bytes. By hand, since the general encoder takes twice as long for so few.
fn base64url(bytes: &[u8], text: &mut [u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for ([a, b, c], four) in bytes.as_chunks::<3>().0.iter().zip(text.as_chunks_mut::<4>().0) {
        let bits = u32::from_be_bytes([0, *a, *b, *c]);
        *four = [bits >> 18, bits >> 12, bits >> 6, bits].map(|bits| ALPHABET[bits as usize & 63]);
    }
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
    fn each_function_gives_its_length_and_alphabet() {
        for (name, func, len) in [
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
    fn a_hash_id_is_the_hmac_of_the_entropy() {
        let ones = |buffer: &mut [u8]| {
            buffer.fill(1);
            Ok(())
        };
        let id = |func| IdMaker::new(func, b"key", ones).unwrap().make().unwrap().expose().to_owned();
        // python3: hmac.new(b"key", b"\x01" * 32, "sha1").hexdigest(), and so on.
        assert_eq!(id(HashFunc::Sha1), "906f6b3933e78be91a22891c88da61c1029bafce");
        assert_eq!(id(HashFunc::Md5), "4f996ac280a4322ebd527a21ad3fac62");
        assert_eq!(id(HashFunc::Random), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
    }

    #[test]
    fn a_failing_generator_gives_an_error_and_never_an_id() {
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
        assert!(!sha1.recognises(&[b'A'; 40]), "upper-case hex is another text");
        assert!(!sha1.recognises(good), "not a form that this manager gives out");
    }

    #[test]
    fn switching_the_function_keeps_the_former_ids_valid() {
        let mut maker = maker(HashFunc::Sha1);
        let old = maker.make().unwrap();
        maker.switch(HashFunc::Sha256, b"").unwrap();
        assert_eq!(maker.make().unwrap().expose().len(), 64);
        assert!(maker.recognises(old.expose().as_bytes()));
        assert!(!maker.recognises(&[b'a'; 32]), "md5 was never in use");
        let mut fixed = IdMaker::new(HashFunc::Sha1, b"", system_random).unwrap().with_hex_of(24);
        let old = fixed.make().unwrap();
        fixed.switch(HashFunc::Random, b"").unwrap();
        assert!(fixed.recognises(old.expose().as_bytes()));
    }

    #[test]
    fn prefix_and_length_shape_an_id() {
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
