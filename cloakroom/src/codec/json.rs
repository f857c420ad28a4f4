//! The JSON codec: `serde_json` for everything, with each value kept as its text.
//!
//! `RawValue` gives the text of a value without decoding it, so an entry without a change keeps its bytes: spaces, the order of fields
//! and the digits of a number. Unlike the MessagePack walker, `find` reads the whole map and allocates every key.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::message_pack::ValueError;
use super::{Buffer, Change, Entry, MapError};

/// Appends the value, and returns its depth.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<usize, ValueError> {
    let start = out.len();
    serde_json::to_writer(&mut *out, value).map_err(|_| ValueError::Encode)?;
    Ok(depth(&out[start..]))
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    serde_json::from_slice(bytes).map_err(|_| ValueError::Decode { target: std::any::type_name::<T>() })
}

pub(super) fn entries(data: &[u8]) -> Result<Vec<Entry<'_>>, MapError> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(data).map(|RawMap(entries)| entries).map_err(MapError::Json)
}

pub(super) fn find<'a>(data: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, MapError> {
    Ok(entries(data)?.into_iter().find(|(name, _)| name == key).map(|(_, value)| value))
}

/// Appends the map `base` with `changes` applied, and returns the number of its keys.
pub(super) fn merge(base: &[u8], changes: &[Change], out: &mut Buffer) -> Result<usize, MapError> {
    let mut map = ObjectWriter::new(out);
    // The changes to keys that the base has not shown yet.
    let mut left: Vec<&Change> = changes.iter().collect();
    for (name, value) in entries(base)? {
        match left.iter().position(|change| change.key() == name) {
            Some(place) => map.change(left.remove(place)),
            None => map.entry(&name, value),
        }
    }
    left.into_iter().for_each(|change| map.change(change));
    Ok(map.finish())
}

/// Returns the deepest nesting in valid JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

struct RawMap<'a>(Vec<Entry<'a>>);

impl<'de> Deserialize<'de> for RawMap<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = RawMap<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of session keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMap<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    entries.push((Cow::Owned(key), value.get().as_bytes()));
                }
                Ok(RawMap(entries))
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

struct ObjectWriter<'a> {
    out: &'a mut Buffer,
    keys: usize,
}

impl<'a> ObjectWriter<'a> {
    fn new(out: &'a mut Buffer) -> Self {
        out.push(b'{');
        ObjectWriter { out, keys: 0 }
    }

    fn change(&mut self, change: &Change) {
        if let Some(value) = change.value() {
            self.entry(change.key(), value);
        }
    }

    fn entry(&mut self, key: &str, value: &[u8]) {
        if self.keys > 0 {
            self.out.push(b',');
        }
        self.keys += 1;
        self.out.extend_from_slice(serde_json::Value::from(key).to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value);
    }

    fn finish(self) -> usize {
        self.out.push(b'}');
        self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert_eq!(depth(br#"["[[[", {"a\"[": [1]}]"#), 3);
        assert_eq!(depth(b"1"), 0);
    }

    #[test]
    fn anything_but_an_object_is_an_error() {
        for data in [&b"[]"[..], b"{", b"{\"a\":}", b"nonsense", b"{\"a\":1}{", b"\xff"] {
            assert!(matches!(entries(data), Err(MapError::Json(_))), "{data:?}");
        }
    }
}
