//! The keys of a Go session as text. In Go a key can have any type, and here it is text.

use std::borrow::Cow;

use cloakroom_gob::{Dynamic, TypeId, Types, Value};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The first character of the text of a key that is not a string in Go.
pub(super) const MARK: char = '\0';

/// Returns the name of a key that is not a string in Go, for [`get`](crate::Session::get) and the other calls.
///
/// `go_type` is `bool`, an integer type or a float type. So the `int` 5 is `go_key("int", 5)`. An existing key keeps its
/// type, and a new one gets it.
///
/// Other keys, such as structs, have names as well. [`keys`](crate::Session::keys) lists them, and every call accepts them for
/// an existing key. Two pointers to equal values are two keys in Go but have one name, and so has not-a-number: the name of
/// the second ends in `#2`.
///
/// ```
/// use cloakroom::go::go_key;
///
/// assert_eq!(go_key("int", 5), "\0int:5");
/// assert_ne!(go_key("int", 5), go_key("int64", 5));
/// ```
pub fn go_key(go_type: &str, value: impl std::fmt::Display) -> String {
    format!("{MARK}{go_type}:{value}")
}

/// Returns the text of a key.
pub(super) fn to_text(key: &Value) -> Cow<'_, str> {
    let (name, value) = match key {
        Value::Interface(Some(held)) => (&*held.name, &held.value),
        other => ("string", other),
    };
    match (name, value) {
        ("string", Value::Text(text)) => match std::str::from_utf8(text) {
            Ok(text) if !text.starts_with(MARK) => text.into(),
            _ => digest(name, value),
        },
        ("bool", Value::Bool(value)) => go_key(name, value).into(),
        (name, Value::Int(number)) if is_integer(name) => go_key(name, number).into(),
        (name, Value::Uint(number)) if is_integer(name) => go_key(name, number).into(),
        ("float32" | "float64", Value::Float(bits)) if !f64::from_bits(*bits).is_nan() => {
            go_key(name, f64::from_bits(*bits)).into()
        }
        _ => digest(name, value),
    }
}

/// Returns a name for a key without a text of its own: its type, and a digest of its value.
fn digest(name: &str, value: &Value) -> Cow<'static, str> {
    let digest = Sha256::digest(format!("{value:?}"));
    go_key(name, HEXLOWER.encode(&digest[..16])).into()
}

/// Returns the key whose text is `text`, the reverse of [`to_text`]. A text of no other form is a string.
pub(super) fn from_text(text: &str) -> Value {
    let plain = || Value::dynamic("string", TypeId::STRING, Value::Text(text.as_bytes().to_vec()));
    let Some((name, of)) = text.strip_prefix(MARK).and_then(|rest| rest.split_once(':')) else {
        return plain();
    };
    let (id, value) = match name {
        "bool" => (TypeId::BOOL, of.parse().ok().map(Value::Bool)),
        "float32" | "float64" => {
            (TypeId::FLOAT, of.parse().ok().map(|value: f64| Value::Float(value.to_bits())))
        }
        "uint" | "uint8" | "uint16" | "uint32" | "uint64" | "uintptr" => {
            (TypeId::UINT, of.parse().ok().map(Value::Uint))
        }
        _ if is_integer(name) => (TypeId::INT, of.parse().ok().map(Value::Int)),
        _ => return plain(),
    };
    let held = value.map(|value| Dynamic { name: name.into(), id, value });
    let held = held.filter(|held| held.check(&Types::default()).is_ok());
    held.map_or_else(plain, |held| Value::Interface(Some(Box::new(held))))
}

fn is_integer(name: &str) -> bool {
    let width = name.strip_prefix("uint").or_else(|| name.strip_prefix("int"));
    width.is_some_and(|width| matches!(width, "" | "8" | "16" | "32" | "64")) || name == "uintptr"
}
