//! The MessagePack codec: `rmp-serde` encodes and decodes values, and a walker here finds and rewrites entries of the map.
//!
//! The walker is our own code. A commit copies unchanged entries byte for byte, so it needs the end of each value, and
//! the limit on nesting needs its depth. `rmp` reads single markers, so a walker on it has the same `match` over them.
//! `rmp-serde` skips a value by `IgnoredAny`, at twice the cost and without its depth. Instructions, counted with callgrind in
//! a release build:
//!
//! | operation | walker | `IgnoredAny` | whole map by `rmp-serde` |
//! |---|---:|---:|---:|
//! | read the last of 5 values, 111 bytes | 1,261 | 2,383 | 8,105 |
//! | read the last of 17 values, 419 bytes | 4,389 | 8,530 | 35,446 |
//! | change one of 5 values | 1,696 | | 12,413 |
//! | change one of 17 values | 5,687 | | 46,135 |
//!
//! The walker's rules:
//!
//! - It reads a marker, then skips as many bytes or values as the marker says. It decodes no value and copies none.
//! - A length past the end of the data is an error before anything is read or allocated. A container that claims billions of values
//!   ends with the data, since each value takes a byte.
//! - Containers nest at most [`MAX_DEPTH`] levels, since each takes a frame of the stack.
//! - Keys must be texts, and are compared as bytes. Only a list of all keys needs them in UTF-8.
//! - It accepts every form of a length, also a longer one than needed, since other writers may choose it. What it writes is the shortest.
//! - `find` stops at its key, since a record's data was walked to its end when the record was read ([`check`]).
//!
//! Marker bytes are those of the MessagePack specification, `spec.md` in the repository msgpack/msgpack.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::{Buffer, Change, Entry, MAX_DEPTH, MapError};

/// Appends the value, and returns its depth.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<usize, ValueError> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    value.serialize(&mut serializer).map_err(|_| ValueError::Encode)?;
    let mut walk = Walk { data: &out[start..], at: 0, deepest: 0 };
    walk.value(0).map_err(|_| ValueError::Encode)?;
    Ok(walk.deepest)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    rmp_serde::from_slice(bytes).map_err(|_| ValueError::Decode { target: std::any::type_name::<T>() })
}

/// Walks the whole map, and returns its keys.
pub(super) fn check(data: &[u8]) -> Result<Vec<Cow<'_, str>>, MapError> {
    let mut entries = entries(data)?;
    let keys = entries.by_ref().map(|entry| Ok(entry?.0)).collect::<Result<_, MapError>>()?;
    match data.len() - entries.walk.at {
        0 => Ok(keys),
        found => Err(MapError::Trailing { found }),
    }
}

/// Returns the value under `key`. Keys are compared as bytes, so other keys need not be UTF-8.
pub(super) fn find<'a>(data: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, MapError> {
    let PackedEntries { mut walk, left } = entries(data)?;
    for _ in 0..left {
        let found = walk.key()? == key.as_bytes();
        let start = walk.at;
        walk.value(0)?;
        if found {
            return Ok(Some(&data[start..walk.at]));
        }
    }
    Ok(None)
}

pub(super) fn entries(data: &[u8]) -> Result<PackedEntries<'_>, MapError> {
    let mut walk = Walk { data, at: 0, deepest: 0 };
    let left = match data.first() {
        None => 0,
        Some(marker @ 0x80..=0x8f) => {
            walk.at = 1;
            usize::from(marker & 0x0f)
        }
        Some(0xde) => {
            walk.at = 1;
            walk.number(2)?
        }
        Some(_) => return Err(MapError::NotAMap { at: 0 }),
    };
    Ok(PackedEntries { walk, left })
}

/// The entries of a map. Each is found by skipping the one before it.
pub(super) struct PackedEntries<'a> {
    walk: Walk<'a>,
    left: usize,
}

impl<'a> PackedEntries<'a> {
    pub(super) fn len(&self) -> usize {
        self.left
    }

    fn entry(&mut self) -> Result<Entry<'a>, MapError> {
        let at = self.walk.at;
        let key = std::str::from_utf8(self.walk.key()?).map_err(|_| MapError::NotAMap { at })?;
        let start = self.walk.at;
        self.walk.value(0)?;
        Ok((Cow::Borrowed(key), &self.walk.data[start..self.walk.at]))
    }
}

impl<'a> Iterator for PackedEntries<'a> {
    type Item = Result<Entry<'a>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = self.entry();
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}

/// A position in encoded data, which skips one value at a time.
struct Walk<'a> {
    data: &'a [u8],
    at: usize,
    deepest: usize,
}

