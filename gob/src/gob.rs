//! A whole gob: its value, the type of the value, and the definitions.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::decode::decode;
use crate::deserialize::from_value;
use crate::encode::encode;
use crate::error::{Error, Reason};
use crate::fit::Fit;
use crate::name::GoType;
use crate::serialize::to_dynamic;
use crate::types::{TypeId, Types};
use crate::value::Value;

/// A decoded gob of one value.
///
/// Type numbers, the order of map entries and everything else that the bytes say are kept. So [`encode`](Self::encode)
/// returns the bytes that [`decode`](Self::decode) read, except for definitions that no value uses.
///
/// ```
/// use cloakroom_gob::{Gob, Value};
///
/// let gob = Gob::decode(b"\x03\x04\x00\x0e")?; // gob.NewEncoder(w).Encode(7)
/// assert_eq!(gob.value, Value::Int(7));
/// assert_eq!(gob.encode()?, b"\x03\x04\x00\x0e");
/// # Ok::<(), cloakroom_gob::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gob {
    /// The types that the gob defines.
    pub types: Types,
    /// The type of the value.
    pub id: TypeId,
    /// The value.
    pub value: Value,
}

impl Gob {
    /// Reads the first value of a gob. Like Go, it ignores bytes after the value.
    ///
    /// Memory stays proportional to the input. Nesting and the number of types are bounded:
    /// [`MAX_DECODED_DEPTH`](crate::MAX_DECODED_DEPTH), [`MAX_TYPES`](crate::MAX_TYPES).
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) or [`ErrorKind::Limit`](crate::ErrorKind::Limit).
    pub fn decode(bytes: &[u8]) -> Result<Gob, Error> {
        let (types, id, value) = decode(bytes)?;
        Ok(Gob { types, id, value })
    }

    /// Returns the bytes, message by message as Go writes them.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value does not have the shape of its type, or if a type
    /// is not defined. Neither happens to a gob that was decoded.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        encode(&self.types, self.id, &self.value, &mut out)?;
        Ok(out)
    }

    /// Converts a Rust value; [`to_dynamic`] lists the Go types.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if the value has no Go counterpart, or is nil, which gob cannot send
    /// alone.
    pub fn serialize<T: Serialize + ?Sized>(value: &T) -> Result<Gob, Error> {
        let mut types = Types::default();
        let held = to_dynamic(value, &mut types)?.ok_or(Reason::Value)?;
        Ok(Gob { types, id: held.id, value: held.value })
    }

    /// Converts the value to a Rust type; [`from_value`] lists the rules.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if the value has another shape than `T` asks for.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Error> {
        from_value(&self.types, self.id, &self.value)
    }

    /// Replaces the value and keeps its Go type.
    ///
    /// A Rust struct or map fits a Go struct of its fields. Fields that `value` does not have keep their former value.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if the new value does not fit the Go type; the gob is unchanged then.
    pub fn replace<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let mut new_types = Types::default();
        let new = to_dynamic(value, &mut new_types)?.ok_or(Reason::Value)?;
        let mut types = self.types.clone();
        let mut fit = Fit { types: &mut types, new_types: &new_types };
        let fitted = fit.fit(&new.value, self.id, &GoType::Named(""), Some(&self.value));
        self.value = fitted.ok_or(Reason::Value)?;
        self.types = types;
        Ok(())
    }
}

/// Decodes a gob straight to a Rust value.
///
/// ```
/// let n: u8 = cloakroom_gob::from_slice(b"\x03\x04\x00\x0e")?;
/// assert_eq!(n, 7);
/// # Ok::<(), cloakroom_gob::Error>(())
/// ```
///
/// # Errors
/// Those of [`Gob::decode`] and [`Gob::deserialize`].
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Gob::decode(bytes)?.deserialize()
}

/// Encodes a Rust value as a gob.
///
/// ```
/// assert_eq!(cloakroom_gob::to_vec("hi")?, b"\x05\x0c\x00\x02hi");
/// # Ok::<(), cloakroom_gob::Error>(())
/// ```
///
/// # Errors
/// Those of [`Gob::serialize`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    Gob::serialize(value)?.encode()
}
