//! A decoded Go session: its types, its entries, and the struct around them.

use std::borrow::Cow;
use std::collections::HashMap;

use cloakroom_gob::{EncodedBy, Field, GoTime, Gob, Shape, TypeId, Types, Value};

use super::key;

/// The Go type that a session's gob has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) enum Envelope {
    /// `map[interface{}]interface{}`: Beego, and gorilla/sessions.
    Map,
    /// `struct{Deadline time.Time; Values map[string]interface{}}`: scs.
    Deadline,
}

impl Envelope {
    /// Returns the number of the form in a stored record; 1 and 2 are other codecs.
    pub(in crate::codec) fn tag(self) -> u8 {
        match self {
            Envelope::Map => 3,
            Envelope::Deadline => 4,
        }
    }

    pub(in crate::codec) fn from_tag(tag: u8) -> Option<Envelope> {
        [Envelope::Map, Envelope::Deadline].into_iter().find(|envelope| envelope.tag() == tag)
    }

    /// Returns true if the map can have this key, which is in an interface. A session of scs has string keys only.
    pub(super) fn takes(self, key: &Value) -> bool {
        self == Envelope::Map || key.held().is_some_and(|held| matches!(held.value, Value::Text(_)))
    }
}

/// A decoded session. Types keep their numbers, and unchanged values are written back as they were.
pub(super) struct GobMap {
    pub(super) types: Types,
    pub(super) entries: Vec<(Value, Value)>,
    /// The type of the whole gob.
    top: TypeId,
    around: Around,
}

/// The struct around the map.
#[derive(PartialEq)]
enum Around {
    Nothing,
    /// The index of the map's field, and the other fields before and after it.
    Fields {
        before: Vec<(u32, Value)>,
        map: u32,
        after: Vec<(u32, Value)>,
    },
}

const ANY_MAP: Shape = Shape::Map { key: TypeId::INTERFACE, elem: TypeId::INTERFACE };
const TEXT_MAP: Shape = Shape::Map { key: TypeId::STRING, elem: TypeId::INTERFACE };

impl GobMap {
    const SCS: &str = "a gob of struct{Deadline; Values map[string]interface{}}";

    /// Reads a session. No bytes at all are a session without keys.
    pub(super) fn parse(data: &[u8], envelope: Envelope) -> Result<GobMap, GobMapError> {
        if data.is_empty() {
            return Ok(GobMap::empty(envelope));
        }
        let Gob { types, id: top, value } = Gob::decode(data)?;
        let mut session = match envelope {
            Envelope::Map => GobMap::in_map(types, top, value)?,
            Envelope::Deadline => GobMap::in_struct(types, top, value)?,
        };
        session.drop_repeated();
        Ok(session)
    }

    /// Returns a session of one entry.
    pub(super) fn of_one(mut types: Types, key: Value, value: Value) -> GobMap {
        let top = types.id_of("", ANY_MAP);
        GobMap { types, entries: vec![(key, value)], top, around: Around::Nothing }
    }

    /// Returns the entry at `index` as a session of its own.
    pub(super) fn into_one(mut self, index: usize) -> GobMap {
        let (key, value) = self.entries.swap_remove(index);
        let key = match key {
            Value::Text(_) => Value::dynamic("string", TypeId::STRING, key),
            other => other,
        };
        GobMap::of_one(self.types, key, value)
    }

    fn empty(envelope: Envelope) -> GobMap {
        let mut types = Types::default();
        let (top, around) = match envelope {
            Envelope::Map => (types.id_of("", ANY_MAP), Around::Nothing),
            Envelope::Deadline => {
                let time = types.id_of("Time", Shape::Encoded(EncodedBy::GobEncoder));
                let map = types.id_of("", TEXT_MAP);
                let field = |name: &str, id| Field { name: name.as_bytes().into(), id };
                let fields = [field("Deadline", time), field("Values", map)].into();
                let around = Around::Fields { before: Vec::new(), map: 1, after: Vec::new() };
                (types.id_of("", Shape::Struct { fields }), around)
            }
        };
        GobMap { types, entries: Vec::new(), top, around }
    }

    fn in_map(types: Types, top: TypeId, value: Value) -> Result<GobMap, GobMapError> {
        match value {
            Value::Map(entries) if types.shape(top) == Some(&ANY_MAP) => {
                Ok(GobMap { types, entries, top, around: Around::Nothing })
            }
            _ => Err(GobMapError::Top { expected: "a gob of map[interface{}]interface{}" }),
        }
    }

