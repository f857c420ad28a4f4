//! The Go type that a Rust value gets, and what stays unchanged.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use cloakroom_gob::{Field, Shape, TypeId, Types, Value};
use serde::{Deserialize, Serialize};

use super::session::{Envelope, GobMap};
use super::tests::vectors;
use super::{GoTime, go_key};
use crate::codec::{Buffer, Change, Codec, Limits};
use crate::error::ErrorKind;

const NO_LIMITS: Limits = Limits { bytes: usize::MAX, keys: usize::MAX, depth: 128 };

fn set<T: Serialize + ?Sized>(data: &[u8], key: &str, value: &T) -> Vec<u8> {
    let changed = merge(data, &[Codec::GOB.encode(key, value, &NO_LIMITS).unwrap()]);
    Codec::GOB.check(&changed).unwrap();
    changed
}

fn merge(data: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut out = Buffer::new();
    Codec::GOB.merge(data, changes, &NO_LIMITS, &mut out).unwrap();
    out.to_vec()
}

fn get<T: serde::de::DeserializeOwned>(data: &[u8], key: &str) -> T {
    try_get(data, key).unwrap()
}

fn try_get<T: serde::de::DeserializeOwned>(data: &[u8], key: &str) -> crate::error::Result<T> {
    Codec::GOB.decode(&Codec::GOB.find(data, key).unwrap().expect("the key is there"))
}

/// Returns the Go type of the value under `key`.
fn go_type(data: &[u8], key: &str) -> String {
    let session = GobMap::parse(data, Envelope::Map).unwrap();
    let place = session.position(key).expect("the key is there");
    session.entries[place].1.held().expect("never nil").name.to_string()
}

fn vector(name: &str) -> Vec<u8> {
    vectors().get(name).unwrap_or_else(|| panic!("there is a vector {name}")).clone()
}

/// Serializes as bytes, where a `Vec<u8>` serializes as a list.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl serde::de::Visitor<'_> for Visit {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visit)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shade {
    Plain,
    Grey(u8),
    Mixed { red: u8, blue: u8 },
    Pair(u8, u8),
}

fn in_go<T: Serialize + ?Sized>(value: &T) -> String {
    go_type(&set(b"", "k", value), "k")
}

#[test]
fn a_new_key_gets_a_type_that_every_go_program_knows() {
    assert_eq!(in_go(&true), "bool");
    assert_eq!(in_go("text"), "string");
    assert_eq!(in_go(&'x'), "string");
    assert_eq!(in_go(&1.5_f64), "float64");
    assert_eq!(in_go(&1.5_f32), "float32");
    assert_eq!(
        (in_go(&-1_i8), in_go(&1_i16), in_go(&1_i32), in_go(&1_i64)),
        ("int".into(), "int".into(), "int".into(), "int".into())
    );
    assert_eq!(
        (in_go(&1_u8), in_go(&1_u16), in_go(&1_u32), in_go(&1_u64)),
        ("int".into(), "int".into(), "int".into(), "int".into())
    );
    assert_eq!((in_go(&(i64::MAX as u64)), in_go(&(1_u64 << 63))), ("int".into(), "uint64".into()));
    assert_eq!((in_go(&1_i128), in_go(&u128::from(u64::MAX))), ("int".into(), "uint64".into()));
    assert_eq!(in_go(&Bytes(vec![1])), "[]uint8");
    assert_eq!((in_go(&vec![1]), in_go(&(1, "a"))), ("[]interface {}".into(), "[]interface {}".into()));
    assert_eq!(in_go(&HashMap::from([("a", 1)])), "map[string]interface {}");
    assert_eq!(in_go(&HashMap::<String, u8>::new()), "map[string]interface {}");
    assert_eq!(in_go(&HashMap::from([(1, 1)])), "map[int]interface {}");
    assert_eq!(in_go(&HashMap::from([(true, 1)])), "map[interface {}]interface {}");
    assert_eq!(in_go(&GoTime::from(SystemTime::UNIX_EPOCH)), "time.Time");
    assert_eq!(
        (in_go(&Shade::Plain), in_go(&Shade::Grey(1))),
        ("string".into(), "map[string]interface {}".into())
    );
}

