//! The types that a gob defines, and the few that this library writes itself.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GobError;
use super::wire::{Reader, put_bytes, put_int, put_uint};

/// A session defines a type for each kind of value in it; no application has this many.
pub(super) const MAX_TYPES: usize = 4096;

/// Go keeps a type's number in 32 bits.
const LAST_ID: i64 = i32::MAX as i64;

/// The number of a type in one gob. The first few are gob's own, the others are defined in the gob before they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TypeId(pub(super) i64);

impl TypeId {
    pub(super) const BOOL: TypeId = TypeId(1);
    pub(super) const INT: TypeId = TypeId(2);
    pub(super) const UINT: TypeId = TypeId(3);
    pub(super) const FLOAT: TypeId = TypeId(4);
    pub(super) const BYTES: TypeId = TypeId(5);
    pub(super) const STRING: TypeId = TypeId(6);
    pub(super) const COMPLEX: TypeId = TypeId(7);
    pub(super) const INTERFACE: TypeId = TypeId(8);
    /// Where an application's types begin: `firstUserId` in encoding/gob.
    pub(super) const FIRST_OWN: TypeId = TypeId(64);

    pub(super) fn is_basic(self) -> bool {
        (1..=8).contains(&self.0)
    }
}

/// What gob says of a type: its Go name, without the package and often absent, and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: Box<[u8]>,
    /// The number that it says it has, which may be another where the type encodes itself. Nobody reads it.
    said: TypeId,
    pub(super) shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Array {
        elem: TypeId,
        len: i64,
    },
    Slice {
        elem: TypeId,
    },
    Struct {
        fields: Box<[Field]>,
    },
    Map {
        key: TypeId,
        elem: TypeId,
    },
    /// A type that encodes itself: only it knows what its bytes mean.
    Encoded(Interface),
}

/// The Go interface by which a type encodes itself; the place of its definition in gob's `wireType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    GobEncoder = 4,
    BinaryMarshaler = 5,
    TextMarshaler = 6,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Box<[u8]>,
    pub(super) id: TypeId,
}

impl Shape {
    /// The types that it is made of, in the order in which Go sends them.
    pub(super) fn parts(&self) -> Vec<TypeId> {
        match self {
            Shape::Array { elem, .. } | Shape::Slice { elem } => vec![*elem],
            Shape::Map { key, elem } => vec![*key, *elem],
            Shape::Struct { fields } => fields.iter().map(|field| field.id).collect(),
            Shape::Encoded(_) => Vec::new(),
        }
    }

    /// The same, each type under the number that `renumber` gives it.
    fn renumbered(&self, mut renumber: impl FnMut(TypeId) -> TypeId) -> Shape {
        match self {
            Shape::Array { elem, len } => Shape::Array { elem: renumber(*elem), len: *len },
            Shape::Slice { elem } => Shape::Slice { elem: renumber(*elem) },
            Shape::Map { key, elem } => Shape::Map { key: renumber(*key), elem: renumber(*elem) },
            Shape::Encoded(interface) => Shape::Encoded(*interface),
            Shape::Struct { fields } => {
                let renumbered =
                    fields.iter().map(|field| Field { name: field.name.clone(), id: renumber(field.id) });
                Shape::Struct { fields: renumbered.collect() }
            }
        }
    }
}

/// The types of one gob, under the numbers that they have in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Types(BTreeMap<TypeId, Definition>);

impl Types {
    pub(super) fn shape(&self, id: TypeId) -> Option<&Shape> {
        self.0.get(&id).map(|definition| &definition.shape)
    }

    pub(super) fn definition(&self, id: TypeId) -> Option<&Definition> {
        self.0.get(&id)
    }

    /// The number of the type of this `shape`, which may be new. Types that have no name of their own are one if they look alike.
    pub(super) fn id_of(&mut self, name: &str, shape: Shape) -> TypeId {
        let same = |(_, known): &(&TypeId, &Definition)| {
            known.shape == shape && (known.name.is_empty() || &*known.name == name.as_bytes())
        };
        if let Some((id, _)) = self.0.iter().find(same) {
            return *id;
        }
        let id = self.next();
        self.0.insert(id, Definition { name: name.as_bytes().into(), said: id, shape });
        id
    }

    /// A number that is free: behind the last one, or, should that be the last of all, in a gap.
    fn next(&self) -> TypeId {
        let behind = self.0.last_key_value().map_or(TypeId::FIRST_OWN.0, |(last, _)| last.0 + 1);
        let gap = || (TypeId::FIRST_OWN.0..).map(TypeId).find(|id| !self.0.contains_key(id));
        match behind <= LAST_ID {
            true => TypeId(behind.max(TypeId::FIRST_OWN.0)),
            false => gap().unwrap_or(TypeId::FIRST_OWN),
        }
    }

