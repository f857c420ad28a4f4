//! Sessions of scs and gorilla/sessions: read as Go wrote them, and written as Go has read them.
//!
//! `tests/vectors/go/README.md` describes how both sets were made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cloakroom::{
    ErrorKind,
    config::Codec,
    go::{GoSession, GoTime, go_key},
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

fn samples(file: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/go").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn codec(library: &str) -> Codec {
    match library {
        "scs" => Codec::SCS,
        "gorilla" => Codec::GOB,
        other => panic!("{other}"),
    }
}

fn session(sample: &Json) -> GoSession {
    let bytes = data_encoding::HEXLOWER.decode(sample["hex"].as_str().unwrap().as_bytes()).unwrap();
    GoSession::read(codec(sample["library"].as_str().unwrap()), &bytes).unwrap()
}

/// Returns a session that Go has written.
fn of_go(library: &str, name: &str) -> GoSession {
    let samples = samples("go.json");
    session(samples.iter().find(|sample| sample["library"] == library && sample["name"] == name).unwrap())
}

fn get<T: DeserializeOwned>(session: &GoSession, key: &str) -> T {
    session.get(key).unwrap().unwrap_or_else(|| panic!("{key:?} is there"))
}

/// The struct that the Go program registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    #[serde(rename = "ID")]
    id: i64,
    name: String,
    level: u8,
    tags: Vec<String>,
    created: GoTime,
}

fn noon() -> GoTime {
    GoTime::from(SystemTime::UNIX_EPOCH + Duration::new(1_795_435_200, 123_456_789))
}

fn bob() -> User {
    let tags = vec!["a".into(), "b".into()];
    User { id: 7, name: "bob".into(), level: 3, tags, created: noon() }
}

/// Returns the names of the keys of a sample.
fn keys(sample: &Json) -> Vec<String> {
    let key = |entry: &Json| match (entry["key_type"].as_str().unwrap(), entry["key"].as_str().unwrap()) {
        ("string", key) => key.to_owned(),
        (go_type, key) => go_key(go_type, key),
    };
    let mut keys: Vec<_> = sample["values"].as_array().unwrap().iter().map(key).collect();
    keys.sort();
    keys
}

#[test]
fn every_key_and_deadline_is_read_as_go_wrote_it() {
    let samples = samples("go.json");
    assert_eq!(samples.len(), 10);
    for sample in &samples {
        let session = session(sample);
        let mut found = session.keys().unwrap();
        found.sort();
        assert_eq!(found, keys(sample), "{}", sample["name"]);
        let told = sample["deadline"].as_str().filter(|told| *told != "0001-01-01T00:00:00Z");
        let found = session.deadline().unwrap().map(|deadline| deadline.to_string());
        assert_eq!(found.as_deref(), told, "{}", sample["name"]);
    }
}

#[test]
fn values_of_every_kind_are_read() {
    for library in ["scs", "gorilla"] {
        let session = of_go(library, "kinds");
        assert!(get::<bool>(&session, "bool"));
        assert_eq!((get::<i64>(&session, "int"), get::<i64>(&session, "int64")), (-42, 1 << 40));
        assert_eq!((get::<i8>(&session, "int8"), get::<u8>(&session, "uint")), (-8, 7));
        assert_eq!(get::<u64>(&session, "uint64"), u64::MAX);
        assert_eq!((get::<f64>(&session, "float64"), get::<f32>(&session, "float32")), (3.25, 0.1));
        assert_eq!(get::<String>(&session, "string"), "zh-CN");
        assert_eq!(get::<Vec<u8>>(&session, "bytes"), [0, 255]);
        assert_eq!(get::<GoTime>(&session, "time"), noon());
        assert_eq!(get::<Vec<String>>(&session, "strings"), ["x", "y"]);
        assert_eq!(get::<BTreeMap<String, i64>>(&session, "counts"), BTreeMap::from([("tea".into(), 2)]));
        assert_eq!(get::<User>(&session, "user"), bob());
        assert_eq!(get::<Json>(&session, "list"), json!([1, "a", null]));
        assert_eq!(get::<Json>(&session, "map"), json!({"k": 1.5}));
        assert_eq!(get::<BTreeMap<i64, String>>(&session, "by id"), BTreeMap::from([(7, "seven".into())]));
    }
    let gorilla = of_go("gorilla", "kinds");
    assert_eq!(get::<(String, User)>(&gorilla, "_flash"), ("saved".into(), bob()));
    assert_eq!(get::<String>(&gorilla, &go_key("int", 5)), "int");
    assert_eq!(get::<String>(&gorilla, &go_key("int64", 5)), "int64");
    assert_eq!(get::<String>(&gorilla, &go_key("bool", true)), "yes");
}