#[test]
fn values_round_trip() {
    let data = set(b"", "n", &u64::MAX);
    let data = set(
        &data,
        "shades",
        &[Shade::Plain, Shade::Grey(1), Shade::Mixed { red: 1, blue: 2 }, Shade::Pair(1, 2)],
    );
    let data = set(&data, "nested", &vec![vec![Some(1), None], vec![]]);
    let data = set(&data, "f", &f64::MIN_POSITIVE);
    let data = set(&data, "bytes", &Bytes(vec![0, 255]));
    let time = GoTime::from(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789));
    let data = set(&data, "at", &time);
    let data = set(&data, "by id", &BTreeMap::from([(-1, "a"), (7, "b")]));
    assert_eq!(get::<u64>(&data, "n"), u64::MAX);
    let shades = [Shade::Plain, Shade::Grey(1), Shade::Mixed { red: 1, blue: 2 }, Shade::Pair(1, 2)];
    assert_eq!(get::<Vec<Shade>>(&data, "shades"), shades);
    assert_eq!(get::<Vec<Vec<Option<u8>>>>(&data, "nested"), [vec![Some(1), None], vec![]]);
    assert_eq!(get::<f64>(&data, "f"), f64::MIN_POSITIVE);
    assert_eq!(
        (get::<Bytes>(&data, "bytes"), get::<Vec<u8>>(&data, "bytes")),
        (Bytes(vec![0, 255]), vec![0, 255])
    );
    assert_eq!(
        (get::<GoTime>(&data, "at"), get::<String>(&data, "at")),
        (time, "2023-11-14T22:13:20.123456789Z".into())
    );
    assert_eq!(
        get::<BTreeMap<i64, String>>(&data, "by id"),
        BTreeMap::from([(-1, "a".into()), (7, "b".into())])
    );
    assert_eq!(Codec::GOB.keys(&data).unwrap(), ["n", "shades", "nested", "f", "bytes", "at", "by id"]);
}

#[test]
fn setting_a_key_to_none_deletes_it() {
    let data = set(&set(b"", "a", &1), "b", &2);
    let data = set(&data, "a", &None::<u8>);
    assert_eq!(Codec::GOB.keys(&data).unwrap(), ["b"]);
    // Beego's empty session has these 19 bytes.
    assert_eq!(
        set(&data, "b", &()),
        b"\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x10\x01\x10\x00\x00\x04\xff\x80\x00\x00"
    );
}

#[test]
fn an_existing_key_keeps_its_go_type() {
    let kept = |name: &str, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let before = vector(name);
        let after = change(&before);
        assert_eq!(go_type(&after, "k"), go_type(&before, "k"), "{name}");
        after
    };
    macro_rules! kept {
        ($name:expr, $value:expr, $as:ty) => {{
            let after = kept($name, &|before| set(before, "k", &$value));
            assert_eq!(get::<$as>(&after, "k"), $value, "{}", $name);
        }};
    }
    kept!("int64_min", 5_i32, i32);
    kept!("int8_max", -128_i64, i64);
    kept!("int16_min", 300_u64, u64);
    kept!("rune", 0x1F600, u32);
    kept!("uint_128", 7_i8, i8);
    kept!("uint8_255", 0_u64, u64);
    kept!("uintptr", u64::MAX, u64);
    kept!("float64_pi", 3_u8, f64_of_u8::Whole);
    kept!("float64_pi", 0.1_f64, f64);
    kept!("float32_0.1", 0.3_f32, f32);
    kept!("float32_0.1", 0.5_f64, f64);
    kept!("complex128", (1.5_f64, 2.5_f64), (f64, f64));
    kept!("bytes_1", vec![1_u8, 255], Vec<u8>);
    kept!("bytes_1", Bytes(vec![7]), Bytes);
    kept!("strings", vec!["x".to_owned()], Vec<String>);
    kept!("int64s", vec![1_i64, 2], Vec<i64>);
    kept!("float32s", vec![0.25_f32], Vec<f32>);
    kept!("slices_of_bytes", vec![vec![1_u8], vec![]], Vec<Vec<u8>>);
    kept!("ptrs_int", vec![1_i64, 2], Vec<i64>);
    kept!("array3_int", [9_i64, 8, 7], [i64; 3]);
    kept!("array4_byte", [9_u8, 8, 7, 6], [u8; 4]);
    kept!("array4_byte", Bytes(vec![1, 2, 3, 4]), Four);
    kept!("map_int_int", BTreeMap::from([(1_i64, 2_i64)]), BTreeMap<i64, i64>);
    kept!("map_string_strings", BTreeMap::from([("a".to_owned(), vec!["b".to_owned()])]), BTreeMap<String, Vec<String>>);
    kept!("map_int64_string", BTreeMap::from([(1_i64, "b".to_owned())]), BTreeMap<i64, String>);
    kept!("map_iface_string", BTreeMap::from([("k".to_owned(), "b".to_owned())]), BTreeMap<String, String>);
    kept!("url_values", BTreeMap::from([("q".to_owned(), vec!["b".to_owned()])]), BTreeMap<String, Vec<String>>);
    kept!("named_slice", vec![1_i64], Vec<i64>);
    kept!("named_float", 0.1_f64, f64);
    kept!("named_bytes", Bytes(vec![3]), Bytes);
    kept!("named_array", [1_u8, 2, 3, 4, 5, 6, 7, 8], [u8; 8]);
    kept!("ptr_named_int", 6_i64, i64);
    kept!("gobencoder_value", Bytes(vec![0; 8]), Bytes);
    kept!("net_ip", vec![127_u8, 0, 0, 1], Vec<u8>);
    kept!("time_utc_ns", "2026-11-23T14:00:00+08:00".to_owned(), String);
    kept!("time_sec_offset", GoTime::from(SystemTime::UNIX_EPOCH), GoTime);
    kept!("ifaces_nil_inside", vec![Some("a".to_owned()), None], Vec<Option<String>>);
}

