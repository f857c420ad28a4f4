//! The data of Go's sessions: one gob of a map, whose values keep their Go types.
//!
//! What gob is, byte by byte, stands in the documentation of Go's package `encoding/gob`. Between the calls here a single value
//! travels as a gob of its own: a map of the one key to it.

mod decode;
mod deserialize;
mod encode;
mod error;
mod fit;
mod key;
mod name;
#[cfg(test)]
mod rules;
mod serialize;
mod session;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod value;
mod wire;

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::deserialize::{Context, Node};
use self::fit::Fit;
use self::serialize::Builder;
use self::session::Session;
use self::value::Value;
use super::message_pack::ValueError;
use super::{Buffer, Change};

pub(super) use error::GobError;
pub use key::go_key;
pub(super) use session::Envelope;
pub use time::GoTime;

/// Appends the value as a gob of its own, and says how deep it nests; `None` where it is nil, which no key can have.
pub(super) fn encode<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    envelope: Envelope,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, ValueError> {
    let mut builder = Builder::new();
    let held = value.serialize(&mut builder).map_err(|_| ValueError::Encode)?;
    let Some(held) = held else { return Ok(None) };
    let deepest = builder.deepest;
    let key = key::from_text(key);
    if !envelope.takes(&key) {
        return Err(ValueError::Key);
    }
    let one = Session::of_one(builder.types, key, Value::Interface(Some(Box::new(held))));
    out.extend_from_slice(&one.to_gob().map_err(|_| ValueError::Encode)?);
    Ok(Some(deepest))
}

/// The value of a gob of one.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    let refused = || ValueError::Decode { target: std::any::type_name::<T>() };
    let one = Session::parse(bytes, Envelope::Map).map_err(|_| refused())?;
    let (_, value) = one.entries.first().ok_or_else(refused)?;
    T::deserialize(Node::of_interface(&Context::new(&one.types), value)).map_err(|_| refused())
}

/// The value under `key`, as a gob of its own.
pub(super) fn find(data: &[u8], key: &str, envelope: Envelope) -> Result<Option<Vec<u8>>, GobError> {
    let session = Session::parse(data, envelope)?;
    let Some(place) = session.position(key) else { return Ok(None) };
    session.into_one(place).to_gob().map(Some)
}

/// Every key as text, in the order of storage.
pub(super) fn keys(data: &[u8], envelope: Envelope) -> Result<Vec<String>, GobError> {
    let session = Session::parse(data, envelope)?;
    Ok(session.names().map(Cow::into_owned).collect())
}

/// The time in the struct around a session, if it has one.
pub(super) fn deadline(data: &[u8], envelope: Envelope) -> Result<Option<GoTime>, GobError> {
    Session::parse(data, envelope)?.deadline()
}

/// The session with another time in the struct around it.
pub(super) fn with_deadline(data: &[u8], deadline: GoTime, envelope: Envelope) -> Result<Vec<u8>, GobError> {
    let mut session = Session::parse(data, envelope)?;
    session.set_deadline(deadline)?;
    session.to_gob()
}

/// Whether two sessions have the same entries, of the same types.
#[cfg(feature = "testkit")]
pub(super) fn same(one: &[u8], other: &[u8], envelope: Envelope) -> Result<bool, GobError> {
    Ok(Session::parse(one, envelope)?.means(&Session::parse(other, envelope)?))
}

/// Appends the session `base` with `changes` made to it; says how many keys that has.
pub(super) fn merge(
    base: &[u8],
    changes: &[Change],
    envelope: Envelope,
    out: &mut Buffer,
) -> Result<usize, GobError> {
    let mut session = Session::parse(base, envelope)?;
    for change in changes {
        let place = session.position(change.key());
        let Some(bytes) = change.value() else {
            if let Some(place) = place {
                session.entries.remove(place);
            }
            continue;
        };
        let mut one = Session::parse(bytes, Envelope::Map)?;
        let Some((key, Value::Interface(Some(new)))) = one.entries.pop() else {
            return Err(GobError::Mismatch);
        };
        let old = place.and_then(|place| session.entries[place].1.held());
        let mut fit = Fit { types: &mut session.types, brought: &one.types };
        let value = Value::Interface(Some(Box::new(fit.replace(&new, old))));
        match place {
            Some(place) => session.entries[place].1 = value,
            None => session.push(key, value)?,
        }
    }
    out.extend_from_slice(&session.to_gob()?);
    Ok(session.entries.len())
}