#[test]
fn unchanged_values_and_deadlines_are_written_back_exactly() {
    for sample in &samples("go.json") {
        let before = session(sample);
        let beside = before.set("beside", &("new", 1)).unwrap().set("at", &noon()).unwrap();
        assert_eq!(get::<(String, u8)>(&beside, "beside"), ("new".into(), 1));
        let deadline = |session: &GoSession| session.deadline().unwrap().map(|time| time.to_string());
        assert_eq!(deadline(&beside), deadline(&before));
        let without = beside.set("beside", &()).unwrap().set("at", &()).unwrap();
        assert_eq!(without, before, "{} {}", sample["library"], sample["name"]);
    }
}

/// Returns sessions that we wrote: new ones with every type that a Go program knows, and changed ones of Go.
fn ours() -> Vec<(&'static str, &'static str, GoSession)> {
    let new = |codec| {
        let empty = GoSession::empty(codec);
        let set = |session: GoSession, key: &str, value: Json| session.set(key, &value).unwrap();
        let session = set(empty, "username", json!("astaxie"));
        let session = set(session, "n", json!(-42));
        let session = set(session, "admin", json!(true));
        let session = set(session, "price", json!(3.25));
        let session = session.set("most", &u64::MAX).unwrap().set("small", &0.1_f32).unwrap();
        let session = session.set("at", &noon()).unwrap();
        let session = set(session, "list", json!([1, "a", null, [true]]));
        let session = set(session, "map", json!({"k": 1.5, "inner": {"deep": []}}));
        session.set("by id", &BTreeMap::from([(7, "seven")])).unwrap()
    };
    let changed = |library| {
        let session = of_go(library, "kinds").set("int64", &5).unwrap().set("uint", &200_u8).unwrap();
        let user = User { id: 8, name: "eve".into(), tags: vec!["c".into()], ..bob() };
        let session = session.set("user", &user).unwrap().set("strings", &["z"]).unwrap();
        let session = session.set("counts", &BTreeMap::from([("tea", 3), ("cup", 1)])).unwrap();
        let session = session.set("bytes", &vec![1_u8, 2]).unwrap().set("float32", &0.5).unwrap();
        session.set("time", "2014-08-21T13:05:07Z").unwrap().set("username", "astaxie").unwrap()
    };
    let tomorrow = SystemTime::from(noon()) + Duration::from_secs(86_400);
    vec![
        ("scs", "empty", GoSession::empty(Codec::SCS).with_deadline(tomorrow).unwrap()),
        ("scs", "new", new(Codec::SCS).with_deadline(tomorrow).unwrap()),
        ("scs", "changed", changed("scs")),
        ("scs", "prolonged", of_go("scs", "expired").with_deadline(tomorrow).unwrap()),
        ("scs", "emptied", of_go("scs", "one").set("username", &()).unwrap()),
        ("gorilla", "new", new(Codec::GOB)),
        ("gorilla", "changed", changed("gorilla").set(&go_key("int", 5), "changed").unwrap()),
        ("gorilla", "emptied", of_go("gorilla", "one").set("username", &()).unwrap()),
    ]
}

