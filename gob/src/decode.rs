//! From the bytes of a gob to its one value.

use std::collections::BTreeSet;

use crate::MAX_DEPTH;
use crate::error::Reason;
use crate::name::GoType;
use crate::types::{Fields, Shape, TypeId, Types};
use crate::value::{Dynamic, Value};
use crate::wire::Reader;

/// The bound on the nesting of a decoded value, since values are walked on the stack.
///
/// An interface counts as a level of its own. A value of [`MAX_DEPTH`] levels in interfaces, and a map around it, is
/// within the bound.
pub const MAX_DECODED_DEPTH: usize = 2 * MAX_DEPTH + 2;

/// Go's bound on the name of a concrete type: `decodeInterface` in encoding/gob.
const MAX_NAME: usize = 1024;

/// Reads the first value of a gob, with its types. Like Go, it ignores what follows.
///
/// Every element takes at least one byte, and no room is reserved before it is read. So memory stays proportional to
/// the input.
pub(crate) fn decode(data: &[u8]) -> Result<(Types, TypeId, Value), Reason> {
    let mut decoder = Decoder { reader: Reader::new(data), types: Types::default(), used: BTreeSet::new() };
    let id = decoder.type_of_next(false)?;
    let value = decoder.framed(id, 0)?;
    Ok((decoder.types, id, value))
}

struct Decoder<'a> {
    reader: Reader<'a>,
    types: Types,
    /// The types whose parts are known to be defined.
    used: BTreeSet<TypeId>,
}

impl Decoder<'_> {
    /// Reads definitions until a value comes, and returns the type of that value.
    fn type_of_next(&mut self, in_interface: bool) -> Result<TypeId, Reason> {
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
                    return Err(Reason::Extra);
                }
                // The length of the rest of the inner value. Only a reader that skips it needs the length.
                self.reader.uint()?;
            }
        }
    }

    /// Reads a value that is not part of another: a zero byte precedes everything but a struct.
    fn framed(&mut self, id: TypeId, depth: usize) -> Result<Value, Reason> {
        self.types.check(id, &mut self.used)?;
        let is_struct = matches!(self.types.shape(id), Some(Shape::Struct { .. }));
        if !is_struct && self.reader.uint()? != 0 {
            return Err(Reason::Delta);
        }
        self.value(id, depth)
    }

    fn value(&mut self, id: TypeId, depth: usize) -> Result<Value, Reason> {
        if depth > MAX_DECODED_DEPTH {
            return Err(Reason::Depth);
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
            // The type numbers are copied, since the definitions grow while the value is read.
            _ => match self.types.shape(id).ok_or(Reason::Undefined { id: id.0 })? {
                Shape::Slice { elem } => self.list(*elem, None, depth)?,
                Shape::Array { elem, len } => self.list(*elem, Some(*len), depth)?,
                Shape::Map { key, elem } => self.map(*key, *elem, depth)?,
                Shape::Struct { .. } => self.fields(id, depth)?,
                Shape::Encoded(_) => Value::Encoded(reader.bytes("a value that encodes itself")?.to_vec()),
            },
        })
    }

    fn interface(&mut self, depth: usize) -> Result<Value, Reason> {
        let name = self.reader.bytes("a type's name")?;
        if name.is_empty() {
            return Ok(Value::Interface(None));
        }
        let name = Some(name).filter(|name| name.len() <= MAX_NAME);
        let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or(Reason::TypeName)?;
        let name: Box<str> = name.into();
        let id = self.type_of_next(true)?;
        // The length of the value. Only a reader that skips it needs the length.
        self.reader.uint()?;
        let value = self.framed(id, depth + 1)?;
        GoType::parse(&name).check(&self.types, id, &value)?;
        Ok(Value::Interface(Some(Box::new(Dynamic { name, id, value }))))
    }

    fn list(&mut self, elem: TypeId, len: Option<i64>, depth: usize) -> Result<Value, Reason> {
        let found = self.count("a slice or an array")?;
        if len.is_some_and(|len| i64::try_from(found) != Ok(len)) {
            return Err(Reason::ArrayLength);
        }
        let mut list = Vec::new();
        for _ in 0..found {
            list.push(self.value(elem, depth + 1)?);
        }
        Ok(Value::List(list))
    }

    fn map(&mut self, key: TypeId, elem: TypeId, depth: usize) -> Result<Value, Reason> {
        let found = self.count("a map")?;
        let mut map = Vec::new();
        for _ in 0..found {
            let key = self.value(key, depth + 1)?;
            if !is_comparable(&self.types, &key) {
                return Err(Reason::Key);
            }
            map.push((key, self.value(elem, depth + 1)?));
        }
        Ok(Value::Map(map))
    }

    fn count(&mut self, what: &'static str) -> Result<u64, Reason> {
        let found = self.reader.uint()?;
        // Values in interfaces may be in later messages.
        if found > self.reader.remaining() {
            return Err(Reason::Length { what, found });
        }
        Ok(found)
    }

    fn fields(&mut self, id: TypeId, depth: usize) -> Result<Value, Reason> {
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
            let field = field_of(&self.types, place).ok_or(Reason::Field)?;
            values.push((place as u32, self.value(field, depth + 1)?));
        }
        Ok(Value::Struct(values))
    }
}

/// Returns true if Go can compare the value, as it must for a map key. Go panics at a key that it cannot compare.
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
