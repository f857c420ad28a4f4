//! The type definitions of a gob.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Reason;
use crate::wire::{Reader, put_bytes, put_int, put_uint};

/// The bound on the types that one gob may define. Real gobs define some dozens.
pub const MAX_TYPES: usize = 4096;

/// Go stores the number of a type in 32 bits: `typeId` in encoding/gob.
const LAST_ID: i64 = i32::MAX as i64;

/// The number of a type in one gob.
///
/// Gob reserves the first few for its basic types. It defines the others before it uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) i64);

impl TypeId {
    /// `bool`.
    pub const BOOL: TypeId = TypeId(1);
    /// Every signed integer type.
    pub const INT: TypeId = TypeId(2);
    /// Every unsigned integer type.
    pub const UINT: TypeId = TypeId(3);
    /// `float32` and `float64`.
    pub const FLOAT: TypeId = TypeId(4);
    /// `[]byte`.
    pub const BYTES: TypeId = TypeId(5);
    /// `string`.
    pub const STRING: TypeId = TypeId(6);
    /// `complex64` and `complex128`.
    pub const COMPLEX: TypeId = TypeId(7);
    /// Every interface type.
    pub const INTERFACE: TypeId = TypeId(8);
    /// The first number for types of an application: `firstUserId` in encoding/gob.
    pub const FIRST_OWN: TypeId = TypeId(64);

    /// Returns true for the types that gob itself knows, which need no definition.
    pub fn is_basic(self) -> bool {
        (1..=8).contains(&self.0)
    }
}

/// The definition of a type, as a gob sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The Go name without its package. It is empty for types such as `[]int`.
    pub(crate) name: Box<[u8]>,
    /// The number within the definition, written back unchanged. It can differ for types that encode themselves, and
    /// no reader uses it.
    said: TypeId,
    pub(crate) shape: Shape,
}

impl Definition {
    /// Returns the Go name without its package. It is empty for types such as `[]int`.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns what the type is made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

/// The structure of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "gob has no other shapes")]
pub enum Shape {
    /// An array of fixed length.
    Array {
        /// The type of the elements.
        elem: TypeId,
        /// The number of elements.
        len: i64,
    },
    /// A slice; a `[]byte` has the basic type [`TypeId::BYTES`] instead.
    Slice {
        /// The type of the elements.
        elem: TypeId,
    },
    /// A struct with its exported fields.
    Struct {
        /// The fields, in the order of the Go source.
        fields: Box<[Field]>,
    },
    /// A map.
    Map {
        /// The type of the keys.
        key: TypeId,
        /// The type of the values.
        elem: TypeId,
    },
    /// A type that encodes itself. The meaning of its bytes is not part of the gob.
    Encoded(EncodedBy),
}

/// The Go interface by which a type encodes itself.
///
/// The number is the index of its definition in gob's `wireType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "gob knows no other interfaces")]
pub enum EncodedBy {
    /// `gob.GobEncoder`, as `time.Time` has it.
    GobEncoder = 4,
    /// `encoding.BinaryMarshaler`.
    BinaryMarshaler = 5,
    /// `encoding.TextMarshaler`.
    TextMarshaler = 6,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The Go name.
    pub name: Box<[u8]>,
    /// The type.
    pub id: TypeId,
}

impl Shape {
    /// Returns the types of the parts, in the order in which Go sends them.
    pub(crate) fn parts(&self) -> Vec<TypeId> {
        match self {
            Shape::Array { elem, .. } | Shape::Slice { elem } => vec![*elem],
            Shape::Map { key, elem } => vec![*key, *elem],
            Shape::Struct { fields } => fields.iter().map(|field| field.id).collect(),
            Shape::Encoded(_) => Vec::new(),
        }
    }

    /// Returns the same shape with each type number mapped by `renumber`.
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

/// The types that one gob defines, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Types(BTreeMap<TypeId, Definition>);

impl Types {
    /// Returns the shape of a defined type; `None` for a basic type.
    pub fn shape(&self, id: TypeId) -> Option<&Shape> {
        self.0.get(&id).map(|definition| &definition.shape)
    }

    /// Returns the definition of a type; `None` for a basic type.
    pub fn definition(&self, id: TypeId) -> Option<&Definition> {
        self.0.get(&id)
    }

