//! Sessions that Go stores: one gob of a map, whose values keep their Go types.
//!
//! The gob encoding itself is the crate `cloakroom-gob`. Outside of the whole map, a single value is encoded as a gob of its
//! own: a map from its key to it.

mod any_value;
mod cookie;
mod data;
mod key;
#[cfg(test)]
mod rules;
mod session;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use cloakroom_gob::{TypeId, Types, Value, from_value, to_dynamic};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::any_value::AnyValue;
use self::session::{GobMap, GobMapError};
use super::message_pack::ValueError;
use super::{Buffer, Change, Codec, Kind, Limits, MAX_DEPTH};
use crate::error::{Error, ErrorKind, Result};

pub use cloakroom_gob::GoTime;
pub use cookie::BeegoCookies;
pub use data::GoSession;
pub use key::go_key;
pub(super) use session::Envelope;

impl Codec {
    /// Go's gob of a `map[interface{}]interface{}`, as Beego and gorilla/sessions store a session.
    ///
    /// - **Reading.** Integers of any width are integers, and structs are maps by field name. A `time.Time` is RFC 3339 text
    ///   or a [`GoTime`], and `[]byte` is bytes. A struct field that is zero in Go is the zero of its Rust type, or `None`.
    /// - **An existing key keeps its Go type** if the new value fits it: an `int64` stays an `int64`. A registered struct stays
    ///   that struct, and fields that the new value does not have keep their value. Gob does not send the width of a named
    ///   number type, so such a number is not checked against it.
    /// - **A new key**, or one whose new value does not fit, gets one of these types: `bool`, `string`, `float64`, `float32`,
    ///   `int` (`uint64` past its range), `[]byte`, `[]interface{}`, `map[string]interface{}` (for structs, too),
    ///   `map[int]interface{}`, or `time.Time` from a `GoTime`. To set a key to `None` deletes it.
    /// - **Keys that are not set** are written back unchanged, whatever their type. Keys that are not strings in Go have
    ///   the names that [`go_key`] returns.
    pub const GOB: Codec = Codec(Kind::Gob(Envelope::Map));

    /// Go's gob of a `struct{Deadline time.Time; Values map[string]interface{}}`, as scs stores a session.
    ///
    /// The values follow the rules of [`GOB`](Self::GOB). The deadline is written back unchanged.
    pub const SCS: Codec = Codec(Kind::Gob(Envelope::Deadline));

    /// Compares two sessions: gobs by meaning, data of the other codecs by bytes.
    #[cfg(feature = "testkit")]
    fn same(self, one: &[u8], other: &[u8]) -> Result<bool> {
        match self.0 {
            Kind::Gob(envelope) => Ok(parse(one, envelope)?.means(&parse(other, envelope)?)),
            _ => Ok(one == other),
        }
    }

    /// Appends the map `data`, encoded with the codec `to`, to `out`. Keys that are not strings in Go keep their names.
    pub(crate) fn convert(self, data: &[u8], to: Codec, out: &mut Buffer) -> Result<()> {
        // A stored session is converted even if it exceeds the limits on new data.
        let limits = Limits { bytes: 16 << 20, keys: 65_535, depth: MAX_DEPTH };
        let mut changes = Vec::new();
        for key in self.keys(data)? {
            if let Some(bytes) = self.find(data, &key)? {
                changes.push(to.encode(&key, &self.decode::<AnyValue>(&bytes)?, &limits)?);
            }
        }
        to.merge(b"", &changes, &limits, out)
    }
}

/// Appends the value as a gob of its own, and returns its depth; `None` for nil, which deletes the key.
pub(super) fn encode<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    envelope: Envelope,
    out: &mut Vec<u8>,
) -> Result<Option<usize>> {
    let mut types = Types::default();
    let held = to_dynamic(value, &mut types).map_err(|_| unfit(ValueError::Encode))?;
    let Some(held) = held else { return Ok(None) };
    let depth = held.value.depth();
    let key = key::from_text(key);
    if !envelope.takes(&key) {
        return Err(Error::new(ErrorKind::Value, GoKeyError));
    }
    let one = GobMap::of_one(types, key, Value::Interface(Some(Box::new(held))));
    out.extend_from_slice(&one.into_gob().map_err(|_| unfit(ValueError::Encode))?);
    Ok(Some(depth))
}

/// Decodes a value from a gob of its own.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], _: Envelope) -> Result<T> {
    let refused = || unfit(ValueError::Decode { target: std::any::type_name::<T>() });
    let one = GobMap::parse(bytes, Envelope::Map).map_err(|_| refused())?;
    let (_, value) = one.entries.first().ok_or_else(refused)?;
    from_value(&one.types, TypeId::INTERFACE, value).map_err(|_| refused())
}

/// Returns the value under `key` as a gob of its own.
pub(super) fn find(data: &[u8], key: &str, envelope: Envelope) -> Result<Option<Vec<u8>>> {
    let session = parse(data, envelope)?;
    let Some(index) = session.position(key) else { return Ok(None) };
    session.into_one(index).into_gob().map(Some).map_err(corrupt)
}

/// Returns every key as text, in the order of storage.
pub(super) fn keys(data: &[u8], envelope: Envelope) -> Result<Vec<String>> {
    Ok(parse(data, envelope)?.names().map(Cow::into_owned).collect())
}

/// Appends the session `base` with `changes` applied, and returns the number of its keys.
pub(super) fn merge(base: &[u8], changes: &[Change], envelope: Envelope, out: &mut Buffer) -> Result<usize> {
    let mut session = parse(base, envelope)?;
    for change in changes {
        apply(&mut session, change).map_err(corrupt)?;
    }
    let keys = session.entries.len();
    out.extend_from_slice(&session.into_gob().map_err(corrupt)?);
    Ok(keys)
}

fn apply(session: &mut GobMap, change: &Change) -> Result<(), GobMapError> {
    let index = session.position(change.key());
    let Some(bytes) = change.value() else {
        if let Some(index) = index {
            session.entries.remove(index);
        }
        return Ok(());
    };
    let mut one = GobMap::parse(bytes, Envelope::Map)?;
    let Some((key, Value::Interface(Some(new)))) = one.entries.pop() else {
        return Err(GobMapError::NotOneValue);
    };
    let old = index.and_then(|index| session.entries[index].1.held());
    let value = Value::Interface(Some(Box::new(session.types.replace(old, &new, &one.types))));
    match index {
        Some(index) => session.entries[index].1 = value,
        None => session.push(key, value)?,
    }
    Ok(())
}

fn parse(data: &[u8], envelope: Envelope) -> Result<GobMap> {
    GobMap::parse(data, envelope).map_err(corrupt)
}

fn corrupt(error: GobMapError) -> Error {
    Error::new(ErrorKind::Corrupt, error)
}

fn unfit(error: ValueError) -> Error {
    Error::new(ErrorKind::Value, error)
}

#[derive(Debug, thiserror::Error)]
#[error("expected a string as the key, found another Go type; a session of scs has string keys only")]
struct GoKeyError;
