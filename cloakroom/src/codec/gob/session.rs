//! A session of Go's: its types and its entries, and what stands around them.

use std::borrow::Cow;
use std::collections::HashMap;

use super::decode::decode;
use super::encode::encode;
use super::error::GobError;
use super::key;
use super::time::GoTime;
use super::types::{Field, Interface, Shape, TypeId, Types};
use super::value::Value;

/// What a session's gob is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Envelope {
    /// `map[interface{}]interface{}`: Beego, and gorilla/sessions.
    Map,
    /// `struct{Deadline time.Time; Values map[string]interface{}}`: scs.
    Deadline,
}

impl Envelope {
    /// Whether a key, in an interface, has a place in the map: that of scs has strings alone.
    pub(super) fn takes(self, key: &Value) -> bool {
        self == Envelope::Map || key.held().is_some_and(|held| matches!(held.value, Value::Text(_)))
    }
}

/// A session as it was read. Types keep the numbers that they had, and what is not replaced goes back as it came.
pub(super) struct Session {
    pub(super) types: Types,
    pub(super) entries: Vec<(Value, Value)>,
    /// The type of the whole.
    top: TypeId,
    around: Around,
}

#[derive(PartialEq)]
enum Around {
    Nothing,
    /// The struct's other fields, and the place of the map among them.
    Fields {
        before: Vec<(u32, Value)>,
        map: u32,
        behind: Vec<(u32, Value)>,
    },
}

const ANY_MAP: Shape = Shape::Map { key: TypeId::INTERFACE, elem: TypeId::INTERFACE };
const TEXT_MAP: Shape = Shape::Map { key: TypeId::STRING, elem: TypeId::INTERFACE };

impl Session {
    const SCS: &str = "a gob of struct{Deadline; Values map[string]interface{}}";

    /// Reads a session. No bytes at all are one without keys.
    pub(super) fn parse(data: &[u8], envelope: Envelope) -> Result<Session, GobError> {
        if data.is_empty() {
            return Ok(Session::empty(envelope));
        }
        let (types, top, value) = decode(data)?;
        let mut session = match envelope {
            Envelope::Map => Session::in_map(types, top, value)?,
            Envelope::Deadline => Session::in_struct(types, top, value)?,
        };
        session.drop_repeated();
        Ok(session)
    }

    /// A session of one entry.
    pub(super) fn of_one(mut types: Types, key: Value, value: Value) -> Session {
        let top = types.id_of("", ANY_MAP);
        Session { types, entries: vec![(key, value)], top, around: Around::Nothing }
    }

    /// The entry at `place` as a session of its own.
    pub(super) fn into_one(mut self, place: usize) -> Session {
        let (key, value) = self.entries.swap_remove(place);
        let key = match key {
            Value::Text(_) => Value::dynamic("string", TypeId::STRING, key),
            other => other,
        };
        Session::of_one(self.types, key, value)
    }

    fn empty(envelope: Envelope) -> Session {
        let mut types = Types::default();
        let (top, around) = match envelope {
            Envelope::Map => (types.id_of("", ANY_MAP), Around::Nothing),
            Envelope::Deadline => {
                let time = types.id_of("Time", Shape::Encoded(Interface::GobEncoder));
                let map = types.id_of("", TEXT_MAP);
                let field = |name: &str, id| Field { name: name.as_bytes().into(), id };
                let fields = [field("Deadline", time), field("Values", map)].into();
                let around = Around::Fields { before: Vec::new(), map: 1, behind: Vec::new() };
                (types.id_of("", Shape::Struct { fields }), around)
            }
        };
        Session { types, entries: Vec::new(), top, around }
    }

    fn in_map(types: Types, top: TypeId, value: Value) -> Result<Session, GobError> {
        match value {
            Value::Map(entries) if types.shape(top) == Some(&ANY_MAP) => {
                Ok(Session { types, entries, top, around: Around::Nothing })
            }
            _ => Err(GobError::Top { expected: "a gob of map[interface{}]interface{}" }),
        }
    }