    /// Returns the number of the type with this name and `shape`, and defines it if it is new.
    ///
    /// An unnamed type matches by its shape alone.
    pub fn id_of(&mut self, name: &str, shape: Shape) -> TypeId {
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

    /// Returns a free number: the one after the highest in use, or a gap if that exceeds [`LAST_ID`].
    fn next(&self) -> TypeId {
        let next = self.0.last_key_value().map_or(TypeId::FIRST_OWN.0, |(last, _)| last.0 + 1);
        if next <= LAST_ID {
            return TypeId(next.max(TypeId::FIRST_OWN.0));
        }
        let gap = (TypeId::FIRST_OWN.0..).map(TypeId).find(|id| !self.0.contains_key(id));
        gap.unwrap_or(TypeId::FIRST_OWN)
    }

    /// Copies the type `id` of `other` and all its parts, unless they are defined here already. Returns its number here.
    pub fn import(&mut self, other: &Types, id: TypeId) -> TypeId {
        self.import_known(other, id, &mut BTreeMap::new())
    }

    /// Imports a type. `known` maps the types that were imported already, since a type may contain itself.
    fn import_known(&mut self, other: &Types, id: TypeId, known: &mut BTreeMap<TypeId, TypeId>) -> TypeId {
        if let Some(here) = known.get(&id) {
            return *here;
        }
        let Some(definition) = other.0.get(&id) else { return id };
        if let Some(here) = self.find(other, id) {
            known.insert(id, here);
            return here;
        }
        // The number is reserved first, so that a part that refers back to this type finds it.
        let here = self.next();
        known.insert(id, here);
        self.0.insert(here, definition.clone());
        let shape = definition.shape.renumbered(|part| self.import_known(other, part, known));
        self.0.insert(here, Definition { name: definition.name.clone(), said: here, shape });
        here
    }

    /// Returns the type here that equals the type `id` of `other`.
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
        // A pair that is being compared already is equal if the rest is.
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

    /// Reads the definition of `id` at the position of the reader.
    pub(crate) fn define(&mut self, id: i64, reader: &mut Reader<'_>) -> Result<(), Reason> {
        let id = TypeId(id);
        if id < TypeId::FIRST_OWN || id.0 > LAST_ID || self.0.contains_key(&id) {
            return Err(Reason::Redefined { id: id.0 });
        }
        if self.0.len() == MAX_TYPES {
            return Err(Reason::TooManyTypes);
        }
        let definition = read_definition(reader)?;
        self.0.insert(id, definition);
        Ok(())
    }

    /// Returns true if every number that both define has the same definition in both.
    pub fn agree(&self, other: &Types) -> bool {
        self.0.iter().all(|(id, known)| other.0.get(id).is_none_or(|there| there == known))
    }

    /// Returns true if a struct contains its own type, directly or through other structs. In Go only a pointer can do so.
    pub(crate) fn leads_to_itself(&self, id: TypeId) -> bool {
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

    /// Checks that all parts of `id` are defined.
    pub(crate) fn check(&self, id: TypeId, seen: &mut BTreeSet<TypeId>) -> Result<(), Reason> {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if id.is_basic() || !seen.insert(id) {
                continue;
            }
            let shape = self.shape(id).ok_or(Reason::Undefined { id: id.0 })?;
            open.extend(shape.parts());
        }
        Ok(())
    }
}

/// Reads which fields of a struct were sent: the index of each, until a zero or the end of the message.
pub(crate) struct Fields {
    last: u64,
    count: u64,
}

impl Fields {
    pub(crate) fn of(count: usize) -> Self {
        Fields { last: 0, count: count as u64 }
    }

    /// Returns the index of the next field; the first is 0.
    pub(crate) fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<usize>, Reason> {
        if reader.at_end() {
            return Ok(None);
        }
        match reader.uint()? {
            0 => Ok(None),
            delta if delta <= self.count - self.last => {
                self.last += delta;
                Ok(Some(self.last as usize - 1))
            }
            _ => Err(Reason::Field),
        }
    }
}

/// Reads gob's `wireType`: a struct with one field per shape, of which exactly one is set.
///
/// If damaged data sets several, Go uses the one that the receiving type needs; this reader uses the first.
fn read_definition(reader: &mut Reader<'_>) -> Result<Definition, Reason> {
    let mut found = None;
    let mut fields = Fields::of(7);
    while let Some(field) = fields.next(reader)? {
        let definition = read_shape(field, reader)?;
        found.get_or_insert(definition);
    }
    found.ok_or(Reason::Definition)
}

fn read_shape(field: usize, reader: &mut Reader<'_>) -> Result<Definition, Reason> {
    // Each begins with a CommonType. The parts of an array, a slice, a struct and a map follow it.
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
        Err(_) => Err(Reason::Range),
    };
    let shape = match field {
        0 => Shape::Array { elem: id(numbers[0])?, len: numbers[1] },
        1 => Shape::Slice { elem: id(numbers[0])? },
        2 => Shape::Struct { fields: struct_fields },
        3 => Shape::Map { key: id(numbers[0])?, elem: id(numbers[1])? },
        4 => Shape::Encoded(EncodedBy::GobEncoder),
        5 => Shape::Encoded(EncodedBy::BinaryMarshaler),
        _ => Shape::Encoded(EncodedBy::TextMarshaler),
    };
    Ok(Definition { name: common.name, said: common.id, shape })
}

/// Reads a name and a type number, the first parts of a CommonType and of a field.
fn read_named(reader: &mut Reader<'_>) -> Result<Field, Reason> {
    let mut named = Field { name: Box::default(), id: TypeId(0) };
    let mut fields = Fields::of(2);
    while let Some(place) = fields.next(reader)? {
        match place {
            0 => named.name = reader.bytes("a type's name")?.into(),
            _ => {
                let number = i32::try_from(reader.int()?).map_err(|_| Reason::Range)?;
                named.id = TypeId(number.into());
            }
        }
    }
    Ok(named)
}

fn read_fields(reader: &mut Reader<'_>) -> Result<Box<[Field]>, Reason> {
    let found = reader.uint()?;
    if found > reader.remaining() {
        return Err(Reason::Length { what: "a struct's list of fields", found });
    }
    let mut fields = Vec::new();
    for _ in 0..found {
        if reader.at_end() {
            return Err(Reason::Truncated);
        }
        fields.push(read_named(reader)?);
    }
    Ok(fields.into())
}

/// Appends the negated number of a type and its definition, as Go sends them.
pub(crate) fn put_definition(out: &mut Vec<u8>, id: TypeId, definition: &Definition) {
    put_int(out, -id.0);
    let field = match definition.shape {
        Shape::Array { .. } => 0,
        Shape::Slice { .. } => 1,
        Shape::Struct { .. } => 2,
        Shape::Map { .. } => 3,
        Shape::Encoded(interface) => interface as u64,
    };
    put_uint(out, field + 1);
    // The CommonType is the first field in each.
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

/// Appends the numbers after a CommonType. Like Go, it omits a zero, such as the length of an empty array.
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