/// A whole number stored in a float64, read as a float.
mod f64_of_u8 {
    #[derive(Debug, serde::Deserialize)]
    pub(super) struct Whole(f64);
    impl PartialEq<u8> for Whole {
        fn eq(&self, other: &u8) -> bool {
            self.0 == f64::from(*other)
        }
    }
}

/// Four bytes stored in an array, read as one.
#[derive(Debug, Deserialize)]
struct Four([u8; 4]);

impl PartialEq<Bytes> for Four {
    fn eq(&self, other: &Bytes) -> bool {
        self.0[..] == other.0[..]
    }
}

#[test]
fn a_value_that_does_not_fit_gets_the_type_of_a_new_key() {
    fn becomes<T: Serialize>(name: &str, value: T, expected: &str) {
        let after = set(&vector(name), "k", &value);
        assert_eq!(go_type(&after, "k"), expected, "{name}");
    }
    becomes("int8_max", 128, "int");
    becomes("uint8_255", -1, "int");
    becomes("uint8_255", 256, "int");
    becomes("uint_128", -1, "int");
    becomes("int_0", u64::MAX, "uint64");
    becomes("int_0", 1.5, "float64");
    becomes("int_0", "1", "string");
    becomes("float32_0.1", 0.1_f64, "float64");
    becomes("float64_pi", (1_u64 << 53) + 1, "int");
    becomes("bool_true", 1, "int");
    becomes("string", 1, "int");
    becomes("bytes_1", vec![256], "[]interface {}");
    becomes("strings", vec![1], "[]interface {}");
    becomes("array3_int", vec![1, 2], "[]interface {}");
    becomes("map_int_int", HashMap::from([("a", 1)]), "map[string]interface {}");
    becomes("time_utc_ns", "noon", "string");
    becomes("time_utc_ns", "2026-11-23", "string");
    becomes("geo_point", HashMap::from([("X", 1), ("Z", 1)]), "map[string]interface {}");
    becomes("gobencoder_value", 1, "int");
}

#[test]
fn values_within_a_value_keep_their_go_type() {
    // A map[string]interface{} with a float64, and a list of a float64 and a string.
    let data = set(b"", "k", &serde_json::json!({"price": 1.5, "list": [1.5, "a"]}));
    let data = set(&data, "k", &serde_json::json!({"price": 2, "list": [3, 4, 5]}));
    assert_eq!(get::<serde_json::Value>(&data, "k"), serde_json::json!({"price": 2.0, "list": [3.0, 4, 5]}));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    #[serde(rename = "ID")]
    id: i64,
    name: String,
    tags: Vec<String>,
    meta: BTreeMap<String, i64>,
    created: GoTime,
}

