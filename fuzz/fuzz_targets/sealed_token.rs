//! Any bytes as a sealed session, in a cookie and in a store: only a holder of the key can create one, and even those are read
//! within bounds.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use cloakroom::{
    Clock, CookieProvider, ErrorKind, KeyRing, Manager, ManualClock, MemoryProvider, Provider, Released,
    providers::{Created, Record, SealedProvider, StoreKey},
    seal::SealKey,
};
use cloakroom_fuzz::at_once;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => as_a_cookie(data),
        1 => as_a_cookie(base64url(data).as_bytes()),
        2 => as_a_cookie(&changed(RIG.token.as_bytes(), data)),
        _ => as_a_record(data),
    }
});

/// A manager of cookies and a store of sealed records. Clock, nonces and key are fixed, so that every run is the same.
struct Rig {
    clock: Clock,
    cookies: Manager,
    /// The token of a session that the manager has sealed.
    token: String,
    ring: KeyRing,
    /// A sealed record of the store.
    sealed: Record,
}

static RIG: LazyLock<Rig> = LazyLock::new(|| {
    let clock = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30)).clock();
    let key = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff";
    let ring = KeyRing::new(key.parse::<SealKey>().expect("a key of 32 bytes"));
    let same = |buffer: &mut [u8]| {
        buffer.fill(7);
        Ok(())
    };
    let provider = CookieProvider::builder(ring.clone()).clock(clock.clone()).danger_random(same).build();
    let builder = Manager::builder(provider).clock(clock.clone()).danger_random(same);
    let cookies = builder.build().expect("the defaults");

    let session = at_once(cookies.start(&HeaderMap::new())).expect("an empty session");
    session.set("n", 1).expect("a small value");
    let mut headers = HeaderMap::new();
    let _ = at_once(session.release(&mut headers)).expect("a small session fits");
    let cookie = headers["set-cookie"].to_str().expect("ASCII");
    let token = cookie.split(['=', ';']).nth(1).expect("a token").to_owned();

    let store = MemoryProvider::builder().clock(clock.clone()).build();
    let record = cloakroom::testkit::record(&clock).value("n", 1).principal("alice").build();
    let outer = SealedProvider::new(store.clone(), ring.clone(), "fuzz");
    assert_eq!(at_once(outer.create(&key_of_one(), &record)).expect("room in memory"), Created::Done);
    let sealed = at_once(store.load(&key_of_one())).expect("memory does not fail").expect("it is there");
    Rig { clock, cookies, token, ring, sealed }
});

/// Checks a request with `token` in its cookie: only the sealed token has a session.
fn as_a_cookie(token: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(&[b"__Host-id=", token].concat()) else { return };
    let headers = HeaderMap::from_iter([(COOKIE, value)]);
    let session = at_once(RIG.cookies.start(&headers)).expect("a bad cookie is no error");
    // A token ends before a semicolon, and blanks around it are trimmed.
    let token = token.split(|byte| *byte == b';').next().unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = token.iter().rposition(|byte| !blank(byte)).map_or(0, |last| last + 1);
    let ours = &token[..end] == RIG.token.as_bytes();
    let several = headers[COOKIE].as_bytes().windows(10).filter(|part| part == b"__Host-id=").count() > 1;
    if !several {
        assert_eq!(session.get::<u64>("n").expect("a number"), ours.then_some(1));
        assert_eq!(session.id().is_some(), ours);
    }
    assert_eq!(session.principal(), None);
    let mut response = HeaderMap::new();
    assert_eq!(at_once(session.release(&mut response)).expect("nothing to send"), Released::Unchanged);
    assert!(!response.contains_key("set-cookie"));
}

/// Checks a store where `data` changes the sealed record, or replaces it.
fn as_a_record(data: &[u8]) {
    let Some((whole, data)) = data.split_first() else { return };
    let bytes = if whole % 2 == 0 { changed(RIG.sealed.as_bytes(), data) } else { data.to_vec() };
    let record = match Record::from_bytes(&bytes) {
        Ok(record) => record,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Corrupt),
    };
    let store = MemoryProvider::builder().clock(RIG.clock.clone()).build();
    let outer = SealedProvider::new(store.clone(), RIG.ring.clone(), "fuzz");
    if whole % 4 == 3 {
        return by_a_key_holder(&outer, &record);
    }
    let _ = at_once(store.create(&key_of_one(), &record)).expect("room in memory");
    match at_once(outer.load(&key_of_one())) {
        Ok(None) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible)),
        // A sealed record of a newer release, which the manager refuses.
        Ok(Some(passed)) if bytes[4] > 1 => assert_eq!(passed.as_bytes(), bytes),
        // Only the two times that a touch rewrites can differ.
        Ok(Some(opened)) => {
            let still = |bytes: &[u8]| [&bytes[..32], &bytes[48..]].concat();
            assert_eq!(still(&bytes), still(RIG.sealed.as_bytes()));
            assert_eq!(opened.data(), b"\x81\xa1n\x01");
        }
    }
}

/// Checks that a record which a key holder seals opens unchanged, unless it was sealed before or has expired.
fn by_a_key_holder(outer: &SealedProvider, record: &Record) {
    let _ = at_once(outer.create(&key_of_one(), record)).expect("room in memory");
    match at_once(outer.load(&key_of_one())) {
        Ok(None) => assert!(record.is_expired(RIG.clock.now())),
        // A record of a newer format stays sealed.
        Ok(Some(_)) if record.as_bytes()[4] > 1 => {}
        Err(error) if record.as_bytes()[4] > 1 => assert_eq!(error.kind(), ErrorKind::Incompatible),
        Ok(Some(opened)) => assert_eq!(opened, *record),
        Err(error) => assert_eq!((error.kind(), record.as_bytes()[5] & 0x80), (ErrorKind::Corrupt, 0x80)),
    }
}

/// Applies `changes` to `original`. Each has three bytes: an index, and an operation on the byte there.
fn changed(original: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0] & 0x3f, change[1]])) % (bytes.len() + 1);
        match change[0] >> 6 {
            0 if place < bytes.len() => bytes[place] ^= change[2],
            1 => bytes.truncate(place),
            2 => bytes.insert(place, change[2]),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            _ => {}
        }
    }
    bytes
}

fn key_of_one() -> StoreKey {
    "one".parse().expect("a key")
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..=three.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}
