//! The vectors: sessions that Go's encoder wrote, and damaged ones with Go's verdict.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cloakroom_gob::{Gob, Shape, TypeId, Types, Value};
use serde_json::Value as Json;

use super::key::{self, go_key};
use super::session::{Envelope, GobMap};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gob")
}

fn json(file: &str) -> Vec<Json> {
    serde_json::from_slice(&std::fs::read(folder().join(file)).unwrap()).unwrap()
}

/// Returns the gobs of the vectors by name.
pub(super) fn vectors() -> &'static HashMap<String, Vec<u8>> {
    static VECTORS: LazyLock<HashMap<String, Vec<u8>>> = LazyLock::new(|| {
        let entry = |vector: &Json| {
            (vector["name"].as_str().unwrap().to_owned(), unhex(vector["hex"].as_str().unwrap()))
        };
        json("vectors.json").iter().map(entry).collect()
    });
    &VECTORS
}

fn unhex(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

/// The bytes of Go's `time.Time{}`.
const ZERO_TIME: &str = "01000000000000000000000000ffff";

/// Compares values with their descriptions in `vectors.json`.
struct Described<'a>(&'a Types);

impl Described<'_> {
    fn entries(
        &self,
        entries: &[(Value, Value)],
        described: &Json,
        key: TypeId,
        elem: TypeId,
    ) -> Result<(), String> {
        let described = described.as_array().unwrap();
        if entries.len() != described.len() {
            return Err(format!("{} entries, not {}", entries.len(), described.len()));
        }
        let by_text: HashMap<_, _> = entries.iter().map(|entry| (key::to_text(&entry.0), entry)).collect();
        for entry in described {
            let told = &entry["key"];
            let text = match (told["gobname"].as_str(), told["value"].as_str()) {
                (Some("string") | None, Some(text)) => text.to_owned(),
                (name, text) => go_key(name.unwrap_or_default(), text.unwrap_or_default()),
            };
            let found = by_text.get(&*text).copied();
            let is_it = |found: &&(Value, Value)| self.value(key, Some(&found.0), told).is_ok();
            let found = found.filter(is_it).or_else(|| entries.iter().find(is_it));
            let (_, value) = found.ok_or_else(|| format!("no key {told}"))?;
            self.value(elem, Some(value), &entry["value"])?;
        }
        Ok(())
    }

    /// Compares one value; `None` is a field that was not sent.
    fn value(&self, id: TypeId, value: Option<&Value>, described: &Json) -> Result<(), String> {
        let text = |field: &str| described[field].as_str();
        let name = text("type").unwrap();
        if let Some(Value::Interface(held)) = value {
            let Some(held) = held else {
                return if described["null"] == true { Ok(()) } else { Err(format!("nil, not {name}")) };
            };
            if text("gobname") != Some(&*held.name) {
                return Err(format!("{}, not {:?}", held.name, text("gobname")));
            }
            return self.value(held.id, Some(&held.value), described);
        }
        if described["null"] == true {
            return value.map_or(Ok(()), |value| Err(format!("{value:?}, not nil")));
        }
        if text("kind") == Some("ptr") {
            return self.value(id, value, &described["elems"][0]);
        }
        let wrong = || Err(format!("{value:?}, not {described}"));
        let floats = |found: &[u64], bits: &Json| {
            let expected: Vec<_> = match bits {
                Json::Array(all) => all.iter().map(|bits| bits.as_str().unwrap().to_owned()).collect(),
                one => vec![one.as_str().unwrap().to_owned()],
            };
            found.iter().map(|bits| format!("{bits:016x}")).collect::<Vec<_>>() == expected
        };
        let fits = match value {
            None => return Self::zero(described),
            Some(Value::Bool(value)) => described["value"] == *value,
            Some(Value::Int(number)) => text("value") == Some(&number.to_string()),
            Some(Value::Uint(number)) => text("value") == Some(&number.to_string()),
            // Go loses the payload of a float32 that is not a number.
            Some(Value::Float(bits)) if name == "float32" && f64::from_bits(*bits).is_nan() => {
                text("value") == Some("NaN")
            }
            Some(Value::Float(bits)) => floats(&[*bits], &described["bits"]),
            Some(Value::Complex(real, imaginary)) => floats(&[*real, *imaginary], &described["bits"]),
            Some(Value::Bytes(bytes)) => text("hex").map(unhex).as_deref() == Some(bytes),
            Some(Value::Encoded(bytes)) => text("hex").map(unhex).as_deref() == Some(bytes),
            Some(Value::Text(bytes)) => match text("hex") {
                Some(hex) => &unhex(hex) == bytes,
                None => text("value").unwrap().as_bytes() == bytes,
            },
            Some(Value::List(list)) => {
                let (Some(Shape::Slice { elem } | Shape::Array { elem, .. }), Some(elems)) =
                    (self.0.shape(id), described["elems"].as_array())
                else {
                    return wrong();
                };
                if elems.len() != list.len() {
                    return wrong();
                }
                return list
                    .iter()
                    .zip(elems)
                    .try_for_each(|(value, told)| self.value(*elem, Some(value), told));
            }
            Some(Value::Map(map)) => match self.0.shape(id) {
                Some(Shape::Map { key, elem }) => {
                    return self.entries(map, &described["entries"], *key, *elem);
                }
                _ => false,
            },
            Some(Value::Struct(values)) => {
                let (Some(Shape::Struct { fields }), Some(told)) =
                    (self.0.shape(id), described["fields"].as_array())
                else {
                    return wrong();
                };
                // Go ignores a field that its own type does not have.
                for told in told {
                    let name = told["name"].as_str().unwrap().as_bytes();
                    let place = fields.iter().position(|field| *field.name == *name);
                    let sent =
                        values.iter().find(|(at, _)| Some(*at as usize) == place).map(|(_, value)| value);
                    let id = place.map_or(TypeId::INTERFACE, |place| fields[place].id);
                    self.value(id, sent, &told["value"]).map_err(|why| format!("{}: {why}", told["name"]))?;
                }
                true
            }
            Some(Value::Interface(_)) => unreachable!("opened above"),
        };
        if fits { Ok(()) } else { wrong() }
    }

    /// Checks that the description of a field that was not sent is a zero.
    fn zero(described: &Json) -> Result<(), String> {
        let told = |field: &str| described.get(field);
        let number = |value: &Json| matches!(value.as_str(), Some("0" | "-0" | ""));
        let zero = match told("value") {
            _ if told("hex") == Some(&ZERO_TIME.into()) => true,
            Some(Json::Bool(value)) => !value,
            Some(Json::Array(parts)) => parts.iter().all(number),
            Some(value) => number(value),
            None => {
                let empty = |field: &str| told(field).and_then(Json::as_array).map(Vec::is_empty);
                let fields = told("fields").and_then(Json::as_array);
                fields.is_some_and(|fields| fields.iter().all(|field| Self::zero(&field["value"]).is_ok()))
                    || empty("elems").unwrap_or(false)
                    || empty("entries").unwrap_or(false)
                    || told("elems")
                        .and_then(Json::as_array)
                        .is_some_and(|elems| elems.iter().all(|elem| Self::zero(elem).is_ok()))
                    || matches!(told("hex").and_then(Json::as_str), Some(""))
                    || told("hex")
                        .and_then(Json::as_str)
                        .is_some_and(|hex| hex.bytes().all(|digit| digit == b'0'))
            }
        };
        if zero { Ok(()) } else { Err(format!("nothing, not {described}")) }
    }
}

