//! Any `Cookie` headers: `Manager::start` finds the same session as a simple parser.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cloakroom::{Manager, ManualClock, MemoryProvider};
use cloakroom_fuzz::at_once;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "__Host-id";

/// A well-formed id that was never issued.
const STRANGE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    let values: Vec<Vec<u8>> = data.split(|byte| *byte == b'\n').map(spliced).collect();
    for value in values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        headers.append(COOKIE, value);
    }

    let session = at_once(STORE.manager.start(&headers)).expect("memory does not fail");
    let found = session.id().map(|id| id.expose().to_owned());
    assert_eq!(found, expected(&headers));
    assert_eq!(session.get::<u64>("which").expect("a number").is_some(), found.is_some());
    let mut response = HeaderMap::new();
    let _ = at_once(session.release(&mut response)).expect("nothing to store");
    assert!(!response.contains_key("set-cookie"));
});

/// A store with two sessions. Its clock stands still, so that both stay alive.
struct Store {
    manager: Manager,
    tokens: [String; 2],
}

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let time = ManualClock::default();
    let provider = MemoryProvider::builder().clock(time.clock()).build();
    let manager = Manager::builder(provider).clock(time.clock()).build().expect("the defaults");
    let tokens = [1, 2].map(|which| {
        let session = at_once(manager.start(&HeaderMap::new())).expect("an empty session");
        session.set("which", which).expect("a small value");
        let _ = at_once(session.save()).expect("room in memory");
        session.id().expect("a stored session").expose().to_owned()
    });
    Store { manager, tokens }
});

/// Returns the bytes of one header. Some input bytes are replaced by ids, which no fuzzer can guess.
fn spliced(part: &[u8]) -> Vec<u8> {
    let [known, second] = &STORE.tokens;
    let mut value = Vec::new();
    for byte in part {
        match byte {
            0xfe => value.extend_from_slice(format!("{NAME}={known}").as_bytes()),
            0xfd => value.extend_from_slice(format!("{NAME}={second}").as_bytes()),
            0xfc => value.extend_from_slice(format!("{NAME}={STRANGE}").as_bytes()),
            0xfb => value.extend_from_slice(known.as_bytes()),
            0xfa => value.extend_from_slice(NAME.as_bytes()),
            0xf9 => value.extend_from_slice("\u{2000}".as_bytes()),
            other => value.push(*other),
        }
    }
    value
}

/// Returns the id of the session in `headers`: the only live one among at most four different ids.
fn expected(headers: &HeaderMap) -> Option<String> {
    let mut ids = BTreeSet::new();
    for header in headers.get_all(COOKIE) {
        for pair in header.as_bytes().split(|byte| *byte == b';') {
            let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
            let Some(start) = pair.iter().position(|byte| !blank(byte)) else { continue };
            let end = pair.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
            let Some(equals) = pair[start..end].iter().position(|byte| *byte == b'=') else { continue };
            let (name, token) = (&pair[start..start + equals], &pair[start + equals + 1..end]);
            let like_an_id = token.len() == 43
                && token.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_');
            if name == NAME.as_bytes() && like_an_id {
                ids.insert(String::from_utf8_lossy(token).into_owned());
            }
        }
    }
    // The manager does not look up five or more ids.
    let mut live = STORE.tokens.iter().filter(|token| ids.len() < 5 && ids.contains(*token));
    match (live.next(), live.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}