/// The samples hold the bytes that Go has read.
#[test]
fn we_write_the_bytes_that_go_has_read() {
    let read_by_go = samples("ours.json");
    for (library, name, session) in &ours() {
        println!("{library}\t{name}\t{}", data_encoding::HEXLOWER.encode(session.as_bytes()));
    }
    assert_eq!(read_by_go.len(), ours().len());
    for ((library, name, session), sample) in ours().iter().zip(&read_by_go) {
        assert_eq!((sample["library"].as_str(), sample["name"].as_str()), (Some(*library), Some(*name)));
        let hex = data_encoding::HEXLOWER.encode(session.as_bytes());
        assert_eq!(Some(hex.as_str()), sample["hex"].as_str(), "{library} {name}");
    }
}

#[test]
fn go_has_read_the_values_that_we_wrote() {
    let samples = samples("ours.json");
    let read = |library: &str, name: &str, key: &str| {
        let sample = samples.iter().find(|sample| sample["library"] == library && sample["name"] == name);
        let values = sample.unwrap()["values"].as_array().unwrap();
        let entry = values.iter().find(|entry| entry["key"] == key).unwrap_or_else(|| panic!("{name} {key}"));
        let text = |what: &str| entry[what].as_str().unwrap().to_owned();
        (text("type"), text("value"))
    };
    let is = |of: (&str, &str, &str), go_type: &str, value: &str| {
        assert_eq!(read(of.0, of.1, of.2), (go_type.to_owned(), value.to_owned()), "{of:?}");
    };
    for library in ["scs", "gorilla"] {
        is((library, "new", "username"), "string", "astaxie");
        is((library, "new", "n"), "int", "-42");
        is((library, "new", "admin"), "bool", "true");
        is((library, "new", "price"), "float64", "3.25");
        is((library, "new", "most"), "uint64", "18446744073709551615");
        is((library, "new", "small"), "float32", "0.1");
        is((library, "new", "at"), "time.Time", "2026-11-23T12:00:00.123456789Z");
        is((library, "new", "list"), "[]interface {}", "[1 a <nil> [true]]");
        is((library, "new", "map"), "map[string]interface {}", "map[inner:map[deep:[]] k:1.5]");
        is((library, "new", "by id"), "map[int]interface {}", "map[7:seven]");

        is((library, "changed", "int64"), "int64", "5");
        is((library, "changed", "uint"), "uint", "200");
        is(
            (library, "changed", "user"),
            "main.User",
            "{8 eve 3 [c] 2026-11-23 12:00:00.123456789 +0000 UTC}",
        );
        is((library, "changed", "strings"), "[]string", "[z]");
        is((library, "changed", "counts"), "map[string]int", "map[cup:1 tea:3]");
        is((library, "changed", "bytes"), "[]uint8", "[1 2]");
        is((library, "changed", "float32"), "float32", "0.5");
        is((library, "changed", "time"), "time.Time", "2014-08-21T13:05:07Z");
        is((library, "changed", "username"), "string", "astaxie");
        // These were not changed.
        is((library, "changed", "int8"), "int8", "-8");
        is((library, "changed", "list"), "[]interface {}", "[1 a <nil>]");
        is((library, "changed", "by id"), "map[int]interface {}", "map[7:seven]");
    }
    let user = "{7 bob 3 [a b] 2026-11-23 12:00:00.123456789 +0000 UTC}";
    is(("gorilla", "changed", "_flash"), "[]interface {}", &format!("[saved {user}]"));
    is(("gorilla", "changed", "true"), "string", "yes");
    for sample in &samples {
        let (name, told) = (sample["name"].as_str().unwrap(), sample["deadline"].as_str());
        let tomorrow = "2026-11-24T12:00:00.123456789Z";
        assert_eq!(told, (sample["library"] == "scs").then_some(tomorrow), "{name}");
        let values = sample["values"].as_array().unwrap().len();
        let expected = match (name, sample["library"].as_str().unwrap()) {
            ("empty" | "emptied", _) => 0,
            ("prolonged", _) => 1,
            ("new", _) => 10,
            ("changed", "scs") => 18,
            _ => 22,
        };
        assert_eq!(values, expected, "{name}");
    }
}

