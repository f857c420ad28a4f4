//! From a value to the bytes of a gob, message by message as Go writes them.

use std::collections::BTreeSet;

use crate::error::Reason;
use crate::types::{Shape, TypeId, Types, put_definition};
use crate::value::{Dynamic, Value};
use crate::wire::{put_bytes, put_float_bits, put_int, put_message, put_uint};

/// Appends the gob of one value. `types` holds the type `id` and all its parts.
pub(crate) fn encode(types: &Types, id: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut encoder = Encoder { types, sent: BTreeSet::new() };
    let mut message = Vec::new();
    encoder.define(id, &mut message, out)?;
    put_int(&mut message, id.0);
    encoder.framed(id, value, &mut message, out)?;
    put_message(out, &mut message);
    Ok(())
}

struct Encoder<'a> {
    types: &'a Types,
    sent: BTreeSet<TypeId>,
}

impl Encoder<'_> {
    /// Defines `id` and its parts, each in its own message. The bytes that `message` already holds go out with the
    /// first of them.
    fn define(&mut self, id: TypeId, message: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Reason> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if id.is_basic() || !self.sent.insert(id) {
                continue;
            }
            let definition = self.types.definition(id).ok_or(Reason::Undefined { id: id.0 })?;
            put_definition(message, id, definition);
            put_message(out, message);
            // The stack is last in, first out, and Go sends the first part first.
            open.extend(definition.shape.parts().into_iter().rev());
        }
        Ok(())
    }

    fn framed(
        &mut self,
        id: TypeId,
        value: &Value,
        message: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        if !matches!(self.types.shape(id), Some(Shape::Struct { .. })) {
            message.push(0);
        }
        self.value(id, value, message, out)
    }

    fn value(
        &mut self,
        id: TypeId,
        value: &Value,
        message: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        match (value, self.types.shape(id)) {
            (Value::Bool(value), _) => message.push(u8::from(*value)),
            (Value::Int(value), _) => put_int(message, *value),
            (Value::Uint(value), _) => put_uint(message, *value),
            (Value::Float(bits), _) => put_float_bits(message, *bits),
            (Value::Complex(real, imaginary), _) => {
                put_float_bits(message, *real);
                put_float_bits(message, *imaginary);
            }
            (Value::Bytes(bytes) | Value::Text(bytes) | Value::Encoded(bytes), _) => {
                put_bytes(message, bytes)
            }
            (Value::Interface(None), _) => message.push(0),
            (Value::Interface(Some(held)), _) => self.interface(held, message, out)?,
            (Value::List(list), Some(Shape::Slice { elem } | Shape::Array { elem, .. })) => {
                put_uint(message, list.len() as u64);
                for value in list {
                    self.value(*elem, value, message, out)?;
                }
            }
            (Value::Map(map), Some(Shape::Map { key: of_keys, elem })) => {
                put_uint(message, map.len() as u64);
                for (key, value) in map {
                    self.value(*of_keys, key, message, out)?;
                    self.value(*elem, value, message, out)?;
                }
            }
            (Value::Struct(values), Some(Shape::Struct { fields })) => {
                let mut last = 0;
                for (place, value) in values {
                    let field = fields.get(*place as usize).ok_or(Reason::Field)?;
                    put_uint(message, u64::from(place + 1 - last));
                    last = place + 1;
                    self.value(field.id, value, message, out)?;
                }
                message.push(0);
            }
            (Value::List(_) | Value::Map(_) | Value::Struct(_), _) => return Err(Reason::Mismatch),
        }
        Ok(())
    }

    fn interface(&mut self, held: &Dynamic, message: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Reason> {
        put_bytes(message, held.name.as_bytes());
        self.define(held.id, message, out)?;
        put_int(message, held.id.0);
        let mut inner = Vec::new();
        // A type that first occurs within this value is defined at the place of the value.
        self.framed(held.id, &held.value, &mut inner, message)?;
        put_message(message, &mut inner);
        Ok(())
    }
}
