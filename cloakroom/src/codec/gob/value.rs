//! A value of a gob as it is on the wire, with all that gob says of its Go type.

use super::types::TypeId;

/// A value whose type is told by where it stands: in an [`Dynamic`] by its name and number, elsewhere by the definition of what
/// it is part of. Floats are their bits, so that not-a-number stays what it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Bool(bool),
    /// `int` and `int8` to `int64`.
    Int(i64),
    /// `uint`, `uint8` to `uint64` and `uintptr`.
    Uint(u64),
    /// `float32` and `float64`.
    Float(u64),
    /// `complex64` and `complex128`: the real and the imaginary part.
    Complex(u64, u64),
    /// `[]byte`.
    Bytes(Vec<u8>),
    /// `string`, which in Go may be any bytes.
    Text(Vec<u8>),
    /// What an interface holds; nil, or a value that brings its type along.
    Interface(Option<Box<Dynamic>>),
    /// A slice or an array.
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// The fields that were sent, by their place in the definition. Go leaves out those that are zero.
    Struct(Vec<(u32, Value)>),
    /// The bytes of a type that encodes itself.
    Encoded(Vec<u8>),
}

/// A value and its concrete type: the name under which Go has registered it, and its number in the gob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dynamic {
    pub(super) name: Box<str>,
    pub(super) id: TypeId,
    pub(super) value: Value,
}

impl Value {
    pub(super) fn dynamic(name: &str, id: TypeId, value: Value) -> Value {
        Value::Interface(Some(Box::new(Dynamic { name: name.into(), id, value })))
    }

    /// What an interface holds, or the value itself where it stands in none.
    pub(super) fn held(&self) -> Option<&Dynamic> {
        match self {
            Value::Interface(held) => held.as_deref(),
            _ => None,
        }
    }
}
