//! Why gob data cannot be read.

/// No text holds a value or a key: they are the application's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GobError {
    #[error("the gob ends within a message")]
    Truncated,
    #[error("byte {at} of the gob begins a number of more than 8 bytes")]
    Number { at: usize },
    #[error("type {id} is defined twice or under a number that gob keeps for itself")]
    Redefined { id: i64 },
    #[error("type {id} is used in the gob but not defined in it")]
    Undefined { id: i64 },
    #[error("a type definition in the gob is malformed")]
    Definition,
    #[error("bytes follow a type definition within its message")]
    Extra,
    #[error("the gob defines more than {max} types")]
    TooManyTypes { max: usize },
    #[error("a struct in the gob has a field past its last one")]
    Field,
    #[error("a value in the gob is not preceded by the zero that gob puts there")]
    Delta,
    #[error("the gob says that {what} has {found} elements or bytes, more than there are")]
    Length { what: &'static str, found: u64 },
    #[error("an array in the gob has another length than its type")]
    ArrayLength,
    #[error("values in the gob are nested deeper than {max} levels")]
    Depth { max: usize },
    #[error("a type name in the gob is no text, or longer than 1,024 bytes")]
    TypeName,
    #[error("a value in the gob has another type than its name says")]
    Mismatch,
    #[error("a number in the gob is out of the range of its type")]
    Range,
    #[error("a map in the gob has a key that Go cannot compare: a slice, a map or bytes")]
    Key,
    #[error("expected {expected}, found a gob of another type")]
    Top { expected: &'static str },
}
