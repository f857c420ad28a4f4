//! Rust values to gobs and back, and changes that keep the Go type.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;

use cloakroom_gob::{
    Error, ErrorKind, Field, GoTime, Gob, MAX_DEPTH, Shape, TypeId, Types, Value, from_slice, to_dynamic,
    to_vec,
};
use serde::{Deserialize, Serialize};

/// The documentation of encoding/gob: `Point{22, 33}` of `type Point struct { X, Y int }`.
const POINT: &[u8] = b"\x1f\xff\x81\x03\x01\x01\x05Point\x01\xff\x82\x00\x01\x02\x01\x01X\x01\x04\x00\x01\x01Y\x01\x04\x00\x00\x00\
    \x07\xff\x82\x01\x2c\x01\x42\x00";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Point {
    x: i64,
    y: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shade {
    Plain,
    Grey(u8),
    Mixed { red: u8, blue: u8 },
    Pair(u8, u8),
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn values_round_trip() {
    fn round<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
        assert_eq!(from_slice::<T>(&to_vec(&value).unwrap()).unwrap(), value);
    }
    round(true);
    round("text".to_owned());
    round((i64::MIN, u64::MAX, f64::MIN_POSITIVE, 1.5_f32, 'x'));
    round(vec![vec![Some(1), None], vec![]]);
    round(vec![Shade::Plain, Shade::Grey(1), Shade::Mixed { red: 1, blue: 2 }, Shade::Pair(1, 2)]);
    round(BTreeMap::from([(-1, "a".to_owned()), (7, "b".to_owned())]));
    round(GoTime::from(std::time::SystemTime::UNIX_EPOCH));
}

#[test]
fn a_struct_that_go_wrote_is_read_by_field_name() {
    assert_eq!(from_slice::<Point>(POINT).unwrap(), Point { x: 22, y: 33 });
    assert_eq!(from_slice::<BTreeMap<String, u8>>(POINT).unwrap()["Y"], 33);
}

#[test]
fn a_replaced_value_keeps_its_go_type() {
    let mut gob = Gob::decode(POINT).unwrap();
    gob.replace(&Point { x: 22, y: 33 }).unwrap();
    assert_eq!(gob.encode().unwrap(), POINT);
    gob.replace(&BTreeMap::from([("X", 0)])).unwrap();
    assert_eq!(gob.deserialize::<Point>().unwrap(), Point { x: 0, y: 33 });
    assert_eq!(gob.value, Value::Struct(vec![(1, Value::Int(33))]), "Go omits a zero");
}

#[test]
fn a_replacement_that_does_not_fit_changes_nothing() {
    let mut gob = Gob::decode(POINT).unwrap();
    assert_eq!(kind(gob.replace(&BTreeMap::from([("Z", 1)]))), ErrorKind::Value);
    assert_eq!(kind(gob.replace(&None::<u8>)), ErrorKind::Value);
    assert_eq!(kind(gob.replace("text")), ErrorKind::Value);
    assert_eq!(gob.encode().unwrap(), POINT);
}

#[test]
fn a_struct_can_be_built_from_its_definition() {
    let mut types = Types::default();
    let field = |name: &str| Field { name: name.as_bytes().into(), id: TypeId::INT };
    let id = types.id_of("Point", Shape::Struct { fields: [field("X"), field("Y")].into() });
    let value = Value::Struct(vec![(0, Value::Int(22)), (1, Value::Int(33))]);
    let gob = Gob { types, id, value };
    assert_eq!(from_slice::<Point>(&gob.encode().unwrap()).unwrap(), Point { x: 22, y: 33 });
}

#[test]
fn a_value_of_another_shape_than_its_type_is_not_encoded() {
    let value = Value::List(vec![]);
    assert_eq!(kind(Gob { types: Types::default(), id: TypeId::INT, value }.encode()), ErrorKind::Malformed);
}

#[test]
fn values_without_a_go_counterpart_are_errors() {
    assert_eq!(kind(to_vec(&())), ErrorKind::Value);
    assert_eq!(kind(to_vec(&u128::MAX)), ErrorKind::Value);
    assert_eq!(kind(to_vec(&BTreeMap::from([(vec![1], 1)]))), ErrorKind::Value);
    assert_eq!(kind(from_slice::<String>(POINT)), ErrorKind::Value);
}

#[test]
fn an_error_never_shows_the_value() {
    let error = from_slice::<u64>(&to_vec("hunter2").unwrap()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn depth_is_bounded_in_both_directions() {
    let nested =
        |levels: usize| (0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let mut types = Types::default();
    let deepest = to_dynamic(&nested(MAX_DEPTH), &mut types).unwrap().unwrap();
    assert_eq!(deepest.value.depth(), MAX_DEPTH);
    assert_eq!(kind(to_vec(&nested(MAX_DEPTH + 1))), ErrorKind::Value);

    let list = |inner| Value::dynamic("[]interface {}", TypeId::FIRST_OWN, Value::List(vec![inner]));
    let Value::Interface(Some(held)) =
        (0..2 * MAX_DEPTH).fold(list(Value::Interface(None)), |inner, _| list(inner))
    else {
        unreachable!("a list")
    };
    let bytes = Gob { types, id: held.id, value: held.value }.encode().unwrap();
    assert_eq!(kind(Gob::decode(&bytes)), ErrorKind::Limit);
}

#[test]
fn a_type_that_the_name_contradicts_is_malformed() {
    let named = |name: &str| {
        let mut types = Types::default();
        let id = types.id_of("", Shape::Slice { elem: TypeId::INTERFACE });
        let value = Value::List(vec![Value::dynamic(name, TypeId::INT, Value::Int(300))]);
        Gob::decode(&Gob { types, id, value }.encode().unwrap()).map(|gob| gob.value)
    };
    for name in ["int", "main.Id"] {
        let list = Value::List(vec![Value::dynamic(name, TypeId::INT, Value::Int(300))]);
        assert_eq!(named(name).unwrap(), list, "{name}");
    }
    assert_eq!(kind(named("int8")), ErrorKind::Malformed);
    assert_eq!(kind(named("string")), ErrorKind::Malformed);
}
