//! From Rust values to Go's: the types that a new key gets.

use std::fmt;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::GoTime;
use super::types::{Interface, Shape, TypeId, Types};
use super::value::{Dynamic, Value};
use crate::codec::MAX_DEPTH;

/// Why a value has no Go counterpart. Without a reason: that could quote the value.
#[derive(Debug)]
pub(super) struct Refused;

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

/// Builds a value of the types that every Beego process knows: gob's basic ones and those that Beego registers at its start.
pub(super) struct Builder {
    pub(super) types: Types,
    depth: usize,
    pub(super) deepest: usize,
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder { types: Types::default(), depth: 0, deepest: 0 }
    }

    fn enter(&mut self) -> Result<(), Refused> {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        if self.depth > MAX_DEPTH { Err(Refused) } else { Ok(()) }
    }

    fn list(&mut self, values: Vec<Value>) -> Option<Dynamic> {
        self.depth -= 1;
        let id = self.types.id_of("", Shape::Slice { elem: TypeId::INTERFACE });
        dynamic("[]interface {}", id, Value::List(values))
    }

    /// The narrowest of the maps that are registered everywhere.
    fn map(&mut self, entries: Vec<(Dynamic, Value)>) -> Option<Dynamic> {
        self.depth -= 1;
        let all = |name| entries.iter().all(|(key, _)| &*key.name == name);
        let (name, key) = match () {
            () if all("string") => ("map[string]interface {}", TypeId::STRING),
            () if all("int") => ("map[int]interface {}", TypeId::INT),
            () => ("map[interface {}]interface {}", TypeId::INTERFACE),
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

impl<'a> Serializer for &'a mut Builder {
    /// `None` is nil.
    type Ok = Option<Dynamic>;
    type Error = Refused;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Map<'a>;
    type SerializeStructVariant = Map<'a>;

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
        let id = self.types.id_of("Time", Shape::Encoded(Interface::GobEncoder));
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

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a>, Refused> {
        List::begin(self, None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a>, Refused> {
        List::begin(self, Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, Refused> {
        Map::begin(self, None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'a>, Refused> {
        Map::begin(self, None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'a>, Refused> {
        Map::begin(self, Some(variant))
    }
}

/// A list under way. One of an enum's variant goes into a map of the variant's name.
pub(super) struct List<'a> {
    builder: &'a mut Builder,
    variant: Option<&'static str>,
    values: Vec<Value>,
}

impl<'a> List<'a> {
    fn begin(builder: &'a mut Builder, variant: Option<&'static str>) -> Result<Self, Refused> {
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

fn in_variant(builder: &mut Builder, variant: Option<&str>, held: Option<Dynamic>) -> Option<Dynamic> {
    match variant.and_then(|variant| builder.text(variant)) {
        Some(variant) => builder.map(vec![(variant, Value::Interface(held.map(Box::new)))]),
        None => held,
    }
}

/// A map under way, and the key whose value comes next.
pub(super) struct Map<'a> {
    builder: &'a mut Builder,
    variant: Option<&'static str>,
    entries: Vec<(Dynamic, Value)>,
    key: Option<Dynamic>,
}

impl<'a> Map<'a> {
    fn begin(builder: &'a mut Builder, variant: Option<&'static str>) -> Result<Self, Refused> {
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

impl SerializeSeq for List<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}

impl SerializeTuple for List<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}

impl SerializeTupleStruct for List<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}

impl SerializeTupleVariant for List<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.push(value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}

impl SerializeMap for Map<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        // Go cannot compare slices and maps, and a nil key is of use to nobody.
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

impl SerializeStruct for Map<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.field(name, value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}

impl SerializeStructVariant for Map<'_> {
    type Ok = Option<Dynamic>;
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.field(name, value)
    }

    fn end(self) -> Result<Self::Ok, Refused> {
        Ok(self.finish())
    }
}
