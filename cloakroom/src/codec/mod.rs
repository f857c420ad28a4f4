//! How a session's data is encoded: one map in one buffer, read and changed a key at a time.

#[cfg(feature = "beego")]
pub(crate) mod go;
#[cfg(feature = "beego")]
pub(crate) mod gob;
mod json;
mod message_pack;
#[cfg(feature = "beego")]
mod plain;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::error::{Error, ErrorKind, Result};

/// Where a record is put together: on the stack, unless it is large.
pub(crate) type Buffer = SmallVec<[u8; 512]>;

/// How a session's data is encoded.
///
/// Every record says which codec wrote it, so that a change of the setting leaves the stored sessions readable: they
/// keep theirs until they end.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, config::Codec};
///
/// let sessions = Manager::builder(MemoryProvider::new()).codec(Codec::JSON).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MessagePack,
    Json,
    #[cfg(feature = "beego")]
    Gob(gob::Envelope),
}

impl Codec {
    /// MessagePack, structs as maps by field name: small, quick, bytes stay bytes. The default.
    pub const MESSAGE_PACK: Codec = Codec(Kind::MessagePack);

    /// JSON text, for stores that are read by eye or by other programs. Bytes become arrays of numbers, not-a-number
    /// becomes null.
    pub const JSON: Codec = Codec(Kind::Json);

    /// Go's gob of a `map[interface{}]interface{}`, as Beego and gorilla/sessions store a session, and with the Go types that these expect.
    ///
    /// - Reading: integers of any width, structs by field name, `time.Time` as RFC 3339 text or a [`GoTime`](crate::go::GoTime), `[]byte` as bytes.
    ///   A struct's field that is zero in Go is the type's zero here, or `None`.
    /// - **A key that is there keeps its Go type** where the new value fits it: an `int64` stays that, a registered struct too, of which
    ///   the fields that the new value does not have stay as they are. What the width of a named type is, gob does not tell: a number is
    ///   then written as it is.
    /// - A new key, or one whose new value does not fit, gets `bool`, `string`, `float64`, `float32`, `int` (`uint64` past its range), `[]byte`,
    ///   `[]interface{}`, `map[string]interface{}` (of structs too), `map[int]interface{}`, or `time.Time` from a `GoTime`. To set a key to
    ///   `None` is to remove it.
    /// - What is not set goes back as it came, whatever its type. Keys that are no strings have the names that
    ///   [`go_key`](crate::go::go_key) gives.
    #[cfg(feature = "beego")]
    pub const GOB: Codec = Codec(Kind::Gob(gob::Envelope::Map));

    /// Go's gob of a `struct{Deadline time.Time; Values map[string]interface{}}`, as scs stores a session; otherwise as [`GOB`](Self::GOB).
    /// The deadline is carried along as it is.
    #[cfg(feature = "beego")]
    pub const SCS: Codec = Codec(Kind::Gob(gob::Envelope::Deadline));

    /// The number that stands for the codec in a stored record.
    pub(crate) fn tag(self) -> u8 {
        match self.0 {
            Kind::MessagePack => 1,
            Kind::Json => 2,
            #[cfg(feature = "beego")]
            Kind::Gob(gob::Envelope::Map) => 3,
            #[cfg(feature = "beego")]
            Kind::Gob(gob::Envelope::Deadline) => 4,
        }
    }

    pub(crate) fn from_tag(tag: u8) -> Option<Codec> {
        match tag {
            1 => Some(Codec::MESSAGE_PACK),
            2 => Some(Codec::JSON),
            #[cfg(feature = "beego")]
            3 => Some(Codec::GOB),
            #[cfg(feature = "beego")]
            4 => Some(Codec::SCS),
            _ => None,
        }
    }