    fn in_struct(types: Types, top: TypeId, value: Value) -> Result<GobMap, GobMapError> {
        let wrong = || GobMapError::Top { expected: Self::SCS };
        let (Some(Shape::Struct { fields }), Value::Struct(values)) = (types.shape(top), value) else {
            return Err(wrong());
        };
        let is_map = |field: &Field| *field.name == *b"Values" && types.shape(field.id) == Some(&TEXT_MAP);
        let map = fields.iter().position(is_map).ok_or_else(wrong)? as u32;
        let (mut before, mut after, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for (place, value) in values {
            match value {
                Value::Map(found) if place == map => entries = found,
                value if place < map => before.push((place, value)),
                value => after.push((place, value)),
            }
        }
        Ok(GobMap { types, entries, top, around: Around::Fields { before, map, after } })
    }

    /// Drops all but the last of several entries under one key, as Go does.
    ///
    /// Pointers and not-a-number are never the same key, and a struct may contain either. So only plain keys are compared.
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

    /// Returns the index of the entry whose key has this text.
    pub(super) fn position(&self, text: &str) -> Option<usize> {
        if !text.starts_with(key::MARK) {
            return self.entries.iter().position(|(found, _)| key::to_text(found) == text);
        }
        self.names().position(|name| name == text)
    }

    /// Returns the text of each key, in the order of storage. If two different keys have one text, that of the second ends in `#2`.
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

    /// Appends an entry, whose key is in an interface.
    pub(super) fn push(&mut self, key: Value, value: Value) -> Result<(), GobMapError> {
        let key = match (&self.around, key) {
            // The map of scs has string keys without an interface.
            (Around::Fields { .. }, Value::Interface(Some(held))) => match held.value {
                text @ Value::Text(_) => text,
                _ => return Err(GobMapError::KeyType),
            },
            (_, key) => key,
        };
        self.entries.push((key, value));
        Ok(())
    }

    /// Returns the time in the field that scs calls `Deadline`; `None` if Go omitted it because it is zero.
    pub(super) fn deadline(&self) -> Result<Option<GoTime>, GobMapError> {
        let (Around::Fields { before, after, .. }, Some(place)) = (&self.around, self.deadline_place())
        else {
            return Ok(None);
        };
        match before.iter().chain(after).find(|(at, _)| *at == place) {
            None => Ok(None),
            Some((_, Value::Encoded(payload))) => {
                GoTime::from_payload(payload).map(Some).ok_or(GobMapError::NotATime)
            }
            Some(_) => Err(GobMapError::NotATime),
        }
    }

    /// Sets the time in the field that scs calls `Deadline`.
    pub(super) fn set_deadline(&mut self, deadline: GoTime) -> Result<(), GobMapError> {
        let place = self.deadline_place();
        let (Around::Fields { before, map, after }, Some(place)) = (&mut self.around, place) else {
            return Err(GobMapError::Top { expected: Self::SCS });
        };
        let side = if place < *map { before } else { after };
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

    /// Returns true if `other` has the same entries, and the same definitions for every type that both define.
    #[cfg(feature = "testkit")]
    pub(super) fn means(&self, other: &GobMap) -> bool {
        self.entries == other.entries
            && self.top == other.top
            && self.around == other.around
            && self.types.agree(&other.types)
    }

    pub(super) fn into_gob(self) -> Result<Vec<u8>, GobMapError> {
        let map = Value::Map(self.entries);
        let value = match self.around {
            Around::Nothing => map,
            Around::Fields { before, map: place, after } => {
                let all = before.into_iter().chain([(place, map)]).chain(after);
                Value::Struct(all.collect())
            }
        };
        Ok(Gob { types: self.types, id: self.top, value }.encode()?)
    }
}

/// Returns true if every key that equals this one is the same key in Go.
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

/// The reason why the gob of a session is not readable.
#[derive(Debug, thiserror::Error)]
pub(super) enum GobMapError {
    #[error(transparent)]
    Gob(#[from] cloakroom_gob::Error),
    #[error("expected {expected}, found a gob of another type")]
    Top { expected: &'static str },
    #[error("expected a time as the deadline in the gob, found another value")]
    NotATime,
    #[error("expected a string as a key in the gob, found another type")]
    KeyType,
    #[error("expected a gob of one key, found none or nil")]
    NotOneValue,
}