    fn in_struct(types: Types, top: TypeId, value: Value) -> Result<Session, GobError> {
        let wrong = || GobError::Top { expected: Self::SCS };
        let (Some(Shape::Struct { fields }), Value::Struct(values)) = (types.shape(top), value) else {
            return Err(wrong());
        };
        let is_map = |field: &Field| *field.name == *b"Values" && types.shape(field.id) == Some(&TEXT_MAP);
        let map = fields.iter().position(is_map).ok_or_else(wrong)? as u32;
        let (mut before, mut behind, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for (place, value) in values {
            match value {
                Value::Map(found) if place == map => entries = found,
                value if place < map => before.push((place, value)),
                value => behind.push((place, value)),
            }
        }
        Ok(Session { types, entries, top, around: Around::Fields { before, map, behind } })
    }

    /// Of a key that stands twice, Go takes the last value. Pointers, and what holds not-a-number, are never the same key, and a struct may hold
    /// either: of all but plain keys every entry stays.
    fn drop_repeated(&mut self) {
        let mut places: HashMap<&Value, usize> = HashMap::with_capacity(self.entries.len());
        let mut last = Vec::with_capacity(self.entries.len());
        for (place, (key, _)) in self.entries.iter().enumerate() {
            let former = if is_plain(key) { places.insert(key, place) } else { None };
            last.push(true);
            if let Some(former) = former {
                last[former] = false;
            }
        }
        if last.contains(&false) {
            let mut last = last.into_iter();
            self.entries.retain(|_| last.next().unwrap_or(true));
        }
    }

    /// Where the entry is whose key has this text.
    pub(super) fn position(&self, text: &str) -> Option<usize> {
        if !text.starts_with(key::MARK) {
            return self.entries.iter().position(|(found, _)| key::to_text(found) == text);
        }
        self.names().position(|name| name == text)
    }

    /// The text of each key, in the order of storage. The second of two keys that look alike, and are not the same in Go, ends in `#2`.
    pub(super) fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let mut met: HashMap<Cow<'_, str>, usize> = HashMap::new();
        self.entries.iter().map(move |(found, _)| {
            let name = key::to_text(found);
            if !name.starts_with(key::MARK) {
                return name;
            }
            let alike = met.entry(name.clone()).or_default();
            *alike += 1;
            if *alike == 1 { name } else { format!("{name}#{alike}").into() }
        })
    }

    /// Adds an entry, whose key is in an interface.
    pub(super) fn push(&mut self, key: Value, value: Value) -> Result<(), GobError> {
        let key = match (&self.around, key) {
            // Here all keys are strings.
            (Around::Fields { .. }, Value::Interface(Some(held))) => match held.value {
                text @ Value::Text(_) => text,
                _ => return Err(GobError::Mismatch),
            },
            (_, key) => key,
        };
        self.entries.push((key, value));
        Ok(())
    }

    /// The time in the field that scs calls `Deadline`; `None` where Go left it out, since it is zero.
    pub(super) fn deadline(&self) -> Result<Option<GoTime>, GobError> {
        let (Around::Fields { before, behind, .. }, Some(place)) = (&self.around, self.deadline_place())
        else {
            return Ok(None);
        };
        match before.iter().chain(behind).find(|(at, _)| *at == place) {
            None => Ok(None),
            Some((_, Value::Encoded(payload))) => {
                GoTime::from_payload(payload).map(Some).ok_or(GobError::Mismatch)
            }
            Some(_) => Err(GobError::Mismatch),
        }
    }

    /// Puts another time there.
    pub(super) fn set_deadline(&mut self, deadline: GoTime) -> Result<(), GobError> {
        let place = self.deadline_place();
        let (Around::Fields { before, map, behind }, Some(place)) = (&mut self.around, place) else {
            return Err(GobError::Top { expected: Self::SCS });
        };
        let side = if place < *map { before } else { behind };
        let value = (place, Value::Encoded(deadline.to_payload()));
        match side.binary_search_by_key(&place, |(at, _)| *at) {
            Ok(found) => side[found] = value,
            Err(free) => side.insert(free, value),
        }
        Ok(())
    }

    fn deadline_place(&self) -> Option<u32> {
        let Some(Shape::Struct { fields }) = self.types.shape(self.top) else { return None };
        let is_time = |id| matches!(self.types.shape(id), Some(Shape::Encoded(_)));
        let place = fields.iter().position(|field| *field.name == *b"Deadline" && is_time(field.id));
        place.map(|place| place as u32)
    }

    /// Whether `other` has the same entries, and the same definitions of the types that both have.
    #[cfg(feature = "testkit")]
    pub(super) fn means(&self, other: &Session) -> bool {
        self.entries == other.entries
            && self.top == other.top
            && self.around == other.around
            && self.types.agree(&other.types)
    }

    pub(super) fn to_gob(&self) -> Result<Vec<u8>, GobError> {
        let mut out = Vec::new();
        let map = Value::Map(self.entries.clone());
        let value = match &self.around {
            Around::Nothing => map,
            Around::Fields { before, map: place, behind } => {
                let all = before.iter().cloned().chain([(*place, map)]).chain(behind.iter().cloned());
                Value::Struct(all.collect())
            }
        };
        encode(&self.types, self.top, &value, &mut out)?;
        Ok(out)
    }
}

/// True if Go takes two keys that look like this one for the same key.
fn is_plain(key: &Value) -> bool {
    let is_nan = |bits: &u64| f64::from_bits(*bits).is_nan();
    let (name, value) = key.held().map_or(("", key), |held| (&*held.name, &held.value));
    let plain = match value {
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Text(_) => true,
        Value::Float(bits) => !is_nan(bits),
        Value::Complex(real, imaginary) => !is_nan(real) && !is_nan(imaginary),
        _ => false,
    };
    plain && !name.starts_with('*')
}