    /// The change that puts `value` under `key`, checked against the limits that bind a value.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        self,
        key: &str,
        value: &T,
        limits: &Limits,
    ) -> Result<Change> {
        let mut change = Change::room_for(key);
        let start = change.bytes.len();
        let depth = match self.0 {
            Kind::MessagePack => message_pack::encode(value, &mut change.bytes),
            Kind::Json => json::encode(value, &mut change.bytes),
            #[cfg(feature = "beego")]
            Kind::Gob(envelope) => gob::encode(key, value, envelope, &mut change.bytes).map(|depth| {
                change.deletes = depth.is_none();
                depth.unwrap_or(0)
            }),
        }
        .map_err(|error| Error::new(ErrorKind::Value, error))?;
        limits.depth(depth)?;
        limits.bytes(change.bytes.len() - start)?;
        Ok(change)
    }

    /// The value that `bytes`, found under `key`, stand for.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        match self.0 {
            Kind::MessagePack => message_pack::decode(bytes),
            Kind::Json => json::decode(bytes),
            #[cfg(feature = "beego")]
            Kind::Gob(_) => gob::decode(bytes),
        }
        .map_err(|error| Error::new(ErrorKind::Value, error))
    }

    /// The encoded value under `key`.
    #[inline]
    pub(crate) fn find<'a>(self, data: &'a [u8], key: &str) -> Result<Option<Cow<'a, [u8]>>> {
        match self.0 {
            Kind::MessagePack => message_pack::find(data, key).map(|found| found.map(Cow::Borrowed)),
            Kind::Json => json::find(data, key).map(|found| found.map(Cow::Borrowed)),
            #[cfg(feature = "beego")]
            Kind::Gob(envelope) => {
                gob::find(data, key, envelope).map(|found| found.map(Cow::Owned)).map_err(MapError::Gob)
            }
        }
        .map_err(corrupt)
    }

    /// Whether a value that is a map is encoded as the data is, so that a member of it can be found and changed by itself.
    pub(crate) fn nests(self) -> bool {
        matches!(self.0, Kind::MessagePack | Kind::Json)
    }

    /// The encoded value under `key` of a map that [nests](Self::nests).
    pub(crate) fn member<'a>(self, map: &'a [u8], key: &str) -> Result<Option<&'a [u8]>> {
        match self.0 {
            Kind::MessagePack => message_pack::find(map, key).map_err(corrupt),
            Kind::Json => json::find(map, key).map_err(corrupt),
            #[cfg(feature = "beego")]
            Kind::Gob(_) => Ok(None),
        }
    }

    /// Every key, in the order of storage.
    pub(crate) fn keys(self, data: &[u8]) -> Result<Vec<String>> {
        self.entries(data)?.map(|entry| entry.map(|(name, _)| name.into_owned()).map_err(corrupt)).collect()
    }

    /// How many keys `data` says it has.
    pub(crate) fn count(self, data: &[u8]) -> Result<usize> {
        Ok(self.entries(data)?.len())
    }

    /// Walks all of `data` and answers whether it is one well-formed map, each key once.
    pub(crate) fn check(self, data: &[u8]) -> Result<()> {
        let keys = match self.0 {
            Kind::MessagePack => message_pack::check(data),
            Kind::Json => json::entries(data).map(|all| all.into_iter().map(|(key, _)| key).collect()),
            // In Go a key that stands again replaces the former one.
            #[cfg(feature = "beego")]
            Kind::Gob(envelope) => gob::keys(data, envelope).map(|_| Vec::new()).map_err(MapError::Gob),
        };
        let mut keys = keys.map_err(corrupt)?;
        keys.sort_unstable();
        match keys.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(corrupt(MapError::Repeated)),
            false => Ok(()),
        }
    }

    /// Whether two sessions in gob are equal in meaning. Of the other codecs, whether they are the same bytes.
    #[cfg(all(feature = "beego", feature = "testkit"))]
    pub(crate) fn same(self, one: &[u8], other: &[u8]) -> Result<bool> {
        match self.0 {
            Kind::Gob(envelope) => {
                gob::same(one, other, envelope).map_err(|error| corrupt(MapError::Gob(error)))
            }
            _ => Ok(one == other),
        }
    }

    /// Appends to `out` the map `data` as `to` encodes it. Keys that are no text keep the names they have.
    #[cfg(feature = "beego")]
    pub(crate) fn convert(self, data: &[u8], to: Codec, out: &mut Buffer) -> Result<()> {
        // What was stored is moved, whatever the limits on what is to be stored from now on.
        let limits = Limits { bytes: 16 << 20, keys: 65_535, depth: MAX_DEPTH };
        let mut changes = Vec::new();
        for key in self.keys(data)? {
            if let Some(bytes) = self.find(data, &key)? {
                changes.push(to.encode(&key, &self.decode::<plain::Plain>(&bytes)?, &limits)?);
            }
        }
        to.merge(b"", &changes, &limits, out)
    }

    /// Appends to `out` the map `base` with `changes` made to it: what is not named in them is carried over byte for byte.
    pub(crate) fn merge(
        self,
        base: &[u8],
        changes: &[Change],
        limits: &Limits,
        out: &mut Buffer,
    ) -> Result<()> {
        let start = out.len();
        let keys = match self.0 {
            Kind::MessagePack => message_pack::merge(base, changes, out),
            Kind::Json => json::merge(base, changes, out),
            #[cfg(feature = "beego")]
            Kind::Gob(envelope) => gob::merge(base, changes, envelope, out).map_err(MapError::Gob),
        }
        .map_err(corrupt)?;
        limits.keys(keys)?;
        limits.bytes(out.len() - start)
    }

    /// Every key and its encoded value, in the order of storage.
    pub(crate) fn fields(self, data: &[u8]) -> Result<Vec<(Cow<'_, str>, &[u8])>> {
        self.entries(data)?.map(|entry| entry.map_err(corrupt)).collect()
    }

    fn entries(self, data: &[u8]) -> Result<Entries<'_>> {
        match self.0 {
            Kind::MessagePack => message_pack::entries(data).map(Entries::MessagePack).map_err(corrupt),
            Kind::Json => json::entries(data).map(|all| Entries::Json(all.into_iter())).map_err(corrupt),
            #[cfg(feature = "beego")]
            Kind::Gob(envelope) => {
                let keys = gob::keys(data, envelope).map_err(|error| corrupt(MapError::Gob(error)))?;
                let entries: Vec<Entry<'_>> =
                    keys.into_iter().map(|key| (Cow::Owned(key), &[][..])).collect();
                Ok(Entries::Json(entries.into_iter()))
            }
        }
    }
}

