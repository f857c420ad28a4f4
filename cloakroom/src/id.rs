//! Session ids and store keys: how they are made, checked and derived.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// The most characters an id may have, its prefix included.
pub(crate) const MAX_ID_LEN: usize = 160;

/// Random bytes behind every id; 32 is what SHA-256's output holds, twice what OWASP ASVS 7.2.3 asks for.
const ENTROPY: usize = 32;

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
/// use cloakroom::StoreKey;
///
/// let key: StoreKey = "0f3b".parse()?;
/// assert_eq!(key.as_str(), "0f3b");
/// assert!("../0f3b".parse::<StoreKey>().is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey(Text);

impl StoreKey {
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

/// How a manager turns ids into store keys.
#[derive(Clone, Debug)]
pub(crate) enum Keying {
    /// SHA-256 of namespace and id: for stores that outlive the process.
    Hashed { namespace: Box<str> },
    /// A short tag of the namespace before the id: for stores in this process's memory, which nobody steals.
    Tagged { tag: Box<str> },
    /// The id itself, as the seed documents it.
    Clear,
}

impl Keying {
    pub(crate) fn hashed(namespace: &str) -> Self {
        Keying::Hashed { namespace: namespace.into() }
    }

    pub(crate) fn tagged(namespace: &str) -> Self {
        let digest = Sha256::new().chain_update(b"cloakroom/namespace\0").chain_update(namespace).finalize();
        // 60 bits: namespaces are chosen by the application, never by a visitor.
        Keying::Tagged { tag: BASE64URL_NOPAD.encode(&digest[..8])[..10].into() }
    }

    /// The key of `id`, which is an id's text.
    #[inline]
    pub(crate) fn named(&self, id: &[u8]) -> Named {
        match self {
            Keying::Clear => Named { key: StoreKey(Text::new(id, b"")), id: IdText::EndOfKey(id.len()) },
            Keying::Tagged { tag } => {
                let key = StoreKey(Text::new(tag.as_bytes(), id));
                Named { key, id: IdText::EndOfKey(id.len()) }
            }
            Keying::Hashed { namespace } => Keying::hash(namespace, id),
        }
    }

    /// Apart from [`named`](Self::named), which is small without it.
    fn hash(namespace: &str, id: &[u8]) -> Named {
        // Neither a namespace nor an id holds a NUL, so no two pairs give the same input.
        let digest = Sha256::new()
            .chain_update(b"cloakroom/key/1\0")
            .chain_update(namespace.as_bytes())
            .chain_update(b"\0")
            .chain_update(id)
            .finalize();
        let mut hex = [0; 64];
        HEXLOWER.encode_mut(&digest, &mut hex);
        Named { key: StoreKey(Text::new(&hex, b"")), id: IdText::Apart(Box::from(id)) }
    }
}

/// A session's key, and the id that leads to it.
#[derive(Clone)]
pub(crate) struct Named {
    key: StoreKey,
    id: IdText,
}

/// Where an id's text stands: most keys in memory end with it, and copying it would cost every request.
#[derive(Clone)]
enum IdText {
    /// In as many bytes at the end of the key.
    EndOfKey(usize),
    Apart(Box<[u8]>),
}

impl Named {
    pub(crate) fn key(&self) -> &StoreKey {
        &self.key
    }

    pub(crate) fn id(&self) -> SessionId {
        SessionId(Text::new(self.id_bytes(), b""))
    }

    pub(crate) fn id_bytes(&self) -> &[u8] {
        match &self.id {
            IdText::EndOfKey(len) => &self.key.as_bytes()[self.key.as_bytes().len() - len..],
            IdText::Apart(id) => id,
        }
    }

    /// The same id, leading elsewhere.
    pub(crate) fn to(&self, key: StoreKey) -> Named {
        Named { key, id: IdText::Apart(self.id_bytes().into()) }
    }
}

/// The function that shapes an id. Each is fed at least 32 bytes of the operating system's generator.
///
/// ```
/// use cloakroom::HashFunc;
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
            Error::new(ErrorKind::Config, IdError::HashFunc { found: name.chars().take(40).collect() })
        })
    }
}

/// Fills a buffer with random bytes or says that it cannot.
pub(crate) type RandomSource = fn(&mut [u8]) -> std::io::Result<()>;

/// The operating system's generator, asked anew for every id: nothing to clone with a forked process or a virtual machine.
pub(crate) fn system_random(buffer: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(buffer).map_err(std::io::Error::from)
}

