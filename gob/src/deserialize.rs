//! Go values to Rust values.

use std::cell::Cell;

use serde::de::value::{MapAccessDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::GoTime;
use crate::decode::MAX_DECODED_DEPTH;
use crate::error::{Error, Reason};
use crate::serialize::Refused;
use crate::types::{Field, Shape, TypeId, Types};
use crate::value::Value;

/// Converts a Go value of the type `id` to a Rust value.
///
/// - A struct is a map by field name. A field that is zero in Go was not sent: it is the zero of its type here, or `None`.
/// - A `time.Time` is RFC 3339 text or a [`GoTime`].
/// - A `[]byte` is bytes, or a sequence of numbers for a type that asks for one, such as `Vec<u8>`.
/// - An enum's variant is its name, or a map from its name to its content, as [`to_dynamic`](crate::to_dynamic) writes it.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) if the Go value has another shape than `T` asks for.
pub fn from_value<T: DeserializeOwned>(types: &Types, id: TypeId, value: &Value) -> Result<T, Error> {
    let context = Context { types, zeros: Cell::new(0) };
    let node = Node { context: &context, id, seen: Seen::There(value), zeros: 0 };
    Ok(T::deserialize(node).map_err(|Refused| Reason::Value)?)
}

/// The bound on the zeros that one conversion fills in for values that were not sent. A few bytes can define structs of
/// structs with endless zeros; real data needs far less.
const MAX_ZEROS: u32 = 4096;

/// The types of a gob, and the number of zeros filled in so far.
struct Context<'a> {
    types: &'a Types,
    zeros: Cell<u32>,
}

impl Context<'_> {
    fn count_zero(&self) -> Result<(), Refused> {
        self.zeros.set(self.zeros.get() + 1);
        if self.zeros.get() > MAX_ZEROS { Err(Refused) } else { Ok(()) }
    }
}

/// A value and its type.
#[derive(Clone, Copy)]
struct Node<'a> {
    context: &'a Context<'a>,
    id: TypeId,
    seen: Seen<'a>,
    /// The number of zeros around this one. They are walked on the stack, like the values that were sent.
    zeros: usize,
}

#[derive(Clone, Copy)]
enum Seen<'a> {
    There(&'a Value),
    /// A field that was not sent, since it is zero.
    Zero,
}

/// The kind of a type, to build its zero.
enum Kind<'a> {
    Basic,
    List(TypeId, i64),
    Map,
    Struct(&'a [Field]),
    Encoded,
}

impl<'a> Node<'a> {
    fn at(self, id: TypeId, value: &'a Value) -> Node<'a> {
        Node { id, seen: Seen::There(value), ..self }
    }

    /// Returns the content of an interface, and any other value itself; `None` for nil.
    fn open(self) -> Option<Node<'a>> {
        match self.seen {
            Seen::There(Value::Interface(None)) => None,
            Seen::There(Value::Interface(Some(held))) => self.at(held.id, &held.value).open(),
            Seen::Zero if self.id == TypeId::INTERFACE => None,
            _ => Some(self),
        }
    }

    fn kind(self) -> Kind<'a> {
        match self.context.types.shape(self.id) {
            None => Kind::Basic,
            Some(Shape::Slice { elem }) => Kind::List(*elem, 0),
            Some(Shape::Array { elem, len }) => Kind::List(*elem, *len),
            Some(Shape::Map { .. }) => Kind::Map,
            Some(Shape::Struct { fields }) => Kind::Struct(fields),
            Some(Shape::Encoded(_)) => Kind::Encoded,
        }
    }

    fn parts(self) -> (TypeId, TypeId) {
        match self.context.types.shape(self.id) {
            Some(Shape::Slice { elem } | Shape::Array { elem, .. }) => (*elem, *elem),
            Some(Shape::Map { key, elem }) => (*key, *elem),
            _ => (TypeId::INTERFACE, TypeId::INTERFACE),
        }
    }

    /// Returns the time that a self-encoded value is, if it is one.
    fn time(self, payload: &[u8]) -> Option<GoTime> {
        let name = self.context.types.definition(self.id).map(|definition| &*definition.name);
        // An application may have its own type `Time`, but its bytes hardly decode as Go's.
        GoTime::from_payload(payload).filter(|_| name == Some(b"Time"))
    }

    fn zero_time(self) -> bool {
        self.context.types.definition(self.id).is_some_and(|definition| &*definition.name == b"Time")
    }

    fn zero<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.context.count_zero()?;
        if self.zeros > MAX_DECODED_DEPTH {
            return Err(Refused);
        }
        match (self.kind(), self.id) {
            (Kind::Basic, TypeId::BOOL) => visitor.visit_bool(false),
            (Kind::Basic, TypeId::INT) => visitor.visit_i64(0),
            (Kind::Basic, TypeId::UINT) => visitor.visit_u64(0),
            (Kind::Basic, TypeId::FLOAT) => visitor.visit_f64(0.0),
            (Kind::Basic, TypeId::COMPLEX) => visitor.visit_seq(floats([0, 0])),
            (Kind::Basic, TypeId::BYTES) => visitor.visit_bytes(b""),
            (Kind::Basic, TypeId::STRING) => visitor.visit_str(""),
            (Kind::Basic, _) => visitor.visit_unit(),
            (Kind::List(elem, len), _) => {
                let node = Node { id: elem, seen: Seen::Zero, zeros: self.zeros + 1, ..self };
                visitor.visit_seq(Repeat { node, left: len })
            }
            (Kind::Map, _) => visitor.visit_map(Pairs { node: self, left: [].iter(), value: None }),
            // A struct that contains itself does so by a pointer, which is nil here.
            (Kind::Struct(_), _) if self.context.types.leads_to_itself(self.id) => visitor.visit_unit(),
            (Kind::Struct(fields), _) => visitor.visit_map(Members { node: self, fields, next: 0 }),
            (Kind::Encoded, _) if self.zero_time() => visitor.visit_str("0001-01-01T00:00:00Z"),
            (Kind::Encoded, _) => visitor.visit_bytes(b""),
        }
    }
}

