//! Rows 39 to 45: sealed tokens, records sealed at rest, and the keys.

use std::collections::HashSet;
use std::time::Duration;

use cloakroom::{ErrorKind, KeyRing, Manager, Provider, providers::Created, seal::SealKey};
use data_encoding::BASE64URL_NOPAD;

use super::Outcome;
use crate::site::{Setup, Site};
use crate::target::Target;
use crate::visitor::{Answer, Request, put};

/// Returns what a client sees of an answer, without the date.
fn seen(answer: &Answer) -> String {
    let text = format!("{:?}", answer.head);
    let date = answer.header("date").unwrap_or_default().to_owned();
    format!("{} {}", text.replace(&date, ""), answer.text())
}

pub(super) async fn row_39_a_changed_token_is_refused(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    visitor.set("key", "value").await;
    let token = visitor.id();
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).expect("base64url");
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        BASE64URL_NOPAD.encode(&changed)
    });
    let truncated = (1..token.len()).map(|length| token[..length].to_owned());
    let longer = ["A", "AAAA", "=", "."].into_iter().map(|end| format!("{token}{end}"));
    let mut stranger = setup.visitor();
    let expected = seen(&stranger.with("AAAA").get("/api/session").await);
    let (mut tried, mut answers) = (0, HashSet::new());
    for changed in flipped.chain(truncated).chain(longer) {
        let request = Request::new("GET", "/api/session").header("Cookie", format!("__Host-id={changed}"));
        answers.insert(seen(&stranger.send(request).await));
        tried += 1;
    }
    assert!(tried > 8 * bytes.len());
    assert_eq!(answers, HashSet::from([expected]), "all bad tokens get the same answer");
    assert!(visitor.is_alive().await);
    Outcome::Held
}

pub(super) async fn row_40_nothing_unsealed_is_read(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let json = r#"{"principal":"us3r-of-the-tests-admin","keys":{}}"#;
    for token in [json.to_owned(), BASE64URL_NOPAD.encode(json.as_bytes()), "e30".to_owned(), String::new()] {
        setup.visitor().with(&token).assert_fresh().await;
    }
    if !setup.store.capabilities().token_is_record() {
        // A manager that seals does not accept a record that is not sealed.
        let plain = setup.user("alice").await;
        let ring = setup.store.ring.clone();
        let sealing = Site::on(&setup.store, setup.store.second().await, |builder| builder.seal(ring)).await;
        plain.at(sealing.address).assert_fresh().await;
        let mut sealed = sealing.visitor();
        sealed.login("bob").await;
        sealed.set("key", "value").await;
        assert!(sealed.is_alive().await);
        let dump = String::from_utf8_lossy(&setup.store.dump()).into_owned();
        assert!(!dump.contains(crate::log::VALUE), "a value in plain text at rest");
        // A manager that does not seal answers an error for a sealed record.
        let answer = sealed.at(setup.site.address).get("/api/session").await;
        assert!(answer.status() == 500 || answer.json()["present"] == false, "{}", answer.text());
    }
    Outcome::Held
}

