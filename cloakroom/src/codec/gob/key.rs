//! The keys of a Go session as text: Go's may be of any type, those of a session here are text.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::name::GoType;
use super::types::{TypeId, Types};
use super::value::{Dynamic, Value};

/// What the text of a key begins with that is no plain text in Go.
pub(super) const MARK: char = '\0';

/// The name under which a session has a key that is no string in Go, for [`get`](crate::Session::get) and the other calls: the
/// number 5 as an `int`, say, is `go_key("int", 5)`.
///
/// `go_type` is `bool`, an integer type or a float type. Such a key keeps its type; one that is not there yet is made with it. All
/// other keys, such as structs, have names too, which [`keys`](crate::Session::keys) gives and every call takes for a key that is
/// there. Two pointers to the same value look alike and are two keys in Go, and so does not-a-number: the name of the second ends in `#2`.
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

/// The text of a key.
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

/// A name for a key that has no text of its own: its type, and a digest of what it is.
fn digest(name: &str, value: &Value) -> Cow<'static, str> {
    let digest = Sha256::digest(format!("{value:?}"));
    go_key(name, HEXLOWER.encode(&digest[..16])).into()
}

/// The key that [`to_text`] gives this `text`, for one that is not in the session. What is no such text is a plain text.
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
    let held = held.filter(|held| GoType::parse(name).check(&Types::default(), id, &held.value).is_ok());
    held.map_or_else(plain, |held| Value::Interface(Some(Box::new(held))))
}

fn is_integer(name: &str) -> bool {
    let width = name.strip_prefix("uint").or_else(|| name.strip_prefix("int"));
    width.is_some_and(|width| matches!(width, "" | "8" | "16" | "32" | "64")) || name == "uintptr"
}
