//! Rust values to Go values, with the types that every Go program knows.

use std::fmt;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::error::{Error, Reason};
use crate::types::{EncodedBy, Shape, TypeId, Types};
use crate::value::{Dynamic, Value};
use crate::{GoTime, MAX_DEPTH};

/// Converts a Rust value to what a Go interface holds, and adds its types to `types`.
///
/// `None` is Go's nil: a Rust `None`, a unit, or a unit struct. The types are those that a Go program needs no
/// registration for, or that it commonly registers, such as `[]interface {}` and `map[string]interface {}`.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) if the value has no Go counterpart: an integer beyond 64 bits, a map key
/// that Go cannot compare, more than [`MAX_DEPTH`] levels, or a failing `Serialize`.
pub fn to_dynamic<T: Serialize + ?Sized>(value: &T, types: &mut Types) -> Result<Option<Dynamic>, Error> {
    let mut builder = Builder { types, depth: 0 };
    Ok(value.serialize(&mut builder).map_err(|Refused| Reason::Value)?)
}

/// The error of the conversions. It has no reason, since a reason could quote the value.
#[derive(Debug)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value does not fit")
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Refused
    }
}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Refused
    }
}

/// A serializer that builds a [`Dynamic`].
struct Builder<'t> {
    types: &'t mut Types,
    depth: usize,
}

impl Builder<'_> {
    fn enter(&mut self) -> Result<(), Refused> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Refused) } else { Ok(()) }
    }

    fn list(&mut self, values: Vec<Value>) -> Option<Dynamic> {
        self.depth -= 1;
        let id = self.types.id_of("", Shape::Slice { elem: TypeId::INTERFACE });
        dynamic("[]interface {}", id, Value::List(values))
    }

    /// Builds a map with the narrowest key type of `string`, `int` and `interface {}`.
    fn map(&mut self, entries: Vec<(Dynamic, Value)>) -> Option<Dynamic> {
        self.depth -= 1;
        let all = |name| entries.iter().all(|(key, _)| &*key.name == name);
        let (name, key) = if all("string") {
            ("map[string]interface {}", TypeId::STRING)
        } else if all("int") {
            ("map[int]interface {}", TypeId::INT)
        } else {
            ("map[interface {}]interface {}", TypeId::INTERFACE)
        };
        let id = self.types.id_of("", Shape::Map { key, elem: TypeId::INTERFACE });
        let entry = |(of, value): (Dynamic, Value)| match key {
            TypeId::INTERFACE => (Value::Interface(Some(Box::new(of))), value),
            _ => (of.value, value),
        };
        dynamic(name, id, Value::Map(entries.into_iter().map(entry).collect()))
    }

    fn text(&self, text: &str) -> Option<Dynamic> {
        dynamic("string", TypeId::STRING, Value::Text(text.as_bytes().to_vec()))
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Value, Refused> {
        value.serialize(&mut *self).map(|held| Value::Interface(held.map(Box::new)))
    }
}

fn dynamic(name: &str, id: TypeId, value: Value) -> Option<Dynamic> {
    Some(Dynamic { name: name.into(), id, value })
}

impl<'a, 't> Serializer for &'a mut Builder<'t> {
    /// The value; `None` for nil.
    type Ok = Option<Dynamic>;
    type Error = Refused;
    type SerializeSeq = List<'a, 't>;
    type SerializeTuple = List<'a, 't>;
    type SerializeTupleStruct = List<'a, 't>;
    type SerializeTupleVariant = List<'a, 't>;
    type SerializeMap = Map<'a, 't>;
    type SerializeStruct = Map<'a, 't>;
    type SerializeStructVariant = Map<'a, 't>;

    fn serialize_bool(self, value: bool) -> Result<Self::Ok, Refused> {
        Ok(dynamic("bool", TypeId::BOOL, Value::Bool(value)))
    }

    fn serialize_i8(self, value: i8) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<Self::Ok, Refused> {
        Ok(dynamic("int", TypeId::INT, Value::Int(value)))
    }