fn corrupt(error: MapError) -> Error {
    Error::new(ErrorKind::Corrupt, error)
}

impl Default for Codec {
    fn default() -> Self {
        Codec::MESSAGE_PACK
    }
}

/// One change to a map: the encoded value that a key gets, or that it goes.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The key, and behind it the value.
    bytes: Vec<u8>,
    key: usize,
    deletes: bool,
}

impl Change {
    /// The change that removes `key`.
    pub(crate) fn deletion(key: &str) -> Self {
        Change { bytes: key.as_bytes().to_vec(), key: key.len(), deletes: true }
    }

    fn room_for(key: &str) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + 40);
        bytes.extend_from_slice(key.as_bytes());
        Change { bytes, key: key.len(), deletes: false }
    }

    /// The change that puts what `write` writes, an encoded value, under `key`.
    pub(crate) fn new(key: &str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut change = Change::room_for(key);
        write(&mut change.bytes);
        change
    }

    pub(crate) fn key(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.key]).unwrap_or_default()
    }

    fn key_bytes(&self) -> &[u8] {
        &self.bytes[..self.key]
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        (!self.deletes).then(|| &self.bytes[self.key..])
    }

    /// Both in one piece, where the key gets a value.
    fn key_and_value(&self) -> Option<&[u8]> {
        (!self.deletes).then_some(&self.bytes)
    }

    /// The bytes that it adds to a map at the most.
    pub(crate) fn room(&self) -> usize {
        // A key's header, or its quotes, take less than this in either codec.
        const HEADERS: usize = 16;
        self.bytes.len() + HEADERS
    }
}

type Entry<'a> = (Cow<'a, str>, &'a [u8]);

