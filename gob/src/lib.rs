//! Go's [gob](https://pkg.go.dev/encoding/gob) encoding for Rust, with serde.
//!
//! A gob describes its own types. This crate reads any gob without knowing the Go types, converts it to Rust types, and
//! writes gobs that Go programs read. Bytes that it reads and writes back unchanged stay the same bytes.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! # fn main() -> Result<(), cloakroom_gob::Error> {
//! // From the documentation of encoding/gob: `type Point struct { X, Y int }`, and the value `Point{22, 33}`.
//! let bytes = b"\x1f\xff\x81\x03\x01\x01\x05Point\x01\xff\x82\x00\x01\x02\x01\x01X\x01\x04\x00\x01\x01Y\x01\x04\x00\x00\x00\
//!     \x07\xff\x82\x01\x2c\x01\x42\x00";
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "UPPERCASE")]
//! struct Point { x: i64, y: i64 }
//!
//! let mut gob = cloakroom_gob::Gob::decode(bytes)?;
//! assert_eq!(gob.deserialize::<Point>()?, Point { x: 22, y: 33 });
//!
//! // The value changes, and its Go type stays `Point`.
//! gob.replace(&Point { x: 1, y: 2 })?;
//! assert_eq!(gob.types.definition(gob.id).map(|definition| definition.name()), Some(&b"Point"[..]));
//! # Ok(()) }
//! ```
//!
//! # Calls
//!
//! | you want | call |
//! |---|---|
//! | a Rust value from a gob | [`from_slice`] |
//! | a gob from a Rust value | [`to_vec`] |
//! | to look into a gob, or change it and keep its Go types | [`Gob`], [`Gob::replace`] |
//! | to build a value of a certain Go type | [`Types::id_of`], [`Value`], [`Gob::encode`] |
//! | to change one value within a larger one | [`to_dynamic`], [`Types::replace`] |
//! | a `time.Time` | [`GoTime`] |
//!
//! # Go types of Rust values
//!
//! | Rust | Go |
//! |---|---|
//! | `bool`, `String`, `char` | `bool`, `string` |
//! | integers | `int`, or `uint64` above its range |
//! | `f32`, `f64` | `float32`, `float64` |
//! | bytes, as `serde_bytes` has them | `[]byte` |
//! | sequences, tuples | `[]interface{}` |
//! | structs, maps of text | `map[string]interface{}` |
//! | maps of integers, other maps | `map[int]interface{}`, `map[interface{}]interface{}` |
//! | [`GoTime`] | `time.Time` |
//! | unit variants, other variants | `string`, `map[string]interface{}` |
//! | `None`, `()` | nil |
//!
//! A Go program must register `[]interface{}` and the maps with `gob.Register` before it can read them out of an
//! interface.
//!
//! # Limits
//!
//! Decoding bounds what hostile bytes can cost. Memory stays proportional to the input, a value nests at most
//! [`MAX_DECODED_DEPTH`] levels, and a gob defines at most [`MAX_TYPES`] types. The conversion to a Rust value fills in at most
//! 4,096 zeros that Go did not send. Damaged data is an [`Error`], never a panic.
//!
//! # Limits
//!
//! - It reads one value. A stream of several values in one encoder's output is not supported.
//! - It does not derive Go struct definitions from Rust types. To write a Go struct, change one that was read, or build it from
//!   [`Types`] and [`Value`].
//! - Channels and functions have no gob encoding in Go either. Pointers are sent as the values they point to.
//! - The bytes of types that encode themselves are passed through. Only `time.Time` is understood.

mod decode;
mod deserialize;
mod encode;
mod error;
mod fit;
mod gob;
mod name;
mod serialize;
mod time;
mod types;
mod value;
mod wire;

pub use decode::MAX_DECODED_DEPTH;
pub use deserialize::from_value;
pub use error::{Error, ErrorKind};
pub use gob::{Gob, from_slice, to_vec};
pub use serialize::to_dynamic;
pub use time::GoTime;
pub use types::{Definition, EncodedBy, Field, MAX_TYPES, Shape, TypeId, Types};
pub use value::{Dynamic, Value};

/// The bound on the nesting of lists, maps and structs in a value that [`to_dynamic`] builds.
pub const MAX_DEPTH: usize = 128;
