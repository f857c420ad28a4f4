//! The encoding of session data: one map in one buffer, read and changed key by key.
//!
//! A record keeps its data encoded. [`Codec::find`] looks one value up and [`Codec::decode`] decodes it; the others are skipped as
//! bytes. A commit does not decode the map either: [`Codec::merge`] copies the old entries, and puts the encoded changes in their
//! place.
//!
//! | file | codec |
//! |---|---|
//! | `message_pack.rs` | MessagePack, the default |
//! | `json.rs` | JSON, for people who read the store |
//! | `go/` | gob, for sessions that Go programs share; feature `beego` |
//!
//! All codecs check the same [`Limits`] before they allocate: bytes, keys and depth.
//!
//! # The life of a value
//!
//! | call | codec | checks |
//! |---|---|---|
//! | `set` | [`Codec::encode`] makes a [`Change`]: the key and the encoded value in one buffer | the depth and the bytes of this value |
//! | load | [`Codec::check`] walks over the whole map, once for each record that is read from bytes | the form of the map, and that each key is there once |
//! | `get` | [`Codec::find`] returns the bytes, [`Codec::decode`] the value | the type of the value |
//! | commit | [`Codec::merge`] writes the next map | the number of keys and the bytes of the whole map |
//!
//! `set` also adds up bounds on all changes of the request. So the error of an oversized session comes from the `set` that made it too
//! large, and not from the commit.
//!
//! # Rules that every codec keeps
//!
//! - **An entry without a change keeps its bytes and its place.** A process of another version may have written it, with fields that
//!   this one does not know.
//! - **A change keeps the place of its key;** new keys come last. So the same changes make the same bytes, which golden files compare.
//! - **A record keeps its codec** until its session ends, whatever the setting says. A request with both a stored record and a new
//!   setting encodes in the record's codec ([`Codec::from_tag`]).
//! - **Errors do not quote values.** serde's messages do, so they are dropped, and the error names the expected type alone.
//! - **A damaged map is `Corrupt`, a wrong type is `Value`.** The first is the store's fault, the second the application's.
//! - **Empty data is an empty map.**

#[cfg(feature = "beego")]
pub(crate) mod go;
mod json;
mod message_pack;
#[cfg(not(feature = "beego"))]
mod without_go;

#[cfg(not(feature = "beego"))]
use without_go as go;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use self::message_pack::ValueError;
use crate::error::{Error, ErrorKind, Result};

/// The buffer in which a record is built: on the stack, unless the record is large.
pub(crate) type Buffer = SmallVec<[u8; 512]>;

/// The encoding of session data.
///
/// Every record names the codec that wrote it. So stored sessions stay readable when the setting changes, and each keeps
/// its codec until it ends.
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
    /// Go's gob; it has no value in a build without the feature `beego`.
    Gob(go::Envelope),
}

impl Codec {
    /// MessagePack with structs as maps by field name, the default: small and fast, and bytes stay bytes.
    pub const MESSAGE_PACK: Codec = Codec(Kind::MessagePack);

    /// JSON text, for stores that people or other programs read.
    ///
    /// Bytes become arrays of numbers, and not-a-number becomes null.
    pub const JSON: Codec = Codec(Kind::Json);

    /// Returns the number of the codec in a stored record.
    pub(crate) fn tag(self) -> u8 {
        match self.0 {
            Kind::MessagePack => 1,
            Kind::Json => 2,
            Kind::Gob(envelope) => envelope.tag(),
        }
    }

    /// Returns the codec with this number; `None` if this build does not have it.
    pub(crate) fn from_tag(tag: u8) -> Option<Codec> {
        match tag {
            1 => Some(Codec::MESSAGE_PACK),
            2 => Some(Codec::JSON),
            _ => go::Envelope::from_tag(tag).map(|envelope| Codec(Kind::Gob(envelope))),
        }
    }

    /// Returns the codec of Beego's sessions; `None` in a build without the feature `beego`.
    pub(crate) fn of_beego() -> Option<Codec> {
        Codec::from_tag(3)
    }

    /// Encodes the change that sets `key` to `value`, and checks the limits of a single value.
    pub(crate) fn encode<T: Serialize + ?Sized>(
        self,
        key: &str,
        value: &T,
        limits: &Limits,
    ) -> Result<Change> {
        let mut change = Change::room_for(key);
        let start = change.bytes.len();
        let depth = match self.0 {
            Kind::MessagePack => message_pack::encode(value, &mut change.bytes).map_err(unfit)?,
            Kind::Json => json::encode(value, &mut change.bytes).map_err(unfit)?,
            Kind::Gob(envelope) => {
                let depth = go::encode(key, value, envelope, &mut change.bytes)?;
                change.deletes = depth.is_none();
                depth.unwrap_or(0)
            }
        };
        limits.depth(depth)?;
        limits.bytes(change.bytes.len() - start)?;
        Ok(change)
    }

