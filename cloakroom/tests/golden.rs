//! Stored records stay readable. Another program (`golden/make.py`) writes them from `docs/format.md` alone. The library reads their
//! values and writes them back byte for byte.

use std::time::{Duration, SystemTime};

use cloakroom::{Level, Principal, providers::Record};

const LIVE: &[u8] = include_bytes!("golden/live.bin");
const WITH_OPTIONAL_FIELD: &[u8] = include_bytes!("golden/live_with_optional_field.bin");
const ANONYMOUS: &[u8] = include_bytes!("golden/anonymous.bin");
const JSON: &[u8] = include_bytes!("golden/json.bin");
const TOMBSTONE: &[u8] = include_bytes!("golden/tombstone.bin");
const REPLACED: &[u8] = include_bytes!("golden/replaced.bin");
const ENDED: &[u8] = include_bytes!("golden/ended.bin");
const REMEMBERED: &[u8] = include_bytes!("golden/remembered.bin");

#[cfg(feature = "memory")]
const SEALED: &[u8] = include_bytes!("golden/sealed.bin");

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Returns 2026-01-02T03:04:05.678Z, the time at which every golden session began.
fn began() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)
}

fn read(bytes: &[u8]) -> Record {
    Record::from_bytes(bytes).expect("a golden record is readable")
}

#[test]
fn a_live_record_has_its_documented_values() {
    let record = read(LIVE);
    let meta = record.meta();
    assert_eq!(meta.version(), 3);
    assert_eq!(meta.created(), began());
    assert_eq!(meta.last_active(), began() + 5 * MINUTE);
    assert_eq!(meta.expires(), began() + 35 * MINUTE);
    assert_eq!(meta.absolute_deadline(), Some(began() + 8 * HOUR));
    assert_eq!(meta.authenticated(), Some(began() + 2 * MINUTE));
    assert_eq!(meta.principal().map(Principal::as_str), Some("user-4711 é"));
    assert!(!record.is_tombstone());
    let data = b"\x83\xa6visits\xcd\x02\xbc\xa4name\xa4Zo\xc3\xab\xa4cart\x82\xa3tea\x02\xa4gift\xc3";
    assert_eq!(record.data(), data);
}

#[test]
fn an_anonymous_record_has_no_user_and_no_deadline() {
    let record = read(ANONYMOUS);
    let meta = record.meta();
    assert_eq!((meta.version(), meta.created(), meta.last_active()), (1, began(), began()));
    assert_eq!(meta.expires(), began() + 30 * MINUTE);
    assert_eq!((meta.absolute_deadline(), meta.authenticated(), meta.principal()), (None, None, None));
    assert_eq!(record.data(), b"\x81\xa1n\x01");
}

#[test]
fn a_json_record_contains_its_text() {
    let record = read(JSON);
    assert_eq!(record.meta().version(), 2);
    assert_eq!(record.meta().expires(), began() + 31 * MINUTE);
    assert_eq!(std::str::from_utf8(record.data()), Ok(r#"{"n":1,"text":"a \"quoted\" é"}"#));
}

#[test]
fn a_tombstone_is_recognized() {
    let record = read(TOMBSTONE);
    assert!(record.is_tombstone());
    assert_eq!(record.meta().principal(), None);
    assert_eq!(record.meta().expires(), began() + 15 * MINUTE);
    assert!(record.data().is_empty());
}

#[test]
fn an_ended_record_is_a_tombstone() {
    for record in [read(REPLACED), read(ENDED)] {
        assert!(record.is_tombstone() && record.data().is_empty());
        assert_eq!(
            (record.meta().expires(), record.meta().absolute_deadline()),
            (began() + 6 * MINUTE, None)
        );
    }
}

#[test]
fn a_session_with_its_own_lifetime_has_its_values() {
    let meta = read(REMEMBERED).meta();
    assert_eq!((meta.expires(), meta.absolute_deadline()), (began() + 24 * HOUR, Some(began() + 24 * HOUR)));
    assert_eq!(meta.level(), Some(Level::new(2)));
    let device = meta.device().expect("a device");
    assert_eq!(device.user_agent(), Some("Mozilla/5.0 (X11; Linux x86_64)"));
    assert_eq!(device.network(), Some("203.0.113.0/24"));
}

#[test]
fn an_optional_field_of_a_later_version_is_ignored() {
    let (newer, live) = (read(WITH_OPTIONAL_FIELD), read(LIVE));
    assert_eq!((newer.meta(), newer.data()), (live.meta(), live.data()));
}

#[test]
fn every_golden_record_is_written_back_byte_for_byte() {
    for (name, bytes) in [
        ("live", LIVE),
        ("anonymous", ANONYMOUS),
        ("json", JSON),
        ("tombstone", TOMBSTONE),
        ("replaced", REPLACED),
        ("ended", ENDED),
        ("remembered", REMEMBERED),
        ("optional", WITH_OPTIONAL_FIELD),
    ] {
        assert_eq!(read(bytes).as_bytes(), bytes, "{name}");
    }
}

#[cfg(any(feature = "memory", feature = "cookie"))]
fn ring() -> cloakroom::KeyRing {
    let key = "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff";
    cloakroom::KeyRing::from_texts([key]).expect("a key")
}

#[cfg(feature = "memory")]
#[tokio::test]
async fn a_sealed_record_opens_to_the_original() {
    use cloakroom::{
        ManualClock, MemoryProvider, Provider,
        providers::{Created, SealedProvider, StoreKey},
    };

    let clock = ManualClock::starting_at(began() + 6 * MINUTE).clock();
    let store = MemoryProvider::builder().clock(clock).build();
    let key: StoreKey =
        "c34860c604f32ade51f88c056fe9db6143a40486eeb6bc2693cc46f1c89b492e".parse().expect("a key");
    let sealed = read(SEALED);
    assert_eq!(sealed.as_bytes(), SEALED);
    assert_eq!(sealed.meta(), read(LIVE).meta(), "the store can read the header and fields");
    assert_eq!(store.create(&key, &sealed).await.expect("room"), Created::Done);
    let opened = SealedProvider::new(store, ring(), "shop").load(&key).await.expect("it opens");
    assert_eq!(opened, Some(read(LIVE)));
}

#[cfg(feature = "cookie")]
#[tokio::test]
async fn a_token_opens_to_its_session() {
    use cloakroom::{CookieProvider, Manager, ManualClock};
    use http::header::{COOKIE, HeaderMap, HeaderValue};

    let clock = ManualClock::starting_at(began() + 6 * MINUTE).clock();
    let provider = CookieProvider::builder(ring()).clock(clock.clone()).build();
    let sessions = Manager::builder(provider).clock(clock).namespace("shop").build().expect("a manager");
    let cookie = format!("__Host-id={}", include_str!("golden/token.txt"));
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(cookie).expect("ASCII"))]);
    let session = sessions.start(&headers).await.expect("nothing to fail");
    let id = session.id().expect("a live session");
    assert_eq!(id.expose(), "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM");
    assert_eq!(session.get::<u64>("n").expect("a number"), Some(1));
    assert_eq!(session.expires(), Some(began() + 30 * MINUTE));
}