fn as_described(data: &[u8], described: &Json) -> Result<(), String> {
    let session = GobMap::parse(data, Envelope::Map).map_err(|error| error.to_string())?;
    Described(&session.types).entries(&session.entries, described, TypeId::INTERFACE, TypeId::INTERFACE)
}

#[test]
fn every_vector_round_trips_as_described() {
    let vectors = json("vectors.json");
    assert_eq!(vectors.len(), 145);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let data = std::fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        assert_eq!(data.len() as u64, vector["bytes"].as_u64().unwrap());
        let told = |data: &[u8]| as_described(data, &vector["map"]);
        if let Err(why) = told(&data) {
            wrong.push(format!("{}: {why}", vector["name"]));
            continue;
        }
        let written = GobMap::parse(&data, Envelope::Map).unwrap().into_gob().unwrap();
        if let Err(why) = told(&written) {
            wrong.push(format!("{} written: {why}", vector["name"]));
        }
        // Only the definition of a type that no value uses is not written back. One vector has such a type.
        if written != data && vector["name"] != "url_ptr" {
            wrong.push(format!("{}: other bytes", vector["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
}

/// Returns true if Go's verdict depends on the types that its process has registered.
fn depends_on_registered_types(error: &str) -> bool {
    error.contains("name not registered for interface")
        || error.contains("decoding into local type")
        || error.contains("wrong type (")
        // The error of a type of the vectors that decodes itself.
        || error == "money: bad length"
}

#[test]
fn every_damaged_gob_gets_the_verdict_of_go() {
    let blobs = json("malformed.json");
    assert_eq!(blobs.len(), 1207);
    let mut wrong = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for (place, blob) in blobs.iter().enumerate() {
        let data = unhex(blob["hex"].as_str().unwrap());
        let what = format!("{place} {} {} {}", blob["base"], blob["how"], blob["err"]);
        match (blob["go"].as_str().unwrap(), GobMap::parse(&data, Envelope::Map)) {
            ("ok", _) => {
                read += 1;
                if let Err(why) = as_described(&data, &blob["map"]) {
                    wrong.push(format!("{what}: {why}"));
                }
            }
            (_, Err(_)) => refused += 1,
            // Beego reads no bytes at all as a session without keys.
            (_, Ok(_)) if data.is_empty() => {
                assert_eq!(Gob::decode(&data).unwrap_err().kind(), cloakroom_gob::ErrorKind::Malformed);
            }
            (_, Ok(session)) => {
                if !depends_on_registered_types(blob["err"].as_str().unwrap()) {
                    wrong.push(format!("{what}: read"));
                }
                let written = session.into_gob().unwrap();
                assert_eq!(
                    GobMap::parse(&written, Envelope::Map).unwrap().into_gob().unwrap(),
                    written,
                    "{what}"
                );
            }
        }
    }
    println!("{read} read, {refused} refused of those that Go refuses");
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
}