    /// Decodes the encoded value of one key.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        match self.0 {
            Kind::MessagePack => message_pack::decode(bytes).map_err(unfit),
            Kind::Json => json::decode(bytes).map_err(unfit),
            Kind::Gob(envelope) => go::decode(bytes, envelope),
        }
    }

    /// Returns the encoded value under `key`.
    #[inline]
    pub(crate) fn find<'a>(self, data: &'a [u8], key: &str) -> Result<Option<Cow<'a, [u8]>>> {
        match self.0 {
            Kind::MessagePack => {
                message_pack::find(data, key).map(|found| found.map(Cow::Borrowed)).map_err(corrupt)
            }
            Kind::Json => json::find(data, key).map(|found| found.map(Cow::Borrowed)).map_err(corrupt),
            Kind::Gob(envelope) => go::find(data, key, envelope).map(|found| found.map(Cow::Owned)),
        }
    }

    /// Returns true if a value that is a map has the encoding of the data, so that [`member`](Self::member) works on it.
    pub(crate) fn nests(self) -> bool {
        matches!(self.0, Kind::MessagePack | Kind::Json)
    }

    /// Returns the encoding of the empty map. The codec must [nest](Self::nests).
    pub(crate) fn empty(self) -> &'static [u8] {
        if self.0 == Kind::Json { b"{}" } else { &[0x80] }
    }

    /// Returns the encoded value under `key` of an encoded map. The codec must [nest](Self::nests).
    pub(crate) fn member<'a>(self, map: &'a [u8], key: &str) -> Result<Option<&'a [u8]>> {
        match self.0 {
            Kind::MessagePack => message_pack::find(map, key).map_err(corrupt),
            Kind::Json => json::find(map, key).map_err(corrupt),
            Kind::Gob(_) => Ok(None),
        }
    }

    /// Returns every key, in the order of storage.
    pub(crate) fn keys(self, data: &[u8]) -> Result<Vec<String>> {
        self.entries(data)?.map(|entry| entry.map(|(name, _)| name.into_owned()).map_err(corrupt)).collect()
    }

    /// Returns the number of keys that `data` claims to have.
    pub(crate) fn count(self, data: &[u8]) -> Result<usize> {
        Ok(self.entries(data)?.len())
    }

    /// Checks that `data` is one well-formed map with each key once.
    pub(crate) fn check(self, data: &[u8]) -> Result<()> {
        let keys = match self.0 {
            Kind::MessagePack => message_pack::check(data),
            Kind::Json => json::entries(data).map(|all| all.into_iter().map(|(key, _)| key).collect()),
            // Go lets the last of several equal keys win, so nothing can repeat.
            Kind::Gob(envelope) => return go::keys(data, envelope).map(drop),
        };
        let mut keys = keys.map_err(corrupt)?;
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(corrupt(MapError::Repeated));
        }
        Ok(())
    }

    /// Appends the map `base` with `changes` applied to `out`. Entries without a change are copied byte for byte.
    pub(crate) fn merge(
        self,
        base: &[u8],
        changes: &[Change],
        limits: &Limits,
        out: &mut Buffer,
    ) -> Result<()> {
        let start = out.len();
        let keys = match self.0 {
            Kind::MessagePack => message_pack::merge(base, changes, out).map_err(corrupt)?,
            Kind::Json => json::merge(base, changes, out).map_err(corrupt)?,
            Kind::Gob(envelope) => go::merge(base, changes, envelope, out)?,
        };
        limits.keys(keys)?;
        limits.bytes(out.len() - start)
    }

    /// Returns every key with its encoded value, in the order of storage.
    pub(crate) fn fields(self, data: &[u8]) -> Result<Vec<(Cow<'_, str>, &[u8])>> {
        self.entries(data)?.map(|entry| entry.map_err(corrupt)).collect()
    }

    fn entries(self, data: &[u8]) -> Result<Entries<'_>> {
        match self.0 {
            Kind::MessagePack => message_pack::entries(data).map(Entries::MessagePack).map_err(corrupt),
            Kind::Json => json::entries(data).map(|all| Entries::Listed(all.into_iter())).map_err(corrupt),
            // Gob has no encoding of a single value within the data, so the values are empty.
            Kind::Gob(envelope) => {
                let keys = go::keys(data, envelope)?.into_iter();
                let entries: Vec<Entry<'_>> = keys.map(|key| (Cow::Owned(key), &[][..])).collect();
                Ok(Entries::Listed(entries.into_iter()))
            }
        }
    }
}