    /// Takes in the type `id` of `other` and all that it is made of; gives the number that it has here.
    pub(super) fn import(&mut self, other: &Types, id: TypeId) -> TypeId {
        self.import_known(other, id, &mut BTreeMap::new())
    }

    /// `known` are those that were taken in already: a type may be made of itself.
    fn import_known(&mut self, other: &Types, id: TypeId, known: &mut BTreeMap<TypeId, TypeId>) -> TypeId {
        if let Some(here) = known.get(&id) {
            return *here;
        }
        let Some(definition) = other.0.get(&id) else { return id };
        if let Some(here) = self.find(other, id) {
            known.insert(id, here);
            return here;
        }
        // The place is taken first, so that what is made of this type finds it.
        let here = self.next();
        known.insert(id, here);
        self.0.insert(here, definition.clone());
        let shape = definition.shape.renumbered(|part| self.import_known(other, part, known));
        self.0.insert(here, Definition { name: definition.name.clone(), said: here, shape });
        here
    }

    /// The type here that is the type `id` of `other`.
    fn find(&self, other: &Types, id: TypeId) -> Option<TypeId> {
        self.0.keys().copied().find(|here| self.is_same(*here, other, id, &mut BTreeSet::new()))
    }

    fn is_same(
        &self,
        here: TypeId,
        other: &Types,
        there: TypeId,
        seen: &mut BTreeSet<(TypeId, TypeId)>,
    ) -> bool {
        let (Some(one), Some(two)) = (self.0.get(&here), other.0.get(&there)) else {
            return here == there && here.is_basic();
        };
        // Met again on the way, the two are as alike as the rest of them is.
        if !seen.insert((here, there)) {
            return true;
        }
        let (ours, theirs) = (one.shape.parts(), two.shape.parts());
        let alike = |shape: &Shape| shape.renumbered(|_| TypeId::BOOL);
        one.name == two.name
            && ours.len() == theirs.len()
            && alike(&one.shape) == alike(&two.shape)
            && ours.into_iter().zip(theirs).all(|(here, there)| self.is_same(here, other, there, seen))
    }

    /// Reads the definition of `id`, which the reader stands before.
    pub(super) fn define(&mut self, id: i64, reader: &mut Reader<'_>) -> Result<(), GobError> {
        let id = TypeId(id);
        if id < TypeId::FIRST_OWN || id.0 > LAST_ID || self.0.contains_key(&id) {
            return Err(GobError::Redefined { id: id.0 });
        }
        if self.0.len() == MAX_TYPES {
            return Err(GobError::TooManyTypes { max: MAX_TYPES });
        }
        let definition = read_definition(reader)?;
        self.0.insert(id, definition);
        Ok(())
    }

    /// Whether no number means one type here and another there.
    #[cfg(feature = "testkit")]
    pub(super) fn agree(&self, other: &Types) -> bool {
        self.0.iter().all(|(id, known)| other.0.get(id).is_none_or(|there| there == known))
    }

    /// Whether a struct's fields lead to a struct of the same type, as only a pointer can.
    pub(super) fn leads_to_itself(&self, id: TypeId) -> bool {
        let parts = |id| match self.shape(id) {
            Some(shape @ (Shape::Struct { .. } | Shape::Array { .. })) => shape.parts(),
            _ => Vec::new(),
        };
        let (mut open, mut seen) = (parts(id), BTreeSet::new());
        while let Some(part) = open.pop() {
            if part == id {
                return true;
            }
            if seen.insert(part) {
                open.extend(parts(part));
            }
        }
        false
    }

    /// Whether everything that `id` is made of is defined too.
    pub(super) fn check(&self, id: TypeId, seen: &mut BTreeSet<TypeId>) -> Result<(), GobError> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if id.is_basic() || !seen.insert(id) {
                continue;
            }
            let shape = self.shape(id).ok_or(GobError::Undefined { id: id.0 })?;
            open.extend(shape.parts());
        }
        Ok(())
    }
}

/// The fields that a struct sends: the number of each, until the zero behind the last one or the end of the message.
pub(super) struct Fields {
    last: u64,
    count: u64,
}

impl Fields {
    pub(super) fn of(count: usize) -> Self {
        Fields { last: 0, count: count as u64 }
    }

    /// The place of the next field, from zero on.
    pub(super) fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<usize>, GobError> {
        if reader.at_end() {
            return Ok(None);
        }
        match reader.uint()? {
            0 => Ok(None),
            delta if delta <= self.count - self.last => {
                self.last += delta;
                Ok(Some(self.last as usize - 1))
            }
            _ => Err(GobError::Field),
        }
    }
}

