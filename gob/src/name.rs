//! The names under which Go registers types. They tell what a value must be, down to the width of its numbers.

use crate::error::Reason;
use crate::types::{Shape, TypeId, Types};
use crate::value::Value;

/// A type as its name spells it, such as `map[string][]int8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GoType<'a> {
    Basic(Basic),
    Slice(Box<GoType<'a>>),
    Array(u64, Box<GoType<'a>>),
    Map(Box<GoType<'a>>, Box<GoType<'a>>),
    /// A pointer. Gob sends the value it points to.
    Pointer(Box<GoType<'a>>),
    Interface,
    Time,
    /// A type of an application, or a name that this parser does not know. Every value fits.
    Named(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basic {
    Bool,
    String,
    /// Of this many bits.
    Int(u32),
    Uint(u32),
    Float(u32),
    Complex(u32),
}

/// The bound on the nesting of a name, since names are parsed on the stack.
const MAX_DEPTH: usize = 64;

impl<'a> GoType<'a> {
    pub(crate) fn parse(name: &'a str) -> GoType<'a> {
        match parse(name, 0) {
            Some((found, "")) => found,
            _ => GoType::Named(name),
        }
    }

    /// Returns true if this can be `[]byte`, which gob sends as a basic type.
    fn is_bytes(&self) -> bool {
        // The elements of a slice of a named type may be bytes, too.
        matches!(self, GoType::Slice(elem) if matches!(**elem, GoType::Basic(Basic::Uint(8)) | GoType::Named(_)))
    }

    /// Checks that `value`, of the type `id`, can be of the type that the name spells.
    pub(crate) fn check(&self, types: &Types, id: TypeId, value: &Value) -> Result<(), Reason> {
        self.check_type(types, id)?;
        self.check_range(value)
    }

    /// Checks that the kinds agree at every level.
    fn check_type(&self, types: &Types, id: TypeId) -> Result<(), Reason> {
        let fits = match (self, types.shape(id)) {
            (GoType::Named(_), _) => true,
            (GoType::Pointer(to), _) => return to.check_type(types, id),
            (_, None) if id == TypeId::BYTES => self.is_bytes(),
            (GoType::Basic(basic), None) => basic.id() == id,
            (GoType::Interface, None) => id == TypeId::INTERFACE,
            (GoType::Time, Some(Shape::Encoded(_))) => true,
            (GoType::Slice(of), Some(Shape::Slice { elem })) => return of.check_type(types, *elem),
            (GoType::Array(count, of), Some(Shape::Array { elem, len }))
                if i64::try_from(*count) == Ok(*len) =>
            {
                return of.check_type(types, *elem);
            }
            (GoType::Map(of_keys, of), Some(Shape::Map { key, elem })) => {
                of_keys.check_type(types, *key)?;
                return of.check_type(types, *elem);
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(Reason::Mismatch) }
    }

    /// Checks that every number in `value` is in the range of its type. The kinds agree already.
    fn check_range(&self, value: &Value) -> Result<(), Reason> {
        match (self, value) {
            (GoType::Basic(basic), value) if !basic.holds(value) => Err(Reason::Range),
            (GoType::Pointer(to), value) => to.check_range(value),
            (GoType::Slice(of) | GoType::Array(_, of), Value::List(list)) if of.has_ranges() => {
                list.iter().try_for_each(|value| of.check_range(value))
            }
            (GoType::Map(of_keys, of), Value::Map(map)) if of_keys.has_ranges() || of.has_ranges() => {
                map.iter().try_for_each(|(key, value)| {
                    of_keys.check_range(key)?;
                    of.check_range(value)
                })
            }
            _ => Ok(()),
        }
    }

    fn has_ranges(&self) -> bool {
        match self {
            GoType::Basic(Basic::Int(bits) | Basic::Uint(bits)) => *bits < 64,
            GoType::Basic(Basic::Float(bits)) => *bits < 64,
            GoType::Basic(Basic::Complex(bits)) => *bits < 128,
            GoType::Slice(of) | GoType::Array(_, of) | GoType::Pointer(of) => of.has_ranges(),
            GoType::Map(key, of) => key.has_ranges() || of.has_ranges(),
            _ => false,
        }
    }
}

impl Basic {
    const ALL: [(&'static str, Basic); 18] = [
        ("bool", Basic::Bool),
        ("string", Basic::String),
        ("int8", Basic::Int(8)),
        ("int16", Basic::Int(16)),
        ("int32", Basic::Int(32)),
        ("int64", Basic::Int(64)),
        ("int", Basic::Int(64)),
        ("uint8", Basic::Uint(8)),
        ("uint16", Basic::Uint(16)),
        ("uint32", Basic::Uint(32)),
        ("uint64", Basic::Uint(64)),
        ("uintptr", Basic::Uint(64)),
        ("uint", Basic::Uint(64)),
        ("float32", Basic::Float(32)),
        ("float64", Basic::Float(64)),
        ("complex64", Basic::Complex(64)),
        ("complex128", Basic::Complex(128)),
        // A named type of the standard library.
        ("time.Duration", Basic::Int(64)),
    ];

    fn id(self) -> TypeId {
        match self {
            Basic::Bool => TypeId::BOOL,
            Basic::String => TypeId::STRING,
            Basic::Int(_) => TypeId::INT,
            Basic::Uint(_) => TypeId::UINT,
            Basic::Float(_) => TypeId::FLOAT,
            Basic::Complex(_) => TypeId::COMPLEX,
        }
    }

    /// Returns true if a number is in the range of this type. Infinities fit every float, and so does a number that is too small.
    pub(crate) fn holds(self, value: &Value) -> bool {
        let float32 = |bits: u64| {
            let float = f64::from_bits(bits);
            !float.is_finite() || float.abs() <= f64::from(f32::MAX)
        };
        match (self, value) {
            (Basic::Int(bits), Value::Int(number)) => {
                let unused = 64 - bits;
                number << unused >> unused == *number
            }
            (Basic::Uint(bits), Value::Uint(number)) => bits == 64 || number >> bits == 0,
            (Basic::Float(32), Value::Float(bits)) => float32(*bits),
            (Basic::Complex(64), Value::Complex(real, imaginary)) => float32(*real) && float32(*imaginary),
            _ => true,
        }
    }
}

/// Parses the type at the start of `text`, and returns the rest of the text with it.
fn parse(text: &str, depth: usize) -> Option<(GoType<'_>, &str)> {
    if depth > MAX_DEPTH {
        return None;
    }
    let boxed = |(found, rest): (_, _)| (Box::new(found), rest);
    if let Some(rest) = text.strip_prefix('*') {
        let (to, rest) = boxed(parse(rest, depth + 1)?);
        return Some((GoType::Pointer(to), rest));
    }
    if let Some(rest) = text.strip_prefix("[]") {
        let (of, rest) = boxed(parse(rest, depth + 1)?);
        return Some((GoType::Slice(of), rest));
    }
    if let Some(rest) = text.strip_prefix("map[") {
        let (key, rest) = boxed(parse(rest, depth + 1)?);
        let (of, rest) = boxed(parse(rest.strip_prefix(']')?, depth + 1)?);
        return Some((GoType::Map(key, of), rest));
    }
    if let Some((count, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let (of, rest) = boxed(parse(rest, depth + 1)?);
        return Some((GoType::Array(count.parse().ok()?, of), rest));
    }
    if let Some(rest) = text.strip_prefix("interface {}") {
        return Some((GoType::Interface, rest));
    }
    // A bracket ends the key of a map. A name with other brackets or blanks is not parsed.
    let (name, rest) = text.split_at(text.find(']').unwrap_or(text.len()));
    if name.is_empty() || name.contains(['[', '{', ' ', '*']) {
        return None;
    }
    let basic = Basic::ALL.iter().find(|(known, _)| *known == name);
    let found = match (name, basic) {
        // Within a composite type Go spells only the last part of a package's path. An application's own package may be called
        // `time`, too.
        _ if depth > 0 && name.contains('.') => GoType::Named(name),
        ("time.Time", _) => GoType::Time,
        (_, Some((_, basic))) => GoType::Basic(*basic),
        _ => GoType::Named(name),
    };
    Some((found, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(name: &str) -> Box<GoType<'_>> {
        Box::new(GoType::parse(name))
    }

    #[test]
    fn names_are_parsed_as_go_spells_them() {
        assert_eq!(GoType::parse("int8"), GoType::Basic(Basic::Int(8)));
        assert_eq!(GoType::parse("interface {}"), GoType::Interface);
        assert_eq!(GoType::parse("[]interface {}"), GoType::Slice(Box::new(GoType::Interface)));
        assert_eq!(
            GoType::parse("map[[2]int]*models.User"),
            GoType::Map(
                Box::new(GoType::Array(2, basic("int"))),
                Box::new(GoType::Pointer(Box::new(GoType::Named("models.User"))))
            )
        );
        assert_eq!(
            GoType::parse("github.com/acme/shop/models.User"),
            GoType::Named("github.com/acme/shop/models.User")
        );
    }

    #[test]
    fn in_a_composite_a_package_time_may_be_the_applications() {
        assert_eq!(GoType::parse("time.Time"), GoType::Time);
        assert_eq!(GoType::parse("time.Duration"), GoType::Basic(Basic::Int(64)));
        for name in ["time.Time", "time.Duration"] {
            assert_eq!(GoType::parse(&format!("[]{name}")), GoType::Slice(Box::new(GoType::Named(name))));
            assert_eq!(GoType::parse(&format!("*{name}")), GoType::Pointer(Box::new(GoType::Named(name))));
        }
        let text = Value::List(vec![Value::Text(b"noon".to_vec())]);
        let mut types = Types::default();
        let id = types.id_of("", Shape::Slice { elem: TypeId::STRING });
        GoType::parse("[]time.Time").check(&types, id, &text).unwrap();
    }

    #[test]
    fn an_unknown_name_fits_every_value() {
        for name in [
            "struct { X int; Y int }",
            "map[string]",
            "[x]int",
            "[]",
            "int int",
            "map[string]int]",
            "models.List[int]",
        ] {
            assert_eq!(GoType::parse(name), GoType::Named(name), "{name}");
        }
        let deep = "*".repeat(1000) + "int";
        assert_eq!(GoType::parse(&deep), GoType::Named(&deep));
    }

    #[test]
    fn numbers_are_checked_against_the_range_of_the_type() {
        let held = |name, value| match GoType::parse(name) {
            GoType::Basic(basic) => basic.holds(&value),
            other => panic!("{other:?}"),
        };
        assert!(held("int8", Value::Int(-128)) && !held("int8", Value::Int(-129)));
        assert!(held("int8", Value::Int(127)) && !held("int8", Value::Int(128)));
        assert!(held("int", Value::Int(i64::MIN)) && held("uintptr", Value::Uint(u64::MAX)));
        assert!(held("uint16", Value::Uint(65_535)) && !held("uint16", Value::Uint(65_536)));
        let float = |float: f64| Value::Float(float.to_bits());
        assert!(held("float32", float(f64::INFINITY)) && held("float32", float(5e-324)));
        assert!(!held("float32", float(3.5e38)) && held("float64", float(3.5e38)));
    }
}
