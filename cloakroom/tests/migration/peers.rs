//! Sessions as tower-sessions, actix-session and axum_session wrote them: `tests/vectors/peers`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloakroom::migration::{
    ActixSessions, AxumSessions, CookieKey, MigrationSource, OldBytes, OldSessions, OldStore, TowerSessions,
};
use cloakroom::{Manager, MemoryProvider, Released, Session};
use http::HeaderMap;
use serde_json::{Value, json};

use super::release;

/// The key of every sample: the bytes 0 to 63.
pub(crate) fn key() -> CookieKey {
    CookieKey::from_bytes(&(0..64).collect::<Vec<u8>>()).unwrap()
}

/// A session as a peer wrote it.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) case: String,
    pub(crate) headers: HeaderMap,
    /// The keys of Redis and their values.
    pub(crate) stored: Vec<(String, Vec<u8>)>,
}

impl Sample {
    /// Returns the sample of a case.
    pub(crate) fn of(peer: &str, case: &str) -> Sample {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/peers/samples.json");
        let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let found = all.iter().find(|sample| sample["peer"] == peer && sample["case"] == case);
        let found = found.unwrap_or_else(|| panic!("no sample of {peer}, {case}"));
        let mut headers = HeaderMap::new();
        headers.insert("cookie", found["cookie"].as_str().unwrap().parse().unwrap());
        for header in found["headers"].as_array().unwrap() {
            let name: http::HeaderName = header[0].as_str().unwrap().parse().unwrap();
            headers.insert(name, header[1].as_str().unwrap().parse().unwrap());
        }
        let unhex = |hex: &Value| data_encoding::HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap();
        let stored = found["redis"].as_array().unwrap().iter();
        let stored = stored.map(|entry| (entry[0].as_str().unwrap().to_owned(), unhex(&entry[1]))).collect();
        Sample { case: case.to_owned(), headers, stored }
    }

    /// Returns a store with the sample's records.
    pub(crate) fn store(&self) -> Shelf {
        Shelf(Arc::new(Mutex::new(self.stored.iter().cloned().collect())))
    }

    /// Changes the cookie header.
    fn with_cookie(mut self, change: impl FnOnce(&str) -> String) -> Sample {
        let cookie = change(self.headers["cookie"].to_str().unwrap());
        self.headers.insert("cookie", cookie.parse().unwrap());
        self
    }
}

/// An old store in memory. A clone shares it.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl OldStore for Shelf {
    async fn load(&self, key: &str) -> cloakroom::Result<Option<OldBytes>> {
        let expires = SystemTime::now() + Duration::from_secs(3600);
        Ok(self.0.lock().unwrap().get(key).map(|bytes| OldBytes::new(bytes.clone(), Some(expires))))
    }

    async fn delete(&self, key: &str) -> cloakroom::Result<bool> {
        Ok(self.0.lock().unwrap().remove(key).is_some())
    }
}

pub(crate) fn manager(old: impl Into<MigrationSource>) -> Manager {
    Manager::builder(MemoryProvider::new()).migrate_from(old).build().unwrap()
}

/// Checks that a session has the values that every sample was filled with.
pub(crate) fn is_filled(session: &Session, case: &str) {
    let value = |key: &str| session.get::<Value>(key).unwrap();
    assert_eq!(value("n"), Some(json!(7)), "{case}");
    assert_eq!(session.get::<u64>("largest").unwrap(), Some(u64::MAX), "{case}");
    assert_eq!(session.get::<i8>("negative").unwrap(), Some(-5), "{case}");
    assert_eq!(session.get::<f64>("fraction").unwrap(), Some(0.1), "{case}");
    assert_eq!(value("text"), Some(json!("Grüße, \"世界\"")), "{case}");
    assert_eq!(value("cart"), Some(json!({"tea": 2, "list": [true, null, {"deep": []}]})), "{case}");
    assert_eq!(session.get::<Option<u8>>("none").unwrap(), Some(None), "{case}");
}

/// Moves the session of a sample, and returns its user.
async fn moved(sample: &Sample, source: impl Into<MigrationSource>, store: &Shelf) -> Option<String> {
    let manager = manager(source);
    let session = manager.start(&sample.headers).await.unwrap();
    is_filled(&session, &sample.case);
    let user = session.principal().map(|user| user.as_str().to_owned());
    let cookie = release(&session).await.1.unwrap();
    assert!(store.0.lock().unwrap().is_empty(), "{}: the old record is deleted", sample.case);
    let mut headers = HeaderMap::new();
    headers.insert("cookie", cookie.parse().unwrap());
    is_filled(&manager.start(&headers).await.unwrap(), &sample.case);
    user
}