fn floats(bits: [u64; 2]) -> SeqDeserializer<std::array::IntoIter<f64, 2>, Refused> {
    SeqDeserializer::new(bits.map(f64::from_bits).into_iter())
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let Some(node) = self.open() else { return visitor.visit_unit() };
        let value = match node.seen {
            Seen::There(value) => value,
            Seen::Zero => return node.zero(visitor),
        };
        match value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Uint(value) => visitor.visit_u64(*value),
            Value::Float(bits) => visitor.visit_f64(f64::from_bits(*bits)),
            Value::Complex(real, imaginary) => visitor.visit_seq(floats([*real, *imaginary])),
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => visitor.visit_str(text),
                Err(_) => visitor.visit_bytes(bytes),
            },
            Value::Encoded(payload) => match node.time(payload) {
                Some(time) => visitor.visit_str(&time.to_string()),
                None => visitor.visit_bytes(payload),
            },
            Value::List(list) => visitor.visit_seq(Elements { node, left: list.iter() }),
            Value::Map(map) => visitor.visit_map(Pairs { node, left: map.iter(), value: None }),
            Value::Struct(_) => match node.kind() {
                Kind::Struct(fields) => visitor.visit_map(Members { node, fields, next: 0 }),
                _ => Err(Refused),
            },
            Value::Interface(_) => Err(Refused),
        }
    }

    /// A field that was not sent is `None`: Go does not send a nil pointer.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.open() {
            None => visitor.visit_none(),
            Some(Node { seen: Seen::Zero, .. }) => visitor.visit_none(),
            Some(node) => visitor.visit_some(node),
        }
    }

    /// Bytes become a sequence of numbers for a type that asks for one, as `Vec<u8>` does.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.open().map(|node| node.seen) {
            Some(Seen::There(Value::Bytes(bytes) | Value::Encoded(bytes))) => {
                visitor.visit_seq(SeqDeserializer::<_, Refused>::new(bytes.iter().copied()))
            }
            Some(Seen::Zero) if matches!(self.kind(), Kind::Basic) && self.id == TypeId::BYTES => {
                visitor.visit_seq(SeqDeserializer::<_, Refused>::new(std::iter::empty::<u8>()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    /// Returns the raw bytes, also of a string and of a type that encodes itself, such as a time.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.open().map(|node| node.seen) {
            Some(Seen::There(Value::Bytes(bytes) | Value::Text(bytes) | Value::Encoded(bytes))) => {
                visitor.visit_bytes(bytes)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    /// A variant is its name, or a map from its name to its content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let node = self.open().ok_or(Refused)?;
        match node.seen {
            Seen::There(Value::Text(name)) => {
                let name = std::str::from_utf8(name).map_err(|_| Refused)?;
                visitor.visit_enum(StrDeserializer::<Refused>::new(name))
            }
            Seen::There(Value::Map(map)) if map.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Pairs { node, left: map.iter(), value: None }))
            }
            _ => Err(Refused),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct map struct identifier
        ignored_any
    }
}

struct Elements<'a> {
    node: Node<'a>,
    left: std::slice::Iter<'a, Value>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(value) = self.left.next() else { return Ok(None) };
        seed.deserialize(self.node.at(self.node.parts().0, value)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The elements of an array that was not sent.
struct Repeat<'a> {
    node: Node<'a>,
    left: i64,
}

impl<'de> SeqAccess<'de> for Repeat<'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        if self.left <= 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.node).map(Some)
    }
}

struct Pairs<'a> {
    node: Node<'a>,
    left: std::slice::Iter<'a, (Value, Value)>,
    value: Option<&'a Value>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((key, value)) = self.left.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(self.node.at(self.node.parts().0, key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let value = self.value.take().ok_or(Refused)?;
        seed.deserialize(self.node.at(self.node.parts().1, value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The fields of a struct, including those that were not sent.
struct Members<'a> {
    node: Node<'a>,
    fields: &'a [Field],
    next: usize,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some(field) = self.fields.get(self.next) else { return Ok(None) };
        let name = std::str::from_utf8(&field.name).map_err(|_| Refused)?;
        seed.deserialize(StrDeserializer::<Refused>::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let (place, field) = (self.next as u32, self.fields.get(self.next).ok_or(Refused)?);
        self.next += 1;
        let sent = match self.node.seen {
            Seen::There(Value::Struct(values)) => {
                values.binary_search_by_key(&place, |(place, _)| *place).ok().map(|found| &values[found].1)
            }
            _ => None,
        };
        let seen = sent.map_or(Seen::Zero, Seen::There);
        let zeros = if sent.is_some() { 0 } else { self.node.zeros + 1 };
        seed.deserialize(Node { id: field.id, seen, zeros, ..self.node })
    }
}