impl<'a> Walk<'a> {
    /// Skips one value within `depth` containers.
    fn value(&mut self, depth: usize) -> Result<(), MapError> {
        let at = self.at;
        let marker = *self.data.get(at).ok_or(MapError::Truncated)?;
        self.at += 1;
        match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Ok(()),
            0x80..=0x8f => self.values(2 * usize::from(marker & 0x0f), depth),
            0x90..=0x9f => self.values(usize::from(marker & 0x0f), depth),
            0xa0..=0xbf => self.skip(usize::from(marker & 0x1f)),
            0xc4 | 0xd9 => self.sized(1, 0),
            0xc5 | 0xda => self.sized(2, 0),
            0xc6 | 0xdb => self.sized(4, 0),
            // A type byte precedes the content of an extension.
            0xc7 => self.sized(1, 1),
            0xc8 => self.sized(2, 1),
            0xc9 => self.sized(4, 1),
            0xcc | 0xd0 => self.skip(1),
            0xcd | 0xd1 => self.skip(2),
            0xca | 0xce | 0xd2 => self.skip(4),
            0xcb | 0xcf | 0xd3 => self.skip(8),
            0xd4..=0xd8 => self.skip(1 + (1 << (marker - 0xd4))),
            0xdc | 0xdd => {
                let len = self.number(if marker == 0xdc { 2 } else { 4 })?;
                self.values(len, depth)
            }
            0xde | 0xdf => {
                let len = self.number(if marker == 0xde { 2 } else { 4 })?;
                self.values(len.saturating_mul(2), depth)
            }
            0xc1 => Err(MapError::Marker { at }),
        }
    }

    /// Skips the `count` values of a container. Each takes at least one byte, so a false count ends with the data.
    fn values(&mut self, count: usize, depth: usize) -> Result<(), MapError> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(MapError::Depth);
        }
        self.deepest = self.deepest.max(depth);
        for _ in 0..count {
            self.value(depth)?;
        }
        Ok(())
    }

    /// Skips a string, and returns its bytes.
    #[inline]
    fn key(&mut self) -> Result<&'a [u8], MapError> {
        let at = self.at;
        let marker = *self.data.get(at).ok_or(MapError::Truncated)?;
        self.at += 1;
        let len = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => self.number(1)?,
            0xda => self.number(2)?,
            0xdb => self.number(4)?,
            _ => return Err(MapError::NotAMap { at }),
        };
        let start = self.at;
        self.skip(len)?;
        Ok(&self.data[start..self.at])
    }

    fn sized(&mut self, len_bytes: usize, extra: usize) -> Result<(), MapError> {
        let len = self.number(len_bytes)?;
        self.skip(len + extra)
    }

    /// Reads a big-endian length of `width` bytes.
    fn number(&mut self, width: usize) -> Result<usize, MapError> {
        let start = self.at;
        self.skip(width)?;
        Ok(self.data[start..self.at].iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn skip(&mut self, len: usize) -> Result<(), MapError> {
        if self.data.len() - self.at < len {
            return Err(MapError::Truncated);
        }
        self.at += len;
        Ok(())
    }
}

/// Appends the map `base` with `changes` applied, and returns the number of its keys.
pub(super) fn merge(base: &[u8], changes: &[Change], out: &mut Buffer) -> Result<usize, MapError> {
    let PackedEntries { mut walk, left: in_base } = entries(base)?;
    let mut map = MapWriter::new(out, in_base + changes.len());
    // The changes to keys that the base has not shown yet.
    let mut left: SmallVec<[&Change; 4]> = changes.iter().collect();
    for _ in 0..in_base {
        let start = walk.at;
        let key = walk.key()?;
        walk.value(0)?;
        match left.iter().position(|change| change.key_bytes() == key) {
            Some(place) => map.change(left.remove(place)),
            None => map.carry_over(&base[start..walk.at]),
        }
    }
    left.into_iter().for_each(|change| map.change(change));
    Ok(map.finish())
}

/// A writer of a map whose number of entries is known only at its end.
struct MapWriter<'a> {
    out: &'a mut Buffer,
    start: usize,
    /// The bytes reserved for the header: one, or three if the map may have more than 15 entries.
    header: usize,
    keys: usize,
}

impl<'a> MapWriter<'a> {
    fn new(out: &'a mut Buffer, most: usize) -> Self {
        let (start, header) = (out.len(), if most < 16 { 1 } else { 3 });
        (0..header).for_each(|_| out.push(0));
        MapWriter { out, start, header, keys: 0 }
    }

    /// Copies an unchanged entry.
    fn carry_over(&mut self, entry: &[u8]) {
        self.keys += 1;
        self.out.extend_from_slice(entry);
    }