pub(super) async fn row_41_a_token_contains_its_deadline(target: &Target) -> Outcome {
    let day = Duration::from_secs(24 * 60 * 60);
    let setup = Setup::with(target, |builder| builder.cookie_lifetime(Some(day))).await;
    let visitor = setup.user("alice").await;
    let token = visitor.id();
    // The first cookie keeps its deadline, however often it is used and whatever the browser keeps.
    for _ in 0..29 {
        setup.time.advance(Duration::from_secs(60));
        assert!(setup.visitor().with(&token).is_alive().await);
    }
    setup.time.advance(Duration::from_secs(61));
    setup.visitor().with(&token).assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_42_a_token_is_bound_to_its_manager(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let store = &setup.store;
    if store.capabilities().token_is_record() {
        let token = setup.user("alice").await.id();
        let names =
            Site::on(store, store.second().await, |builder| builder.cookie_name("__Host-other")).await;
        names.visitor().with(&token).assert_fresh().await;
        let application = Site::on(store, store.second().await, |builder| builder.namespace("other")).await;
        application.visitor().with(&token).assert_fresh().await;
        let control = Site::on(store, store.second().await, |builder| builder).await;
        assert!(control.visitor().with(&token).is_alive().await);
        return Outcome::Held;
    }
    // An attacker who can write to the store replaces their own record by another user's.
    let ring = store.ring.clone();
    let sealing = Site::on(store, store.second().await, |builder| builder.seal(ring)).await;
    let mut mallory = sealing.visitor();
    mallory.login("mallory").await;
    let own = store.keys().await;
    let mut alice = sealing.visitor();
    alice.login("alice").await;
    let theirs: Vec<_> = store.keys().await.into_iter().filter(|key| !own.contains(key)).collect();
    let record = store.provider.load(&theirs[0]).await.expect("an answer").expect("alice's record");
    assert!(store.provider.delete(&own[0]).await.expect("an answer"));
    assert_eq!(store.provider.create(&own[0], &record).await.expect("an answer"), Created::Done);
    let answer = mallory.clone().get("/api/session").await;
    assert!(!answer.text().contains("alice"), "another user's session");
    assert!(answer.status() == 500 || answer.json()["present"] == false, "{}", answer.text());
    let answer = mallory.clone().try_set("key", "value").await;
    assert!(answer.status() == 500 || answer.set_cookie("__Host-id").is_some(), "{}", answer.text());
    assert!(alice.is_alive().await);
    Outcome::Held
}

/// The nonce's bytes in a token, from docs/format.md.
const NONCE: std::ops::Range<usize> = 8..32;

pub(super) async fn row_43_no_nonce_is_used_twice(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let visitor = setup.user("alice").await;
    // The same session with the same content is sealed many times.
    let mut nonces = HashSet::new();
    for answer in visitor.flood(&put("key", "value"), 20_000).await {
        let token = answer.set_cookie("__Host-id").expect("a new token").token;
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).expect("base64url");
        assert!(nonces.insert(bytes[NONCE].to_vec()), "a nonce came twice");
    }
    assert_eq!(nonces.len(), 20_000);
    Outcome::Held
}

pub(super) async fn row_44_keys_rotate_and_retire(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let ring: KeyRing = setup.store.ring.clone();
    let mut site = None;
    if !setup.store.capabilities().token_is_record() {
        let (store, ring) = (&setup.store, ring.clone());
        site = Some(Site::on(store, store.second().await, |builder| builder.seal(ring)).await);
    }
    let site = site.as_ref().unwrap_or(&setup.site);
    let former = ring.newest();
    let mut visitor = site.visitor();
    visitor.login("alice").await;
    let mut other = site.visitor();
    other.login("bob").await;
    ring.rotate(SealKey::generate().expect("randomness"));
    assert_ne!(ring.newest(), former);
    assert!(visitor.is_alive().await && other.is_alive().await, "every key of the ring opens tokens");
    visitor.set("key", "value").await;
    assert!(ring.retire(former).expect("the ring has another key"));
    assert_eq!(visitor.value("key").await.as_deref(), Some("value"), "the newest key seals");
    other.assert_fresh().await;
    assert_eq!(ring.retire(ring.newest()).expect_err("the last key").kind(), ErrorKind::Config);
    Outcome::Held
}

/// The check happens at build, so the provider does not matter.
pub(super) async fn row_45_weak_keys_are_refused(_: &Target) -> Outcome {
    let refused = |bytes: &[u8]| {
        let error = SealKey::from_bytes(bytes).expect_err("a weak key");
        assert_eq!(error.kind(), ErrorKind::Config);
    };
    refused(b"");
    refused(&[0x5a; 31]);
    for length in [32, 64] {
        refused(&vec![0; length]);
        refused(&vec![b'a'; length]);
    }
    refused(b"0123456789abcdef0123456789abcdef");
    refused(b"changemechangemechangemechangeme");
    for config in
        [r#"{"cookieName":"id"}"#, r#"{"cookieName":"id","providerConfig":"{\"securityKey\":\"secret\"}"}"#]
    {
        let error = Manager::new("cookie", config).await.expect_err("no key");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    let weak = r#"{"cookieName":"id","sealKeys":["c2hvcnQ="]}"#;
    assert_eq!(Manager::new("memory", weak).await.expect_err("a short key").kind(), ErrorKind::Config);
    Outcome::Held
}
