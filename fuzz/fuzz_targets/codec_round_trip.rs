//! Any sequence of changes to a session, in both codecs: the session always equals a plain map.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use cloakroom::{Manager, ManualClock, MemoryProvider, Session, config::Codec};
use cloakroom_fuzz::at_once;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

#[derive(Debug, Arbitrary)]
enum Op {
    Set(Key, Json),
    Delete(Key),
    Flush,
    Save,
    /// Releases the session and starts the next request.
    Next,
}

/// A key: mostly one of a few, so that operations meet, and sometimes any text.
#[derive(Debug, Arbitrary)]
enum Key {
    Few(u8),
    Long(u16),
    Any(String),
}

/// A value that nests a few levels; `Value` itself is not `Arbitrary`.
#[derive(Debug)]
struct Json(Value);

fuzz_target!(|ops: Vec<Op>| {
    for manager in &*MANAGERS {
        walk(manager, &ops);
    }
});

fn walk(manager: &Manager, ops: &[Op]) {
    let mut model: BTreeMap<String, Value> = BTreeMap::new();
    let mut session = start(manager, None);
    for op in ops {
        match op {
            Op::Set(key, Json(value)) => {
                session.set(&key.text(), value).expect("a value within the limits");
                model.insert(key.text(), value.clone());
            }
            Op::Delete(key) => {
                session.delete(&key.text()).expect("an open session");
                model.remove(&key.text());
            }
            Op::Flush => {
                session.clear().expect("an open session");
                model.clear();
            }
            Op::Save => drop(at_once(session.save()).expect("room in memory")),
            Op::Next => {
                let _ = at_once(session.release(&mut HeaderMap::new())).expect("room in memory");
                session = start(manager, Some(&session));
            }
        }
        if let Op::Set(key, _) | Op::Delete(key) = op {
            let found = session.get::<Value>(&key.text()).expect("any value is a value");
            assert_eq!(found.as_ref(), model.get(&key.text()));
        } else {
            compare(&session, &model);
        }
    }
    let _ = at_once(session.release(&mut HeaderMap::new())).expect("room in memory");
    let session = start(manager, Some(&session));
    compare(&session, &model);
    // The store lives as long as the process, so it must not fill up.
    session.destroy().expect("an open session");
    let _ = at_once(session.release(&mut HeaderMap::new())).expect("memory does not fail");
}

fn compare(session: &Session, model: &BTreeMap<String, Value>) {
    let mut keys = session.keys().expect("readable data");
    keys.sort();
    assert!(keys.iter().eq(model.keys()), "{keys:?}, and not {:?}", model.keys());
    for (key, value) in model {
        assert_eq!(session.get::<Value>(key).expect("any value is a value").as_ref(), Some(value));
    }
}

/// A manager for each codec.
static MANAGERS: LazyLock<[Manager; 2]> = LazyLock::new(|| {
    [Codec::MESSAGE_PACK, Codec::JSON].map(|codec| {
        let time = ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let builder = Manager::builder(provider).clock(time.clock()).codec(codec);
        // Unit tests check the limits. Here they would only hide errors of the codecs.
        builder.max_bytes(16 << 20).max_keys(65_535).build().expect("settings that go together")
    })
});

/// Starts a request of the client that had `before`, or of a new client.
fn start(manager: &Manager, before: Option<&Session>) -> Session {
    let mut headers = HeaderMap::new();
    if let Some(id) = before.and_then(Session::id) {
        let cookie = format!("__Host-id={}", id.expose());
        headers.insert("cookie", cookie.parse().expect("an id is fit for a header"));
    }
    at_once(manager.start(&headers)).expect("memory does not fail")
}

impl Key {
    fn text(&self) -> String {
        match self {
            Key::Few(number) => format!("key {}", number % 40),
            // MessagePack has headers of four sizes for the length of a key.
            Key::Long(length) => "k".repeat(usize::from(*length) % 300),
            Key::Any(text) => text.clone(),
        }
    }
}

impl<'a> Arbitrary<'a> for Json {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        value(u, 6).map(Json)
    }
}

fn value(u: &mut Unstructured<'_>, levels: u32) -> Result<Value> {
    Ok(match u.int_in_range(0..=if levels == 0 { 6 } else { 8 })? {
        0 => Value::Null,
        1 => Value::Bool(u.arbitrary()?),
        2 => Value::from(u.arbitrary::<u64>()?),
        3 => Value::from(u.arbitrary::<i64>()?),
        4 => Value::from(i64::from(u.arbitrary::<i8>()?)),
        // Not-a-number and the infinities become null, since JSON cannot express them.
        5 => Value::from(u.arbitrary::<f64>()?),
        6 => Value::from(u.arbitrary::<String>()?),
        7 => Value::Array((0..u.int_in_range(0..=20)?).map(|_| value(u, levels - 1)).collect::<Result<_>>()?),
        _ => {
            let entries = (0..u.int_in_range(0..=20)?).map(|_| Ok((u.arbitrary()?, value(u, levels - 1)?)));
            Value::Object(entries.collect::<Result<Map<_, _>>>()?)
        }
    })
}