/// Checks that a request with these headers is one of an anonymous visitor.
async fn is_anonymous(sample: &Sample, source: impl Into<MigrationSource>) {
    let session = manager(source).start(&sample.headers).await.unwrap();
    assert!(session.is_empty().unwrap() && session.principal().is_none(), "{}", sample.case);
}

#[tokio::test]
async fn sessions_of_tower_sessions_move_with_every_cookie() {
    for (case, with) in [
        ("plain", (|old| old) as fn(TowerSessions) -> TowerSessions),
        ("signed", |old| old.signed(key())),
        ("private", |old| old.private(key())),
        ("derived", |old| old.signed(CookieKey::derive_from(&(0..32).collect::<Vec<u8>>()).unwrap())),
    ] {
        let sample = Sample::of("tower-sessions", case);
        let store = sample.store();
        assert_eq!(moved(&sample, with(TowerSessions::new(store.clone())), &store).await, None);
    }
}

#[tokio::test]
async fn a_user_of_axum_login_moves_if_the_hash_is_right() {
    for hash in ["hash of the password", "hash of a newer password"] {
        let sample = Sample::of("tower-sessions", "login");
        let store = sample.store();
        let old = TowerSessions::new(store.clone()).axum_login(move |login| async move {
            assert_eq!(login.user_id(), 4711);
            Ok(login.auth_hash() == hash.as_bytes())
        });
        let user = moved(&sample, old, &store).await;
        assert_eq!(user.as_deref(), (hash == "hash of the password").then_some("4711"));
    }
    let sample = Sample::of("tower-sessions", "login");
    let store = sample.store();
    assert_eq!(
        moved(&sample, TowerSessions::new(store.clone()), &store).await,
        None,
        "nobody has checked it"
    );
}