enum Entries<'a> {
    MessagePack(message_pack::Entries<'a>),
    Json(std::vec::IntoIter<Entry<'a>>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Entries::MessagePack(entries) => entries.next(),
            Entries::Json(entries) => entries.next().map(Ok),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Entries::MessagePack(entries) => entries.len(),
            Entries::Json(entries) => entries.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// The bounds of a record, checked before anything is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) keys: usize,
    pub(crate) depth: usize,
}

impl Limits {
    /// OWASP ASVS 5.0, 15.1.3 asks for bounds on what is decoded; all adjustable.
    pub(crate) const DEFAULT: Limits = Limits { bytes: 64 * 1024, keys: 1024, depth: 32 };

    pub(crate) fn bytes(&self, found: usize) -> Result<()> {
        self.hold("bytes of data", self.bytes, found)
    }

    pub(crate) fn keys(&self, found: usize) -> Result<()> {
        self.hold("keys", self.keys, found)
    }

    fn depth(&self, found: usize) -> Result<()> {
        self.hold("levels of nesting", self.depth, found)
    }

    #[inline]
    fn hold(&self, what: &'static str, limit: usize, found: usize) -> Result<()> {
        match found <= limit {
            true => Ok(()),
            false => Err(too_large(LimitError { what, limit, found })),
        }
    }
}

#[cold]
fn too_large(error: LimitError) -> Error {
    Error::new(ErrorKind::TooLarge, error)
}

#[derive(Debug, thiserror::Error)]
#[error("expected at most {limit} {what} in a session, found {found}; keep less, or raise the limit")]
struct LimitError {
    what: &'static str,
    limit: usize,
    found: usize,
}

/// Why an encoded map cannot be read.
#[derive(Debug, thiserror::Error)]
enum MapError {
    #[error("the data ends within a value")]
    Truncated,
    #[error("expected a map with text keys, found something else at byte {at}")]
    NotAMap { at: usize },
    #[error("expected each key once, found one of them again")]
    Repeated,
    #[error("byte {at} begins no value")]
    Marker { at: usize },
    #[error("values are nested deeper than {max} levels", max = MAX_DEPTH)]
    Depth,
    #[error("{found} bytes follow the map")]
    Trailing { found: usize },
    #[error("the data is no JSON object")]
    Json(#[source] serde_json::Error),
    #[cfg(feature = "beego")]
    #[error(transparent)]
    Gob(gob::GobError),
}

/// No limit may be set above this: readers walk nested values on the stack.
pub(crate) const MAX_DEPTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    const BOTH: [Codec; 2] = [Codec::MESSAGE_PACK, Codec::JSON];

    fn set<T: Serialize>(codec: Codec, key: &str, value: T) -> Change {
        codec.encode(key, &value, &Limits::DEFAULT).unwrap()
    }

    fn merge(codec: Codec, base: &[u8], changes: &[Change]) -> Result<Vec<u8>> {
        let mut data = Buffer::from_slice(b"before");
        codec.merge(base, changes, &Limits::DEFAULT, &mut data)?;
        Ok(data[6..].to_vec())
    }

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Cart {
        items: Vec<(String, u32)>,
        note: Option<String>,
    }

    #[test]
    fn values_come_back_and_the_untouched_is_carried_over() {
        for codec in BOTH {
            let cart = Cart { items: vec![("tea".into(), 2)], note: None };
            let first = [set(codec, "n", 1), set(codec, "cart", &cart), set(codec, "ümlaut \"q\"", "x")];
            let base = merge(codec, b"", &first).unwrap();
            codec.check(&base).unwrap();
            assert_eq!(codec.keys(&base).unwrap(), ["n", "cart", "ümlaut \"q\""]);

            let delete = Change::deletion("ümlaut \"q\"");
            let second = [set(codec, "new", true), set(codec, "n", 2), delete];
            let merged = merge(codec, &base, &second).unwrap();
            assert_eq!(codec.keys(&merged).unwrap(), ["n", "cart", "new"]);
            let value = |key| codec.find(&merged, key).unwrap();
            assert_eq!(codec.decode::<u8>(&value("n").unwrap()).unwrap(), 2);
            assert_eq!(codec.decode::<Cart>(&value("cart").unwrap()).unwrap(), cart);
            assert_eq!(value("cart"), codec.find(&base, "cart").unwrap());
            assert_eq!(value("ümlaut \"q\""), None);
        }
    }

    #[test]
    fn a_fraction_comes_back_to_its_last_bit() {
        for codec in BOTH {
            for fraction in [3.520_403_974_857_956e180, 0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX] {
                let data = merge(codec, b"", &[set(codec, "k", fraction)]).unwrap();
                let value = codec.find(&data, "k").unwrap().unwrap();
                assert_eq!(codec.decode::<f64>(&value).unwrap().to_bits(), fraction.to_bits());
            }
        }
    }

    #[test]
    fn the_limits_hold_at_their_edges() {
        let nested = |levels: usize| {
            let mut value = serde_json::json!(1);
            for _ in 0..levels {
                value = serde_json::json!([value]);
            }
            value
        };
        for codec in BOTH {
            codec.encode("k", &nested(32), &Limits::DEFAULT).unwrap();
            let error = codec.encode("k", &nested(33), &Limits::DEFAULT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");

            let many: Vec<_> = (0..1025).map(|n| set(codec, &n.to_string(), 1)).collect();
            merge(codec, b"", &many[..1024]).unwrap();
            let error = merge(codec, b"", &many).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");

            let fill = |len| merge(codec, b"", &[set(codec, "k", "x".repeat(len))]);
            let overhead = fill(60_000).unwrap().len() - 60_000;
            assert_eq!(fill(65_536 - overhead).unwrap().len(), 65_536);
            assert_eq!(fill(65_537 - overhead).unwrap_err().kind(), ErrorKind::TooLarge);
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_corrupt() {
        for (codec, data) in
            [(Codec::MESSAGE_PACK, &b"\x82\xa1a\x01\xa1a\x02"[..]), (Codec::JSON, br#"{"a":1,"a":2}"#)]
        {
            assert_eq!(codec.check(data).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_wrong_target_type_is_an_error_that_shows_no_value() {
        for codec in BOTH {
            let data = merge(codec, b"", &[set(codec, "k", "hunter2")]).unwrap();
            let value = codec.find(&data, "k").unwrap().unwrap();
            let error = codec.decode::<u64>(&value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn the_empty_text_is_the_empty_map() {
        for codec in BOTH {
            codec.check(b"").unwrap();
            assert_eq!(codec.count(b"").unwrap(), 0);
            assert_eq!(codec.find(b"", "k").unwrap(), None);
        }
    }
}