    fn change(&mut self, change: &Change) {
        let Some(entry) = change.key_and_value() else { return };
        self.keys += 1;
        match change.key_bytes().len() {
            len @ ..32 => self.out.push(0xa0 | len as u8),
            len @ ..256 => self.out.extend_from_slice(&[0xd9, len as u8]),
            len @ ..65536 => {
                self.out.push(0xda);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.out.push(0xdb);
                self.out.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
        self.out.extend_from_slice(entry);
    }

    fn finish(self) -> usize {
        let MapWriter { out, start, header, keys } = self;
        match keys {
            // The limits keep the count within two bytes.
            16.. => {
                out[start] = 0xde;
                out[start + 1..start + 3].copy_from_slice(&(keys as u16).to_be_bytes());
            }
            few => {
                out[start] = 0x80 | few as u8;
                if header > 1 {
                    out.copy_within(start + header.., start + 1);
                    out.truncate(out.len() - (header - 1));
                }
            }
        }
        keys
    }
}

/// The reason why a value cannot be encoded or decoded. The messages of serde can quote the value, so they are dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("the value cannot be encoded: its Serialize failed, or it nests deeper than {MAX_DEPTH} levels")]
    Encode,
    #[error(
        "expected a value that decodes to {target}, found one of another shape; ask for the type that was set"
    )]
    Decode { target: &'static str },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_skipped_exactly() {
        let values: &[&[u8]] = &[
            b"\x00",
            b"\x7f",
            b"\xe0",
            b"\xc0",
            b"\xc2",
            b"\xc3",
            b"\x80",
            b"\x81\xa1a\x01",
            b"\x92\x01\x02",
            b"\xa2ab",
            b"\xc4\x01x",
            b"\xc5\0\x01x",
            b"\xc6\0\0\0\x01x",
            b"\xc7\x02\x05ab",
            b"\xc8\0\x01\x05a",
            b"\xc9\0\0\0\x01\x05a",
            b"\xca\0\0\0\0",
            b"\xcb\0\0\0\0\0\0\0\0",
            b"\xcc\x01",
            b"\xcd\0\x01",
            b"\xce\0\0\0\x01",
            b"\xcf\0\0\0\0\0\0\0\x01",
            b"\xd0\x01",
            b"\xd1\0\x01",
            b"\xd2\0\0\0\x01",
            b"\xd3\0\0\0\0\0\0\0\x01",
            b"\xd4\x05a",
            b"\xd5\x05ab",
            b"\xd6\x05abcd",
            b"\xd7\x05abcdefgh",
            b"\xd8\x050123456789abcdef",
            b"\xd9\x01a",
            b"\xda\0\x01a",
            b"\xdb\0\0\0\x01a",
            b"\xdc\0\x01\x01",
            b"\xdd\0\0\0\x01\x01",
            b"\xde\0\x01\xa1a\x01",
            b"\xdf\0\0\0\x01\xa1a\x01",
        ];
        for value in values {
            let mut walk = Walk { data: value, at: 0, deepest: 0 };
            walk.value(0).unwrap();
            assert_eq!(walk.at, value.len(), "{value:02x?}");
            for len in 0..value.len() {
                let mut walk = Walk { data: &value[..len], at: 0, deepest: 0 };
                assert!(matches!(walk.value(0), Err(MapError::Truncated)), "{value:02x?} cut to {len}");
            }
        }
    }

    #[test]
    fn hostile_data_is_an_error() {
        for (data, expected) in [
            (&b"\xc1"[..], MapError::NotAMap { at: 0 }),
            (b"\x81\x01\x01", MapError::NotAMap { at: 1 }),
            (b"\x81\xa1a\xc1", MapError::Marker { at: 3 }),
            (b"\x81\xa1a", MapError::Truncated),
            (b"\xde\xff\xff\xa1a\x01", MapError::Truncated),
            (b"\x81\xa1a\xdd\xff\xff\xff\xff", MapError::Truncated),
            (b"\x81\xa1a\xdf\xff\xff\xff\xff\x01", MapError::Truncated),
            (b"\x81\xa1\xff\x01", MapError::NotAMap { at: 1 }),
            (b"\x80\x80", MapError::Trailing { found: 1 }),
            (&[&b"\x81\xa1a"[..], &[0x91; 100_000]].concat(), MapError::Depth),
        ] {
            let found = check(data).unwrap_err().to_string();
            assert_eq!(found, expected.to_string(), "{:02x?}", &data[..data.len().min(16)]);
        }
    }

    #[test]
    fn long_keys_and_many_entries_have_longer_headers() {
        for (len, count) in [(3, 1), (31, 15), (32, 16), (255, 300), (256, 3), (65_535, 1), (65_536, 1)] {
            let mut data = Buffer::new();
            let key = |n: usize| format!("{}{n:03}", "x".repeat(len))[3..].to_owned();
            let changes: Vec<_> = (0..count).map(|n| Change::new(&key(n), |value| value.push(1))).collect();
            let keys = merge(b"", &changes, &mut data).unwrap();
            check(&data).unwrap();
            let read: Vec<_> = entries(&data).unwrap().map(|entry| entry.unwrap().0).collect();
            assert_eq!((keys, read.len()), (count, count));
            assert_eq!(read[count - 1], key(count - 1));
        }
    }
}