#[tokio::test]
async fn sessions_of_actix_session_move_with_every_cookie() {
    let until = SystemTime::now() + Duration::from_secs(3600);
    let in_redis = |store: &Shelf| ActixSessions::new(store.clone(), key());
    let sample = Sample::of("actix-session", "private");
    let store = sample.store();
    assert_eq!(moved(&sample, in_redis(&store), &store).await, None);
    let sample = Sample::of("actix-session", "signed");
    let store = sample.store();
    assert_eq!(moved(&sample, in_redis(&store).signed(), &store).await, None);
    let sample = Sample::of("actix-session", "login");
    let store = sample.store();
    assert_eq!(moved(&sample, in_redis(&store), &store).await.as_deref(), Some("ann"));
    let none = Shelf::default();
    let sample = Sample::of("actix-session", "cookie");
    assert_eq!(moved(&sample, ActixSessions::cookies(key(), until), &none).await, None);
    let sample = Sample::of("actix-session", "cookie-login");
    assert_eq!(moved(&sample, ActixSessions::cookies(key(), until), &none).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_login_of_actix_identity_keeps_its_time() {
    let sample = Sample::of("actix-session", "login");
    let session = manager(ActixSessions::new(sample.store(), key())).start(&sample.headers).await.unwrap();
    let seconds = session.get::<u64>("actix_identity.logged_in_at").unwrap().unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(session.authenticated().unwrap(), at);
}

#[tokio::test]
async fn a_cookie_that_holds_a_session_is_moved_once() {
    let until = SystemTime::now() + Duration::from_secs(3600);
    let manager = manager(ActixSessions::cookies(key(), until));
    let sample = Sample::of("actix-session", "cookie-login");
    let session = manager.start(&sample.headers).await.unwrap();
    let _ = release(&session).await;
    session.principal().unwrap();
    let logout = manager.start(&sample.headers).await.unwrap();
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert!(manager.start(&sample.headers).await.unwrap().is_empty().unwrap(), "a copy brings nothing back");
    let respelled = sample.clone().with_cookie(|cookie| {
        let (name, value) = cookie.split_once('=').unwrap();
        format!("{name}=%{:02x}{}", value.as_bytes()[0], &value[1..])
    });
    assert!(
        manager.start(&respelled.headers).await.unwrap().is_empty().unwrap(),
        "nor does another spelling"
    );
    assert_eq!(manager.active_sessions().await.unwrap(), 0);
    is_anonymous(&sample, ActixSessions::cookies(key(), SystemTime::now())).await;
}

#[tokio::test]
async fn sessions_of_axum_session_move_with_every_cookie() {
    for (case, with) in [
        ("plain", (|old| old) as fn(AxumSessions) -> AxumSessions),
        ("signed", |old| old.signed(key())),
        ("unbound", |old| old.signed(key()).signed_message(|_| String::new())),
        ("encrypted", |old| old.database_key(key())),
    ] {
        let sample = Sample::of("axum_session", case);
        let store = sample.store();
        assert_eq!(moved(&sample, with(AxumSessions::redis(store.clone())), &store).await, None);
    }
}

#[tokio::test]
async fn a_long_term_session_of_axum_session_stays_one() {
    let sample = Sample::of("axum_session", "long");
    let manager = manager(AxumSessions::redis(sample.store()));
    let session = manager.start(&sample.headers).await.unwrap();
    is_filled(&session, "long");
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("Max-Age=3599") || cookie.contains("Max-Age=3600"), "{cookie}");
}

#[tokio::test]
async fn another_key_or_client_leaves_an_anonymous_visitor() {
    let other = CookieKey::from_bytes(&[9; 64]).unwrap();
    let tower = |case| {
        let sample = Sample::of("tower-sessions", case);
        (TowerSessions::new(sample.store()), sample)
    };
    let (old, sample) = tower("signed");
    is_anonymous(&sample, old.clone().signed(other.clone())).await;
    is_anonymous(&sample, old.clone().private(key())).await;
    is_anonymous(&sample, old).await;
    let (old, sample) = tower("private");
    is_anonymous(&sample, old.clone().private(other.clone())).await;
    let renamed = sample.clone().with_cookie(|cookie| cookie.replace("id=", "sid="));
    is_anonymous(&renamed, old.cookie_name("sid").private(key())).await;
    let sample = Sample::of("actix-session", "private");
    is_anonymous(&sample, ActixSessions::new(sample.store(), other.clone())).await;
    let sample = Sample::of("axum_session", "encrypted");
    is_anonymous(&sample, AxumSessions::redis(sample.store()).database_key(other)).await;
    is_anonymous(&sample, AxumSessions::redis(sample.store())).await;
    let mut sample = Sample::of("axum_session", "signed");
    sample.headers.insert("user-agent", "another browser".parse().unwrap());
    is_anonymous(&sample, AxumSessions::redis(sample.store()).signed(key())).await;
}

/// Returns every reader, each with a sample that it can read.
fn readers(change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<(Sample, MigrationSource)> {
    let sample = |peer: &str, case: &str| {
        let mut sample = Sample::of(peer, case);
        sample.stored.iter_mut().for_each(|(_, bytes)| *bytes = change(std::mem::take(bytes)));
        sample
    };
    let tower = sample("tower-sessions", "signed");
    let actix = sample("actix-session", "private");
    let axum = sample("axum_session", "encrypted");
    let tower_reader = TowerSessions::new(tower.store()).signed(key());
    let actix_reader = ActixSessions::new(actix.store(), key());
    let axum_reader = AxumSessions::redis(axum.store()).database_key(key());
    vec![(tower, tower_reader.into()), (actix, actix_reader.into()), (axum, axum_reader.into())]
}

#[tokio::test]
async fn foreign_truncated_and_huge_records_are_anonymous() {
    let deep = |opening: &str| opening.repeat(200_000).into_bytes();
    for (sample, source) in readers(|_| b"\xff\x00 foreign".to_vec())
        .into_iter()
        .chain(readers(|bytes| bytes[..bytes.len() - 1].to_vec()))
        .chain(readers(|bytes| bytes[..bytes.len() / 2].to_vec()))
        .chain(readers(|_| Vec::new()))
        .chain(readers(|_| vec![b'['; 2 << 20]))
        .chain(readers(|_| deep("{\"a\":")))
        .chain(readers(|_| br#"{"n":"{","m":7}"#.to_vec()))
    {
        is_anonymous(&sample, source).await;
    }
}

mod random {
    use cloakroom::Visit;
    use proptest::prelude::*;

    use super::*;

    fn at_once<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_changed_byte_never_opens_a_cookie_or_panics(at in any::<prop::sample::Index>(), bit in 0..7_u8) {
            for (case, with) in [
                ("signed", (|old: TowerSessions| old.signed(key())) as fn(TowerSessions) -> TowerSessions),
                ("private", |old| old.private(key())),
            ] {
                let sample = Sample::of("tower-sessions", case);
                let mut cookie = sample.headers["cookie"].as_bytes().to_vec();
                let at = 3 + at.index(cookie.len() - 3);
                cookie[at] ^= 1 << bit;
                let Ok(changed) = http::HeaderValue::from_bytes(&cookie) else { continue };
                let headers = HeaderMap::from_iter([(http::header::COOKIE, changed)]);
                let visit = Visit::new(headers, http::Extensions::new());
                let found = with(TowerSessions::new(Shelf::default())).find(&visit);
                prop_assert!(found.ids().is_empty(), "{case}: byte {at}");
            }
        }

        #[test]
        fn a_changed_record_is_a_session_or_an_error(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let change = |mut bytes: Vec<u8>| {
                let at = at.index(bytes.len());
                bytes[at] = to;
                bytes
            };
            for (sample, source) in readers(change) {
                let session = at_once(manager(source).start(&sample.headers)).unwrap();
                let _ = session.get::<Value>("cart");
            }
        }
    }
}