/// Go has read each of these sessions, and found its former values unchanged (`beside.go`).
#[test]
fn sessions_of_beego_accept_keys_of_new_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gob/vectors.json");
    let vectors: Vec<Json> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(vectors.len(), 145);
    for vector in &vectors {
        let (name, hex) = (vector["name"].as_str().unwrap(), vector["hex"].as_str().unwrap());
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        let before = GoSession::read(Codec::GOB, &bytes).unwrap();
        let listed = ("new", BTreeMap::from([(1, "a")]));
        let beside = before.set("beside", &listed).unwrap().set("beside, at", &noon()).unwrap();
        let beside = beside.set("beside, map", &json!({"k": [1.5, {"l": null}]})).unwrap();
        println!("{name}\t{hex}\t{}", data_encoding::HEXLOWER.encode(beside.as_bytes()));

        let keys = ["beside", "beside, at", "beside, map"].map(str::to_owned);
        let mut expected = before.keys().unwrap();
        expected.extend(keys.clone());
        assert_eq!(beside.keys().unwrap(), expected, "{name}");
        assert_eq!(get::<Json>(&beside, "beside, map"), json!({"k": [1.5, {"l": null}]}), "{name}");
        let after = keys.iter().fold(beside, |session, key| session.set(key, &()).unwrap());
        // One vector has a definition that no value uses. It is not written back.
        assert!(after == before || name == "url_ptr", "{name}");
    }
}

#[test]
fn a_session_past_its_deadline_is_readable() {
    let expired = of_go("scs", "expired");
    let deadline = SystemTime::from(expired.deadline().unwrap().unwrap());
    assert_eq!(deadline, SystemTime::UNIX_EPOCH + Duration::from_secs(978_307_200));
    assert_eq!(get::<String>(&expired, "username"), "astaxie");
}

#[test]
fn a_deadline_is_set_in_sessions_of_scs_only() {
    let none = of_go("scs", "no deadline");
    assert_eq!(none.deadline().unwrap(), None);
    let set = none.with_deadline(noon()).unwrap();
    assert_eq!((set.deadline().unwrap(), get::<String>(&set, "username")), (Some(noon()), "astaxie".into()));
    assert_eq!(GoSession::read(Codec::SCS, set.as_bytes()).unwrap(), set);
    assert_eq!(GoSession::empty(Codec::SCS).deadline().unwrap(), None);

    // The order of the fields, and other fields, make no difference.
    let other = of_go("scs", "other order");
    let later = other.with_deadline(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(later.deadline().unwrap(), Some(GoTime::from(SystemTime::UNIX_EPOCH)));
    assert_eq!(later.with_deadline(noon()).unwrap(), other, "and the other field is unchanged");

    let gorilla = of_go("gorilla", "one");
    assert_eq!(gorilla.deadline().unwrap(), None);
    assert_eq!(gorilla.with_deadline(noon()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn scs_refuses_keys_that_are_not_strings() {
    let session = of_go("scs", "one");
    let error = session.set(&go_key("int", 5), "five").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert!(format!("{error:?}").contains("Key"), "{error:?}");
    // Deleting a key that cannot exist is not an error.
    assert_eq!(session.set(&go_key("int", 5), &()).unwrap(), session);
}

#[test]
fn data_of_another_type_is_corrupt() {
    let kind = |codec, bytes: &[u8]| GoSession::read(codec, bytes).unwrap_err().kind();
    for sample in &samples("go.json") {
        let (own, session) = (codec(sample["library"].as_str().unwrap()), session(sample));
        let other = if own == Codec::SCS { Codec::GOB } else { Codec::SCS };
        let bytes = session.as_bytes();
        assert_eq!(kind(other, bytes), ErrorKind::Corrupt, "of the other library");
        for len in 1..bytes.len() {
            assert_eq!(kind(own, &bytes[..len]), ErrorKind::Corrupt, "{len} of {} bytes", bytes.len());
        }
    }
    for codec in [Codec::SCS, Codec::GOB] {
        assert_eq!(kind(codec, b"no gob"), ErrorKind::Corrupt);
        assert_eq!(kind(codec, br#"{"Deadline":0}"#), ErrorKind::Corrupt);
    }
}