/// Reads gob's own `wireType`: a struct with one field for each shape, of which one is set. Of several, Go takes the one that its own
/// type asks for, which only damage makes another than the first.
fn read_definition(reader: &mut Reader<'_>) -> Result<Definition, GobError> {
    let mut found = None;
    let mut fields = Fields::of(7);
    while let Some(field) = fields.next(reader)? {
        let definition = read_shape(field, reader)?;
        found.get_or_insert(definition);
    }
    found.ok_or(GobError::Definition)
}

fn read_shape(field: usize, reader: &mut Reader<'_>) -> Result<Definition, GobError> {
    // All begin with a CommonType; an array, a slice, a struct and a map have their parts behind it.
    let count = [3, 2, 2, 3, 1, 1, 1][field];
    let mut common = Field { name: Box::default(), id: TypeId(0) };
    let mut numbers = [0; 2];
    let mut struct_fields = Box::default();
    let mut fields = Fields::of(count);
    while let Some(place) = fields.next(reader)? {
        match place {
            0 => common = read_named(reader)?,
            1 if field == 2 => struct_fields = read_fields(reader)?,
            _ => numbers[place - 1] = reader.int()?,
        }
    }
    let id = |number: i64| match i32::try_from(number) {
        Ok(number) => Ok(TypeId(number.into())),
        Err(_) => Err(GobError::Range),
    };
    let shape = match field {
        0 => Shape::Array { elem: id(numbers[0])?, len: numbers[1] },
        1 => Shape::Slice { elem: id(numbers[0])? },
        2 => Shape::Struct { fields: struct_fields },
        3 => Shape::Map { key: id(numbers[0])?, elem: id(numbers[1])? },
        4 => Shape::Encoded(Interface::GobEncoder),
        5 => Shape::Encoded(Interface::BinaryMarshaler),
        _ => Shape::Encoded(Interface::TextMarshaler),
    };
    Ok(Definition { name: common.name, said: common.id, shape })
}

/// Reads what a type and a field begin with, a name and a number.
fn read_named(reader: &mut Reader<'_>) -> Result<Field, GobError> {
    let mut named = Field { name: Box::default(), id: TypeId(0) };
    let mut fields = Fields::of(2);
    while let Some(place) = fields.next(reader)? {
        match place {
            0 => named.name = reader.bytes("a type's name")?.into(),
            _ => {
                let number = i32::try_from(reader.int()?).map_err(|_| GobError::Range)?;
                named.id = TypeId(number.into());
            }
        }
    }
    Ok(named)
}

fn read_fields(reader: &mut Reader<'_>) -> Result<Box<[Field]>, GobError> {
    let found = reader.uint()?;
    if found > reader.remaining() {
        return Err(GobError::Length { what: "a struct's list of fields", found });
    }
    let mut fields = Vec::new();
    for _ in 0..found {
        if reader.at_end() {
            return Err(GobError::Truncated);
        }
        fields.push(read_named(reader)?);
    }
    Ok(fields.into())
}

/// Appends `id` and its definition as Go sends them, the number negative.
pub(super) fn put_definition(out: &mut Vec<u8>, id: TypeId, definition: &Definition) {
    put_int(out, -id.0);
    let field = match definition.shape {
        Shape::Array { .. } => 0,
        Shape::Slice { .. } => 1,
        Shape::Struct { .. } => 2,
        Shape::Map { .. } => 3,
        Shape::Encoded(interface) => interface as u64,
    };
    put_uint(out, field + 1);
    // The CommonType, which comes first in each.
    out.push(1);
    put_named(out, &definition.name, definition.said);
    match &definition.shape {
        Shape::Array { elem, len } => put_numbers(out, &[elem.0, *len]),
        Shape::Slice { elem } => put_numbers(out, &[elem.0]),
        Shape::Map { key, elem } => put_numbers(out, &[key.0, elem.0]),
        Shape::Struct { fields } if !fields.is_empty() => {
            out.push(1);
            put_uint(out, fields.len() as u64);
            for field in fields {
                put_named(out, &field.name, field.id);
            }
        }
        Shape::Struct { .. } | Shape::Encoded(_) => {}
    }
    out.extend_from_slice(&[0, 0]);
}

fn put_named(out: &mut Vec<u8>, name: &[u8], id: TypeId) {
    let mut delta = 1;
    if name.is_empty() {
        delta = 2;
    } else {
        out.push(1);
        put_bytes(out, name);
    }
    out.push(delta);
    put_int(out, id.0);
    out.push(0);
}

/// Appends the fields that follow a CommonType. Like Go, it leaves out a zero: that of an array without elements.
fn put_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    let mut delta = 1;
    for number in numbers {
        if *number == 0 {
            delta += 1;
            continue;
        }
        out.push(delta);
        put_int(out, *number);
        delta = 1;
    }
}