/// Makes ids of one shape and recognises those this manager has ever made.
#[derive(Clone)]
pub(crate) struct IdMaker {
    shape: Shape,
    key: Box<[u8]>,
    prefix: Box<str>,
    /// The functions in use since the start: changing the function logs nobody out.
    accepted: u8,
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
        self
    }

    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// From now on makes ids of `func`; the former kinds stay valid. A fixed length ends.
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
        Ok(SessionId(Text::new(self.write(&mut text)?, b"")))
    }

    /// Whether `token` has a length and an alphabet that this manager gives out. No I/O.
    #[inline]
    pub(crate) fn recognises(&self, token: &[u8]) -> bool {
        let Some(body) = token.strip_prefix(self.prefix.as_bytes()) else { return false };
        let known = |func: HashFunc| self.accepted & func.bit() != 0 && body.len() == func.id_len();
        if known(HashFunc::Random) {
            return are_base64url(body);
        }
        let length = known(HashFunc::Md5)
            || known(HashFunc::Sha1)
            || known(HashFunc::Sha256)
            || matches!(self.shape, Shape::Hex(bytes) if body.len() == 2 * bytes);
        length && body.iter().all(|&byte| is_lower_hex(byte))
    }

    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        (self.random)(buffer).map_err(|cause| Error::new(ErrorKind::Random, IdError::Random(cause)))
    }
}

impl fmt::Debug for IdMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdMaker").field("prefix", &self.prefix).finish_non_exhaustive()
    }
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

/// Whether all of `text` is of the alphabet `A-Z a-z 0-9 - _`. This runs over every cookie of ours that comes in, so it goes in
/// pieces of 16 bytes, which the compiler checks with a few vector instructions; the last piece overlaps the one before.
#[inline]
fn are_base64url(text: &[u8]) -> bool {
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & is_base64url(byte));
    match text.last_chunk::<16>() {
        Some(last) => text.as_chunks::<16>().0.iter().all(|piece| all(piece)) && all(last),
        None => all(text),
    }
}

fn is_base64url(byte: u8) -> bool {
    // In arithmetic, without a jump: upper and lower case differ in one bit.
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    letter | digit | (byte == b'-') | (byte == b'_')
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Short ASCII text without an allocation: 54 bytes hold the builder's ids and keys, and make the whole 56 bytes.
#[derive(Clone)]
enum Text {
    Inline { len: u8, bytes: [u8; Text::INLINE] },
    Heap(Box<[u8]>),
}

impl Text {
    const INLINE: usize = 54;

    /// The text of two parts, both ASCII: whoever calls has checked them or made them so.
    fn new(first: &[u8], second: &[u8]) -> Self {
        let len = first.len() + second.len();
        if len > Text::INLINE {
            return Text::Heap([first, second].concat().into());
        }
        let mut bytes = [0; Text::INLINE];
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..len].copy_from_slice(second);
        Text::Inline { len: len as u8, bytes }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Text::Heap(text) => text,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
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

    #[test]
    fn keys_separate_namespaces_even_where_one_is_a_prefix_of_the_other() {
        let id: SessionId = maker(HashFunc::Random).make().unwrap();
        for keying in [Keying::hashed, Keying::tagged] {
            let keys = ["", "prod", "prod2", "admin"]
                .map(|namespace| keying(namespace).named(id.expose().as_bytes()).key);
            for (place, key) in keys.iter().enumerate() {
                assert!(keys[place + 1..].iter().all(|other| other != key));
            }
        }
        assert_eq!(Keying::Clear.named(id.expose().as_bytes()).key.as_str(), id.expose());
    }

    #[test]
    fn a_hashed_key_is_the_documented_sha256() {
        // printf 'cloakroom/key/1\0shop\0abcd' | sha256sum
        let Named { key, .. } = Keying::hashed("shop").named(b"abcd");
        assert_eq!(key.as_str(), "c34860c604f32ade51f88c056fe9db6143a40486eeb6bc2693cc46f1c89b492e");
        assert_eq!(key.as_str().parse::<StoreKey>().unwrap(), key);
    }

    #[test]
    fn a_key_leads_back_to_the_id_it_was_made_from() {
        for keying in [Keying::hashed("shop"), Keying::tagged("shop"), Keying::Clear] {
            let named = keying.named(b"some-id");
            assert_eq!(named.id().expose(), "some-id");
            assert_eq!(named.to("other".parse().unwrap()).id().expose(), "some-id");
        }
    }

    #[test]
    fn nothing_that_prints_shows_the_secret() {
        let id = maker(HashFunc::Random).make().unwrap();
        let Named { key, .. } = Keying::Clear.named(id.expose().as_bytes());
        let shown = format!("{id:?} {key:?} {}", key.handle());
        for start in 0..id.expose().len() - 6 {
            assert!(!shown.contains(&id.expose()[start..start + 6]));
        }
    }
}