    fn serialize_i128(self, value: i128) -> Result<Self::Ok, Refused> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.serialize_u64(u64::try_from(value).map_err(|_| Refused)?),
        }
    }

    fn serialize_u8(self, value: u8) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<Self::Ok, Refused> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<Self::Ok, Refused> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => Ok(dynamic("uint64", TypeId::UINT, Value::Uint(value))),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<Self::Ok, Refused> {
        self.serialize_u64(u64::try_from(value).map_err(|_| Refused)?)
    }

    fn serialize_f32(self, value: f32) -> Result<Self::Ok, Refused> {
        Ok(dynamic("float32", TypeId::FLOAT, Value::Float(f64::from(value).to_bits())))
    }

    fn serialize_f64(self, value: f64) -> Result<Self::Ok, Refused> {
        Ok(dynamic("float64", TypeId::FLOAT, Value::Float(value.to_bits())))
    }

    fn serialize_char(self, value: char) -> Result<Self::Ok, Refused> {
        Ok(self.text(value.encode_utf8(&mut [0; 4])))
    }

    fn serialize_str(self, value: &str) -> Result<Self::Ok, Refused> {
        Ok(self.text(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Self::Ok, Refused> {
        Ok(dynamic("[]uint8", TypeId::BYTES, Value::Bytes(value.to_vec())))
    }

    fn serialize_none(self) -> Result<Self::Ok, Refused> {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Self::Ok, Refused> {
        Ok(None)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Self::Ok, Refused> {
        Ok(None)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Self::Ok, Refused> {
        Ok(self.text(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Refused> {
        if name != GoTime::NAME {
            return value.serialize(self);
        }
        let text = value.serialize(&mut *self)?;
        let Some(Dynamic { value: Value::Text(text), .. }) = text else { return Err(Refused) };
        let time = std::str::from_utf8(&text).ok().and_then(GoTime::parse).ok_or(Refused)?;
        let id = self.types.id_of("Time", Shape::Encoded(EncodedBy::GobEncoder));
        Ok(dynamic("time.Time", id, Value::Encoded(time.to_payload())))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Refused> {
        let mut map = Map::begin(self, None)?;
        SerializeMap::serialize_entry(&mut map, variant, value)?;
        SerializeMap::end(map)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a, 't>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a, 't>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a, 't>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a, 't>, Refused> {
        List::begin(self, Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a, 't>, Refused> {
        Map::begin(self, None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'a, 't>, Refused> {
        Map::begin(self, None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'a, 't>, Refused> {
        Map::begin(self, Some(variant))
    }
}

/// A list under construction. The list of an enum's variant goes into a map under the variant's name.
struct List<'a, 't> {
    builder: &'a mut Builder<'t>,
    variant: Option<&'static str>,
    values: Vec<Value>,
}

impl<'a, 't> List<'a, 't> {
    fn begin(builder: &'a mut Builder<'t>, variant: Option<&'static str>) -> Result<Self, Refused> {
        if variant.is_some() {
            builder.enter()?;
        }
        builder.enter()?;
        Ok(List { builder, variant, values: Vec::new() })
    }

    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.values.push(self.builder.value(value)?);
        Ok(())
    }

    fn finish(self) -> Option<Dynamic> {
        let list = self.builder.list(self.values);
        in_variant(self.builder, self.variant, list)
    }
}

fn in_variant(builder: &mut Builder<'_>, variant: Option<&str>, held: Option<Dynamic>) -> Option<Dynamic> {
    match variant.and_then(|variant| builder.text(variant)) {
        Some(variant) => builder.map(vec![(variant, Value::Interface(held.map(Box::new)))]),
        None => held,
    }
}

/// A map under construction, and the key of the value that comes next.
struct Map<'a, 't> {
    builder: &'a mut Builder<'t>,
    variant: Option<&'static str>,
    entries: Vec<(Dynamic, Value)>,
    key: Option<Dynamic>,
}

impl<'a, 't> Map<'a, 't> {
    fn begin(builder: &'a mut Builder<'t>, variant: Option<&'static str>) -> Result<Self, Refused> {
        if variant.is_some() {
            builder.enter()?;
        }
        builder.enter()?;
        Ok(Map { builder, variant, entries: Vec::new(), key: None })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refused> {
        self.key = self.builder.text(name);
        SerializeMap::serialize_value(self, value)
    }

    fn finish(self) -> Option<Dynamic> {
        let map = self.builder.map(self.entries);
        in_variant(self.builder, self.variant, map)
    }
}

/// Implements the traits of serde for what has several parts: a collector takes each part by one of its methods.
macro_rules! collect {
    ($($trait:ident for $collector:ident: $method:ident($($name:ident)?) is $take:ident;)+) => {$(
        impl $trait for $collector<'_, '_> {
            type Ok = Option<Dynamic>;
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), Refused> {
                self.$take($($name,)? value)
            }

            fn end(self) -> Result<Self::Ok, Refused> {
                Ok(self.finish())
            }
        }
    )+};
}

collect! {
    SerializeSeq for List: serialize_element() is push;
    SerializeTuple for List: serialize_element() is push;
    SerializeTupleStruct for List: serialize_field() is push;
    SerializeTupleVariant for List: serialize_field() is push;
    SerializeStruct for Map: serialize_field(name) is field;
    SerializeStructVariant for Map: serialize_field(name) is field;
}

impl SerializeMap for Map<'_, '_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        // Go cannot compare slices and maps. A nil key would be legal in Go, but no Rust type needs one.
        let key =
            key.serialize(&mut *self.builder)?.filter(|key| key.id.is_basic() && key.id != TypeId::BYTES);
        self.key = Some(key.ok_or(Refused)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let key = self.key.take().ok_or(Refused)?;
        self.entries.push((key, self.builder.value(value)?));
        Ok(())
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}
