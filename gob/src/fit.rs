//! Replacing a value while it keeps its Go type: the new value is converted to the type of the old one, where it fits.

use std::collections::BTreeMap;

use crate::GoTime;
use crate::name::{Basic, GoType};
use crate::types::{Field, Shape, TypeId, Types};
use crate::value::{Dynamic, Value};

impl Types {
    /// Converts `new` to the Go type of `old`; if it does not fit that type, it keeps its own.
    ///
    /// - Numbers fit if they are in range and lose nothing.
    /// - A map of field names fits a struct of these fields; fields that it does not name keep their former value.
    /// - RFC 3339 text fits a `time.Time`, and bytes fit every other type that encodes itself.
    ///
    /// `self` are the types of the old value, and `new_types` those of the new one. Types that are new here are added.
    pub fn replace(&mut self, old: Option<&Dynamic>, new: &Dynamic, new_types: &Types) -> Dynamic {
        Fit { types: self, new_types }.replace(new, old)
    }
}

/// The types of both sides of a replacement.
pub(crate) struct Fit<'a> {
    pub(crate) types: &'a mut Types,
    pub(crate) new_types: &'a Types,
}

impl Fit<'_> {
    fn replace(&mut self, new: &Dynamic, old: Option<&Dynamic>) -> Dynamic {
        let kept = old.and_then(|old| {
            let value = self.fit(&new.value, old.id, &GoType::parse(&old.name), Some(&old.value))?;
            Some(Dynamic { name: old.name.clone(), id: old.id, value })
        });
        kept.unwrap_or_else(|| self.adopt(new))
    }

    /// Returns `new` with its own type, under the number that the type has among `self.types`.
    fn adopt(&mut self, new: &Dynamic) -> Dynamic {
        let id = self.types.import(self.new_types, new.id);
        Dynamic { name: new.name.clone(), id, value: self.adopt_value(&new.value) }
    }

    fn adopt_value(&mut self, value: &Value) -> Value {
        match value {
            Value::Interface(Some(held)) => Value::Interface(Some(Box::new(self.adopt(held)))),
            Value::List(list) => Value::List(list.iter().map(|value| self.adopt_value(value)).collect()),
            Value::Map(map) => {
                let entry = |(key, value)| (self.adopt_value(key), self.adopt_value(value));
                Value::Map(map.iter().map(|(key, value)| (key, value)).map(entry).collect())
            }
            plain => plain.clone(),
        }
    }

    /// Converts `new` to the type `id`, which Go calls `go`; `None` if it does not fit.
    ///
    /// Struct fields that `new` does not name are taken from `old`.
    pub(crate) fn fit(
        &mut self,
        new: &Value,
        id: TypeId,
        go: &GoType<'_>,
        old: Option<&Value>,
    ) -> Option<Value> {
        if id == TypeId::INTERFACE {
            let former = old.and_then(Value::held);
            return match new {
                Value::Interface(None) => Some(Value::Interface(None)),
                Value::Interface(Some(held)) => {
                    Some(Value::Interface(Some(Box::new(self.replace(held, former)))))
                }
                // The keys of a map whose keys are all of one basic type.
                Value::Text(_) => Some(Value::dynamic("string", TypeId::STRING, new.clone())),
                Value::Int(_) => Some(Value::dynamic("int", TypeId::INT, new.clone())),
                _ => None,
            };
        }
        let new = match new {
            Value::Interface(held) => &held.as_ref()?.value,
            plain => plain,
        };
        let go = if let GoType::Pointer(to) = go { to } else { go };
        let Some(shape) = self.types.shape(id) else {
            let basic = basic(new, id)?;
            return Some(basic).filter(|value| in_range(go, value));
        };
        match (shape.clone(), new) {
            (Shape::Slice { elem }, Value::List(list)) => self.fit_list(list, elem, go, old),
            (Shape::Array { elem, len }, Value::List(list)) if i64::try_from(list.len()) == Ok(len) => {
                self.fit_list(list, elem, go, old)
            }
            (Shape::Array { elem: TypeId::UINT, len }, Value::Bytes(bytes))
                if i64::try_from(bytes.len()) == Ok(len) =>
            {
                Some(Value::List(bytes.iter().map(|byte| Value::Uint(u64::from(*byte))).collect()))
            }
            (Shape::Map { key, elem }, Value::Map(map)) => self.fit_map(map, (key, elem), go, old),
            (Shape::Struct { fields }, Value::Map(map)) => self.fit_struct(map, &fields, old),
            (Shape::Encoded(_), new) => self.fit_encoded(new, id, old),
            _ => None,
        }
    }

    fn fit_list(
        &mut self,
        list: &[Value],
        elem: TypeId,
        go: &GoType<'_>,
        old: Option<&Value>,
    ) -> Option<Value> {
        let unknown = GoType::Named("");
        let of = match go {
            GoType::Slice(of) | GoType::Array(_, of) => of,
            _ => &unknown,
        };
        let former = |place: usize| match old {
            Some(Value::List(list)) => list.get(place),
            _ => None,
        };
        let fitted = list.iter().enumerate().map(|(place, new)| self.fit(new, elem, of, former(place)));
        fitted.collect::<Option<_>>().map(Value::List)
    }

    fn fit_map(
        &mut self,
        map: &[(Value, Value)],
        (key, elem): (TypeId, TypeId),
        go: &GoType<'_>,
        old: Option<&Value>,
    ) -> Option<Value> {
        let unknown = GoType::Named("");
        let (of_keys, of) = match go {
            GoType::Map(of_keys, of) => (&**of_keys, &**of),
            _ => (&unknown, &unknown),
        };
        let former: BTreeMap<_, _> = match old {
            Some(Value::Map(map)) => map.iter().map(|(key, value)| (plain(key), value)).collect(),
            _ => BTreeMap::new(),
        };
        let mut entries = Vec::with_capacity(map.len());
        for (name, new) in map {
            let name = self.fit(name, key, of_keys, None)?;
            let value = self.fit(new, elem, of, former.get(&plain(&name)).copied())?;
            entries.push((name, value));
        }
        Some(Value::Map(entries))
    }

    fn fit_struct(&mut self, map: &[(Value, Value)], fields: &[Field], old: Option<&Value>) -> Option<Value> {
        let mut values: BTreeMap<u32, Value> = match old {
            Some(Value::Struct(values)) => values.iter().cloned().collect(),
            _ => BTreeMap::new(),
        };
        for (name, new) in map {
            let Value::Text(name) = name else { return None };
            let place = fields.iter().position(|field| *field.name == **name)?;
            let former = values.remove(&(place as u32));
            if matches!(new, Value::Interface(None)) {
                continue;
            }
            let value = self.fit(new, fields[place].id, &GoType::Named(""), former.as_ref())?;
            if !is_zero(&value) {
                values.insert(place as u32, value);
            }
        }
        Some(Value::Struct(values.into_iter().collect()))
    }

    /// Converts text to a time, and bytes to any other type that encodes itself.
    fn fit_encoded(&mut self, new: &Value, id: TypeId, old: Option<&Value>) -> Option<Value> {
        let is_time = self.types.definition(id).is_some_and(|definition| &*definition.name == b"Time")
            && old
                .is_none_or(|old| matches!(old, Value::Encoded(old) if GoTime::from_payload(old).is_some()));
        match new {
            Value::Encoded(payload) if is_time => Some(Value::Encoded(payload.clone())),
            Value::Text(text) if is_time => {
                let time = std::str::from_utf8(text).ok().and_then(GoTime::parse)?;
                Some(Value::Encoded(time.to_payload()))
            }
            new if !is_time => match basic(new, TypeId::BYTES)? {
                Value::Bytes(payload) => Some(Value::Encoded(payload)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Converts `new` to one of gob's basic types.
fn basic(new: &Value, id: TypeId) -> Option<Value> {
    match (id, new) {
        (TypeId::BOOL, Value::Bool(_)) | (TypeId::STRING, Value::Text(_)) => Some(new.clone()),
        (TypeId::INT, Value::Int(_)) | (TypeId::UINT, Value::Uint(_)) => Some(new.clone()),
        (TypeId::INT, Value::Uint(number)) => i64::try_from(*number).ok().map(Value::Int),
        (TypeId::UINT, Value::Int(number)) => u64::try_from(*number).ok().map(Value::Uint),
        (TypeId::FLOAT, new) => float(new).map(Value::Float),
        (TypeId::BYTES, Value::Bytes(_)) => Some(new.clone()),
        // Serde serializes a `Vec<u8>` as a list.
        (TypeId::BYTES, Value::List(list)) => {
            let byte = |value: &Value| match value.held().map(|held| &held.value) {
                Some(Value::Int(number)) => u8::try_from(*number).ok(),
                _ => None,
            };
            list.iter().map(byte).collect::<Option<_>>().map(Value::Bytes)
        }
        (TypeId::COMPLEX, Value::List(list)) => match &list[..] {
            [real, imaginary] => Some(Value::Complex(float(real)?, float(imaginary)?)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the bits of a float, or of a whole number that a float holds exactly.
fn float(new: &Value) -> Option<u64> {
    /// Above this, neighbouring whole numbers share one float.
    const EXACT: u64 = 1 << 53;
    match new {
        Value::Float(bits) => Some(*bits),
        Value::Int(number) if number.unsigned_abs() <= EXACT => Some((*number as f64).to_bits()),
        Value::Interface(Some(held)) => float(&held.value),
        _ => None,
    }
}

/// Returns true if a number is in the range of `go`. A float32 must lose nothing.
fn in_range(go: &GoType<'_>, value: &Value) -> bool {
    let exact = |bits: u64| {
        let float = f64::from_bits(bits);
        float.is_nan() || f64::from(float as f32).to_bits() == bits
    };
    match (go, value) {
        (GoType::Basic(Basic::Float(32)), Value::Float(bits)) => exact(*bits),
        (GoType::Basic(Basic::Complex(64)), Value::Complex(real, imaginary)) => {
            exact(*real) && exact(*imaginary)
        }
        (GoType::Basic(basic), value) => basic.holds(value),
        // Gob does not send the width of a named type.
        _ => true,
    }
}

/// Returns true for a value that Go omits from a struct.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Float(bits) => f64::from_bits(*bits) == 0.0,
        Value::Complex(real, imaginary) => f64::from_bits(*real) == 0.0 && f64::from_bits(*imaginary) == 0.0,
        Value::Bytes(bytes) | Value::Text(bytes) => bytes.is_empty(),
        Value::Interface(held) => held.is_none(),
        Value::List(list) => list.is_empty(),
        Value::Map(_) | Value::Struct(_) | Value::Encoded(_) => false,
    }
}

/// Returns the text of a key without its interface, to compare keys of a typed map with those of an untyped one.
fn plain(key: &Value) -> String {
    format!("{:?}", key.held().map_or(key, |held| &held.value))
}