fn unfit(error: ValueError) -> Error {
    Error::new(ErrorKind::Value, error)
}

fn corrupt(error: MapError) -> Error {
    Error::new(ErrorKind::Corrupt, error)
}

impl Default for Codec {
    fn default() -> Self {
        Codec::MESSAGE_PACK
    }
}

/// A change to one key of a map: its new encoded value, or its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The key, followed by the value.
    bytes: Vec<u8>,
    key: usize,
    deletes: bool,
}

impl Change {
    /// Returns the change that deletes `key`.
    pub(crate) fn deletion(key: &str) -> Self {
        Change { bytes: key.as_bytes().to_vec(), key: key.len(), deletes: true }
    }

    fn room_for(key: &str) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + 40);
        bytes.extend_from_slice(key.as_bytes());
        Change { bytes, key: key.len(), deletes: false }
    }

    /// Returns the change that sets `key` to the encoded value that `write` writes.
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

    /// Returns the key and the new value in one slice; `None` for a deletion.
    fn key_and_value(&self) -> Option<&[u8]> {
        (!self.deletes).then_some(&self.bytes)
    }

    /// Returns an upper bound on the bytes that the change adds to a map.
    pub(crate) fn room(&self) -> usize {
        // An upper bound on the header or the quotes of a key, in both codecs.
        const HEADERS: usize = 16;
        self.bytes.len() + HEADERS
    }
}

type Entry<'a> = (Cow<'a, str>, &'a [u8]);

enum Entries<'a> {
    MessagePack(message_pack::PackedEntries<'a>),
    Listed(std::vec::IntoIter<Entry<'a>>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Entries::MessagePack(entries) => entries.next(),
            Entries::Listed(entries) => entries.next().map(Ok),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Entries::MessagePack(entries) => entries.len(),
            Entries::Listed(entries) => entries.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// The bounds on the data of one session, checked before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) keys: usize,
    pub(crate) depth: usize,
}

impl Limits {
    /// OWASP ASVS 5.0, 15.1.3 asks for bounds on decoded data. All of them are settings.
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
        if found > limit {
            return Err(too_large(LimitError { what, limit, found }));
        }
        Ok(())
    }
}

#[cold]
fn too_large(error: LimitError) -> Error {
    Error::new(ErrorKind::TooLarge, error)
}

#[derive(Debug, thiserror::Error)]
#[error("expected at most {limit} {what} in a session, found {found}; store less, or raise the limit")]
struct LimitError {
    what: &'static str,
    limit: usize,
    found: usize,
}

/// The reason why an encoded map is not readable.
#[derive(Debug, thiserror::Error)]
enum MapError {
    #[error("the data ends within a value")]
    Truncated,
    #[error("expected a map with text keys, found something else at byte {at}")]
    NotAMap { at: usize },
    #[error("expected each key once, found a key twice")]
    Repeated,
    #[error("expected a value at byte {at}, found a marker that MessagePack does not use")]
    Marker { at: usize },
    #[error("values nest deeper than {MAX_DEPTH} levels")]
    Depth,
    #[error("expected the data to end after the map, found {found} more bytes")]
    Trailing { found: usize },
    #[error("expected a JSON object, found other data")]
    Json(#[source] serde_json::Error),
}

/// The highest limit on nesting that can be set, since values are walked on the stack.
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
    fn values_round_trip_and_unchanged_entries_are_copied() {
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
    fn a_float_round_trips_to_the_last_bit() {
        for codec in BOTH {
            for fraction in [3.520_403_974_857_956e180, 0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX] {
                let data = merge(codec, b"", &[set(codec, "k", fraction)]).unwrap();
                let value = codec.find(&data, "k").unwrap().unwrap();
                assert_eq!(codec.decode::<f64>(&value).unwrap().to_bits(), fraction.to_bits());
            }
        }
    }

    #[test]
    fn the_limits_are_inclusive() {
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
    fn a_repeated_key_is_corrupt() {
        for (codec, data) in
            [(Codec::MESSAGE_PACK, &b"\x82\xa1a\x01\xa1a\x02"[..]), (Codec::JSON, br#"{"a":1,"a":2}"#)]
        {
            assert_eq!(codec.check(data).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_wrong_type_is_an_error_without_the_value() {
        for codec in BOTH {
            let data = merge(codec, b"", &[set(codec, "k", "hunter2")]).unwrap();
            let value = codec.find(&data, "k").unwrap().unwrap();
            let error = codec.decode::<u64>(&value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn no_bytes_are_the_empty_map() {
        for codec in BOTH {
            codec.check(b"").unwrap();
            assert_eq!(codec.count(b"").unwrap(), 0);
            assert_eq!(codec.find(b"", "k").unwrap(), None);
        }
    }
}
