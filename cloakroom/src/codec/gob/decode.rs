//! From the bytes of a gob to its one value.

use std::collections::BTreeSet;

use super::error::GobError;
use super::name::GoType;
use super::types::{Fields, Shape, TypeId, Types};
use super::value::{Dynamic, Value};
use super::wire::Reader;
use crate::codec;

/// Values are walked on the stack. An interface is a level of its own, and a session's map stands around them all.
pub(super) const MAX_DEPTH: usize = 2 * codec::MAX_DEPTH + 2;

/// Go's own bound on the name of a concrete type.
const MAX_NAME: usize = 1024;

/// Reads the first value of a gob, with its types. What follows it is passed over, as Go does.
///
/// Every element takes a byte at the least and none is made room for before it is read, so memory stays in proportion to
/// the bytes there are.
pub(super) fn decode(data: &[u8]) -> Result<(Types, TypeId, Value), GobError> {
    let mut decoder = Decoder { reader: Reader::new(data), types: Types::default(), used: BTreeSet::new() };
    let id = decoder.type_of_next(false)?;
    let value = decoder.framed(id, 0)?;
    Ok((decoder.types, id, value))
}

struct Decoder<'a> {
    reader: Reader<'a>,
    types: Types,
    /// The types that are known to be whole.
    used: BTreeSet<TypeId>,
}

impl Decoder<'_> {
    /// Takes in definitions until a value comes, and gives the value's type.
    fn type_of_next(&mut self, in_interface: bool) -> Result<TypeId, GobError> {
        loop {
            if self.reader.at_end() {
                self.reader.next_message()?;
            }
            match self.reader.int()? {
                id @ 0.. => return Ok(TypeId(id)),
                id => self.types.define(id.checked_neg().unwrap_or(0), &mut self.reader)?,
            }
            if !self.reader.at_end() {
                if !in_interface {
                    return Err(GobError::Extra);
                }
                // The length of the rest of a value in a value, which is of use to those alone who skip it.
                self.reader.uint()?;
            }
        }
    }

    /// A value that stands by itself: what is no struct has a zero before it.
    fn framed(&mut self, id: TypeId, depth: usize) -> Result<Value, GobError> {
        self.types.check(id, &mut self.used)?;
        let is_struct = matches!(self.types.shape(id), Some(Shape::Struct { .. }));
        if !is_struct && self.reader.uint()? != 0 {
            return Err(GobError::Delta);
        }
        self.value(id, depth)
    }

    fn value(&mut self, id: TypeId, depth: usize) -> Result<Value, GobError> {
        if depth > MAX_DEPTH {
            return Err(GobError::Depth { max: MAX_DEPTH });
        }
        let reader = &mut self.reader;
        Ok(match id {
            TypeId::BOOL => Value::Bool(reader.uint()? != 0),
            TypeId::INT => Value::Int(reader.int()?),
            TypeId::UINT => Value::Uint(reader.uint()?),
            TypeId::FLOAT => Value::Float(reader.float_bits()?),
            TypeId::COMPLEX => Value::Complex(reader.float_bits()?, reader.float_bits()?),
            TypeId::BYTES => Value::Bytes(reader.bytes("a value of bytes")?.to_vec()),
            TypeId::STRING => Value::Text(reader.bytes("a text")?.to_vec()),
            TypeId::INTERFACE => self.interface(depth)?,
            // A copy of the few numbers: the definitions grow while the value is read.
            _ => match self.types.shape(id).ok_or(GobError::Undefined { id: id.0 })? {
                Shape::Slice { elem } => self.list(*elem, None, depth)?,
                Shape::Array { elem, len } => self.list(*elem, Some(*len), depth)?,
                Shape::Map { key, elem } => self.map(*key, *elem, depth)?,
                Shape::Struct { .. } => self.fields(id, depth)?,
                Shape::Encoded(_) => Value::Encoded(reader.bytes("a value that encodes itself")?.to_vec()),
            },
        })
    }

    fn interface(&mut self, depth: usize) -> Result<Value, GobError> {
        let name = self.reader.bytes("a type's name")?;
        if name.is_empty() {
            return Ok(Value::Interface(None));
        }
        let name = Some(name).filter(|name| name.len() <= MAX_NAME);
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or(GobError::TypeName)?;
        let name: Box<str> = name.into();
        let id = self.type_of_next(true)?;
        // The length of the value, which is of use to those alone who skip it.
        self.reader.uint()?;
        let value = self.framed(id, depth + 1)?;
        GoType::parse(&name).check(&self.types, id, &value)?;
        Ok(Value::Interface(Some(Box::new(Dynamic { name, id, value }))))
    }

    fn list(&mut self, elem: TypeId, len: Option<i64>, depth: usize) -> Result<Value, GobError> {
        let found = self.count("a slice or an array")?;
        if len.is_some_and(|len| i64::try_from(found) != Ok(len)) {
            return Err(GobError::ArrayLength);
        }
        let mut list = Vec::new();
        for _ in 0..found {
            list.push(self.value(elem, depth + 1)?);
        }
        Ok(Value::List(list))
    }

    fn map(&mut self, key: TypeId, elem: TypeId, depth: usize) -> Result<Value, GobError> {
        let found = self.count("a map")?;
        let mut map = Vec::new();
        for _ in 0..found {
            let key = self.value(key, depth + 1)?;
            if !is_comparable(&self.types, &key) {
                return Err(GobError::Key);
            }
            map.push((key, self.value(elem, depth + 1)?));
        }
        Ok(Value::Map(map))
    }

    fn count(&mut self, what: &'static str) -> Result<u64, GobError> {
        let found = self.reader.uint()?;
        // Those in interfaces may be in later messages.
        match found <= self.reader.remaining() {
            true => Ok(found),
            false => Err(GobError::Length { what, found }),
        }
    }

    fn fields(&mut self, id: TypeId, depth: usize) -> Result<Value, GobError> {
        let field_of = |types: &Types, place: usize| match types.shape(id) {
            Some(Shape::Struct { fields }) => fields.get(place).map(|field| field.id),
            _ => None,
        };
        let count = match self.types.shape(id) {
            Some(Shape::Struct { fields }) => fields.len(),
            _ => 0,
        };
        let mut present = Fields::of(count);
        let mut values = Vec::new();
        while let Some(place) = present.next(&mut self.reader)? {
            let field = field_of(&self.types, place).ok_or(GobError::Field)?;
            values.push((place as u32, self.value(field, depth + 1)?));
        }
        Ok(Value::Struct(values))
    }
}

/// Whether Go can compare what an interface holds, as it must to use it as a key. Otherwise Go panics.
fn is_comparable(types: &Types, key: &Value) -> bool {
    match key {
        Value::Interface(Some(held)) => match (&held.value, types.shape(held.id)) {
            (Value::Bytes(_) | Value::Map(_), _) | (_, Some(Shape::Slice { .. })) => false,
            (value, _) => is_comparable(types, value),
        },
        Value::List(list) => list.iter().all(|value| is_comparable(types, value)),
        Value::Struct(fields) => fields.iter().all(|(_, value)| is_comparable(types, value)),
        _ => true,
    }
}