#[test]
fn a_registered_struct_is_updated_field_by_field() {
    let data = vector("main_user");
    let mut user: User = get(&data, "k");
    let expected = User {
        id: 7,
        name: "bob".into(),
        tags: vec!["a".into(), "b".into()],
        meta: BTreeMap::from([("x".into(), 1)]),
        created: serde_json::from_str("\"2014-08-21T13:05:07.123456789Z\"").unwrap(),
    };
    assert_eq!(user, expected);
    assert_eq!(set(&data, "k", &user), data, "the same value has the same bytes");

    user.id = 0;
    user.tags.push("c".into());
    let changed = set(&data, "k", &user);
    assert_eq!((go_type(&changed, "k").as_str(), get::<User>(&changed, "k")), ("main.User", user));
    let sent =
        |data: &[u8]| match &GobMap::parse(data, Envelope::Map).unwrap().entries[0].1.held().unwrap().value {
            Value::Struct(fields) => fields.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
    assert_eq!((sent(&data), sent(&changed)), (vec![0, 1, 2, 3, 4], vec![1, 2, 3, 4]), "Go omits zeros");

    // Fields that the new value does not have keep their value.
    let part = set(&data, "k", &HashMap::from([("Name", "eve")]));
    assert_eq!(go_type(&part, "k"), "main.User");
    assert_eq!(get::<User>(&part, "k"), User { name: "eve".into(), ..expected });
}

#[test]
fn a_zero_field_in_go_is_zero_or_none() {
    let user: User = get(&vector("main_user_zero"), "k");
    assert_eq!((user.id, user.name.as_str(), user.tags.len(), user.meta.len()), (0, "", 0, 0));
    assert_eq!(user.created.to_string(), "0001-01-01T00:00:00Z");

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Admin {
        user: Option<User>,
        level: u8,
    }
    let admin: Admin = get(&vector("admin_embedded_nil"), "k");
    assert!(admin.user.is_none() && admin.level == 1);
    assert_eq!(get::<Admin>(&vector("admin_embedded_ptr"), "k").user.unwrap().id, 2);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Node {
        val: i64,
        next: Option<Box<Node>>,
    }
    let list: Node = get(&vector("node_list"), "k");
    assert_eq!((list.val, list.next.unwrap().val), (1, 0));

    /// A list without an end, since no field is optional.
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    #[allow(dead_code)]
    struct Endless {
        val: i64,
        next: Box<Endless>,
    }
    assert_eq!(try_get::<Endless>(&vector("node_list"), "k").unwrap_err().kind(), ErrorKind::Value);
}

#[test]
fn a_wrong_type_is_an_error_without_the_value() {
    let data = set(b"", "k", "hunter2");
    let error = try_get::<u64>(&data, "k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert_eq!(try_get::<u8>(&vector("int_neg1"), "k").unwrap_err().kind(), ErrorKind::Value);
    assert_eq!(try_get::<String>(&vector("string_invalid_utf8"), "k").unwrap_err().kind(), ErrorKind::Value);
    assert_eq!(get::<Bytes>(&vector("string_invalid_utf8"), "k").0, b"ok\xff\xfe\x80end");
}

#[test]
fn keys_of_other_types_are_reachable_by_name() {
    let data = vector("key_int64");
    let (int, int64) = (go_key("int", 5), go_key("int64", 5));
    assert_eq!(
        (get::<String>(&data, &int), get::<String>(&data, &int64)),
        ("int five".into(), "int64 five".into())
    );
    let changed = set(&set(&data, &int64, "changed"), "5", "text");
    assert_eq!(get::<String>(&changed, &int), "int five");
    assert_eq!(get::<String>(&changed, &int64), "changed");
    assert_eq!(get::<String>(&changed, "5"), "text");
    assert_eq!(set(&set(&changed, &int64, "int64 five"), "5", &()), data);

    for (name, key) in [
        ("key_bool", go_key("bool", true)),
        ("key_float", go_key("float64", 1.5)),
        ("key_float", go_key("float64", "-0")),
    ] {
        assert_eq!(get::<String>(&vector(name), &key).len(), 1, "{name}");
    }
    let data = set(&set(b"", &go_key("uint8", 7), "new"), &go_key("uint8", 256), "no uint8");
    let session = GobMap::parse(&data, Envelope::Map).unwrap();
    assert_eq!(session.entries[0].0.held().unwrap().name.as_ref(), "uint8");
    assert_eq!(session.entries[1].0.held().unwrap().value, Value::Text(b"\0uint8:256".to_vec()));

    for name in ["key_struct", "key_complex", "keys_mixed"] {
        let data = vector(name);
        for key in Codec::GOB.keys(&data).unwrap() {
            let _: serde_json::Value = get(&data, &key);
            assert_eq!(
                Codec::GOB.keys(&set(&data, &key, &())).unwrap().len() + 1,
                Codec::GOB.count(&data).unwrap()
            );
        }
    }
}

/// Returns a session of one key, which can be of any Go type.
fn of_one(key: Value) -> Vec<u8> {
    let held = Value::dynamic("string", TypeId::STRING, Value::Text(b"held".to_vec()));
    GobMap::of_one(Types::default(), key, held).into_gob().unwrap()
}

#[test]
fn a_string_that_looks_like_a_typed_key_is_distinct() {
    let data = of_one(Value::dynamic("string", TypeId::STRING, Value::Text(b"\0int:5".to_vec())));
    assert!(Codec::GOB.find(&data, &go_key("int", 5)).unwrap().is_none());
    let keys = Codec::GOB.keys(&data).unwrap();
    assert_eq!(get::<String>(&data, &keys[0]), "held");
    let both = set(&data, &go_key("int", 5), "five");
    assert_eq!(
        (get::<String>(&both, &go_key("int", 5)), get::<String>(&both, &keys[0])),
        ("five".into(), "held".into())
    );
    assert_eq!(set(&both, &go_key("int", 5), &()), data);
}

#[test]
fn a_key_that_go_cannot_compare_is_refused() {
    let bytes = Value::dynamic("[]uint8", TypeId::BYTES, Value::Bytes(vec![1]));
    let text = Value::dynamic("string", TypeId::STRING, Value::Text(vec![]));
    for (key, kind) in [(bytes, Some(ErrorKind::Corrupt)), (text, None)] {
        assert_eq!(Codec::GOB.check(&of_one(key)).err().map(|error| error.kind()), kind);
    }
}

#[test]
fn values_that_nest_too_deeply_are_refused() {
    let nested = |levels: usize| {
        let mut types = Types::default();
        let id = types.id_of("", Shape::Slice { elem: TypeId::INTERFACE });
        let empty = Value::dynamic("[]interface {}", id, Value::List(Vec::new()));
        let value = (1..levels)
            .fold(empty, |inner, _| Value::dynamic("[]interface {}", id, Value::List(vec![inner])));
        let key = Value::dynamic("string", TypeId::STRING, Value::Text(b"k".to_vec()));
        GobMap::of_one(types, key, value).into_gob().unwrap()
    };
    let most = crate::codec::MAX_DEPTH;
    let kind = |levels| Codec::GOB.check(&nested(levels)).err().map(|error| error.kind());
    assert_eq!(
        (kind(most), kind(most + 2), kind(most * 4)),
        (None, Some(ErrorKind::Corrupt), Some(ErrorKind::Corrupt))
    );
}

#[test]
fn an_array_of_another_length_than_its_type_is_refused() {
    let mut session = GobMap::parse(&vector("array3_int"), Envelope::Map).unwrap();
    let Value::Interface(Some(held)) = &mut session.entries[0].1 else { panic!("never nil") };
    let Value::List(elements) = &mut held.value else { panic!("an array") };
    elements.pop();
    let error = Codec::GOB.check(&session.into_gob().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn few_bytes_cannot_expand_to_thousands_of_zeros() {
    // A struct of two structs of two structs and so on. No field was sent.
    let of_levels = |levels: usize| {
        let mut types = Types::default();
        let mut id = TypeId::INT;
        for _ in 0..levels {
            let field = |name: &str| Field { name: name.as_bytes().into(), id };
            id = types.id_of("", Shape::Struct { fields: [field("A"), field("B")].into() });
        }
        let key = Value::dynamic("string", TypeId::STRING, Value::Text(b"k".to_vec()));
        let data = GobMap::of_one(types, key, Value::dynamic("main.Tree", id, Value::Struct(Vec::new())));
        data.into_gob().unwrap()
    };
    assert_eq!(
        get::<serde_json::Value>(&of_levels(2), "k"),
        serde_json::json!({"A": {"A": 0, "B": 0}, "B": {"A": 0, "B": 0}})
    );
    let data = of_levels(16);
    assert!(data.len() < 1024, "{}", data.len());
    assert_eq!(try_get::<serde_json::Value>(&data, "k").unwrap_err().kind(), ErrorKind::Value);
}

#[test]
fn a_long_chain_of_unsent_structs_is_refused() {
    let mut types = Types::default();
    let mut id = TypeId::INT;
    for level in 0..4_000 {
        let field = Field { name: b"A".as_slice().into(), id };
        // Each has its own name; without one, the search for a known type would be slow.
        id = types.id_of(&format!("T{level}"), Shape::Struct { fields: [field].into() });
    }
    let key = Value::dynamic("string", TypeId::STRING, Value::Text(b"k".to_vec()));
    let data = GobMap::of_one(types, key, Value::dynamic("main.Chain", id, Value::Struct(Vec::new())));
    let data = data.into_gob().unwrap();
    assert_eq!(try_get::<serde_json::Value>(&data, "k").unwrap_err().kind(), ErrorKind::Value);
}

#[test]
fn pointers_and_nan_as_keys_lose_no_entry() {
    let mut types = Types::default();
    let field = Field { name: b"F".as_slice().into(), id: TypeId::FLOAT };
    let point = types.id_of("Point", Shape::Struct { fields: [field].into() });
    let nan = || Value::Float(f64::NAN.to_bits());
    let text = |value: &str| Value::dynamic("string", TypeId::STRING, Value::Text(value.as_bytes().to_vec()));
    for key in [
        Value::dynamic("*int", TypeId::INT, Value::Int(7)),
        Value::dynamic("float64", TypeId::FLOAT, nan()),
        Value::dynamic("main.Point", point, Value::Struct(vec![(0, nan())])),
    ] {
        let mut session = GobMap::of_one(types.clone(), key.clone(), text("one"));
        session.push(key, text("two")).unwrap();
        let data = session.into_gob().unwrap();
        let keys = Codec::GOB.keys(&data).unwrap();
        assert_eq!((keys.len(), keys[1].ends_with("#2")), (2, true), "{keys:?}");
        assert_eq!(
            (get::<String>(&data, &keys[0]), get::<String>(&data, &keys[1])),
            ("one".into(), "two".into())
        );
        let changed = set(&set(&data, "n", &1), &keys[1], "three");
        assert_eq!(get::<String>(&changed, &keys[0]), "one");
        assert_eq!(get::<String>(&changed, &keys[1]), "three");
        let mut moved = crate::codec::Buffer::new();
        Codec::GOB.convert(&changed, Codec::JSON, &mut moved).unwrap();
        assert_eq!(Codec::JSON.keys(&moved).unwrap().len(), 3, "a conversion loses none either");
    }
}

#[test]
fn the_last_of_two_equal_keys_wins_as_in_go() {
    // Go decodes it as {"username": "secaron"}.
    let once = "06737472696e670c0a0008757365726e616d6506737472696e670c09000761737461786965";
    let again = once.replace("61737461786965", "73656361726f6e");
    let blob = format!("0d7f040102ff80000110011000004eff800002{once}{again}");
    let data = data_encoding::HEXLOWER.decode(blob.as_bytes()).unwrap();
    assert_eq!(Codec::GOB.keys(&data).unwrap(), ["username"]);
    assert_eq!(get::<String>(&data, "username"), "secaron");
    let changed = set(&data, "n", &1);
    assert_eq!(Codec::GOB.keys(&changed).unwrap(), ["username", "n"]);
    assert_eq!(get::<String>(&changed, "username"), "secaron");
}

#[test]
fn other_keys_survive_a_hundred_changes_unchanged() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 145);
    for (name, before) in vectors {
        let after = after_a_hundred_rounds(before);
        // The one definition that no value uses is dropped at the first write.
        let shown = |data: &[u8]| data_encoding::HEXLOWER.encode(data);
        assert!(after == *before || name == "url_ptr", "{name}: {} {}", shown(&after), shown(before));
        let session = |data: &[u8]| GobMap::parse(data, Envelope::Map).unwrap().entries;
        assert_eq!(session(&after), session(before), "{name}");
    }
}

/// Reads, changes and writes another key a hundred times, deletes it, and returns the session.
fn after_a_hundred_rounds(before: &[u8]) -> Vec<u8> {
    let mut data = before.to_vec();
    for round in 1..=100 {
        let count = match Codec::GOB.find(&data, "rounds").unwrap() {
            Some(value) => Codec::GOB.decode::<u64>(&value).unwrap(),
            None => 0,
        };
        assert_eq!(count + 1, round);
        // A second key brings new types.
        let listed = (round, BTreeMap::from([(1, "a")]), GoTime::from(SystemTime::UNIX_EPOCH));
        let count = Codec::GOB.encode("rounds", &round, &NO_LIMITS).unwrap();
        let listed = Codec::GOB.encode("rounds, listed", &listed, &NO_LIMITS).unwrap();
        data = merge(&data, &[count, listed]);
    }
    merge(&data, &[Change::deletion("rounds"), Change::deletion("rounds, listed")])
}
