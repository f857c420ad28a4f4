//! A value as gob sends it, with everything that gob says about its Go type.

use crate::error::Error;
use crate::name::GoType;
use crate::types::{TypeId, Types};

/// A decoded value.
///
/// Its type is known from its context: a [`Dynamic`] carries it, and elsewhere the definition of the surrounding type
/// names it. Floats are stored as bits, so that not-a-number stays the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "gob has no other kinds")]
pub enum Value {
    /// A `bool`.
    Bool(bool),
    /// An `int`, `int8`, `int16`, `int32` or `int64`. Gob does not send the width.
    Int(i64),
    /// A `uint`, `uint8`, `uint16`, `uint32`, `uint64` or `uintptr`.
    Uint(u64),
    /// The bits of a `float64`; a `float32` is widened.
    Float(u64),
    /// The bits of the real and the imaginary part of a `complex64` or `complex128`.
    Complex(u64, u64),
    /// A `[]byte`.
    Bytes(Vec<u8>),
    /// A `string`. Go allows any bytes in it.
    Text(Vec<u8>),
    /// An interface: nil, or a value together with its type.
    Interface(Option<Box<Dynamic>>),
    /// A slice or an array.
    List(Vec<Value>),
    /// A map, in the order in which the gob sent it.
    Map(Vec<(Value, Value)>),
    /// The fields that the gob sent, by their index in the definition. Go omits fields that are zero.
    Struct(Vec<(u32, Value)>),
    /// The bytes of a type that encodes itself, such as `time.Time`.
    Encoded(Vec<u8>),
}

/// A value with its concrete type, as a Go interface holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dynamic {
    /// The name under which Go has registered the type, such as `[]interface {}` or `main.User`.
    pub name: Box<str>,
    /// The number of the type in its gob.
    pub id: TypeId,
    /// The value itself.
    pub value: Value,
}

impl Value {
    /// Wraps `value` in an interface, under the registered `name` of its type.
    pub fn dynamic(name: &str, id: TypeId, value: Value) -> Value {
        Value::Interface(Some(Box::new(Dynamic { name: name.into(), id, value })))
    }

    /// Returns the content of an interface; `None` for nil and for every other value.
    pub fn held(&self) -> Option<&Dynamic> {
        match self {
            Value::Interface(held) => held.as_deref(),
            _ => None,
        }
    }

    /// Returns the number of lists, maps and structs on the longest path into this value: 0 for a number or a text.
    pub fn depth(&self) -> usize {
        match self {
            Value::Interface(held) => held.as_ref().map_or(0, |held| held.value.depth()),
            Value::List(list) => 1 + list.iter().map(Value::depth).max().unwrap_or(0),
            Value::Map(map) => {
                1 + map.iter().map(|(key, value)| key.depth().max(value.depth())).max().unwrap_or(0)
            }
            Value::Struct(fields) => 1 + fields.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl Dynamic {
    /// Checks that the value can be one of the Go type that `name` spells: the kinds and the ranges of numbers.
    ///
    /// A name that this crate does not understand, such as that of an application's type, fits every value.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it cannot.
    pub fn check(&self, types: &Types) -> Result<(), Error> {
        Ok(GoType::parse(&self.name).check(types, self.id, &self.value)?)
    }
}
