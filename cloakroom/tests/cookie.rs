//! Sessions in the visitor's cookie: what a whole request sees, and what a bad cookie comes to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::time::Duration;

use cloakroom::{
    CookieProvider, ErrorKind, KeyRing, Lifetime, Manager, ManagerBuilder, ManualClock, MemoryProvider,
    Principal, Provider, Released, Session, providers::CookieProviderBuilder, seal::SealKey,
};
use http::HeaderMap;
use http::header::{COOKIE, HeaderName, HeaderValue, SET_COOKIE};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Rig {
    manager: Manager,
    provider: CookieProvider,
    ring: KeyRing,
    time: ManualClock,
}

impl Rig {
    fn new() -> Self {
        Self::with(|provider| provider, |manager| manager)
    }

    fn revocable() -> Self {
        let time = ManualClock::default();
        let marks = MemoryProvider::builder().clock(time.clock()).build();
        Self::on(time, |provider| provider.revocations(marks, 8 * HOUR), |manager| manager)
    }

    fn with(
        provider: impl FnOnce(CookieProviderBuilder) -> CookieProviderBuilder,
        manager: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Self {
        Self::on(ManualClock::default(), provider, manager)
    }

    fn on(
        time: ManualClock,
        provider: impl FnOnce(CookieProviderBuilder) -> CookieProviderBuilder,
        manager: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Self {
        let ring = KeyRing::new(SealKey::generate().unwrap());
        let provider = provider(CookieProvider::builder(ring.clone()).clock(time.clock())).build();
        let manager = manager(Manager::builder(provider.clone())).clock(time.clock()).build().unwrap();
        Rig { manager, provider, ring, time }
    }

    /// Another manager with the same key.
    fn other(&self, settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Manager {
        let provider = CookieProvider::builder(self.ring.clone()).clock(self.time.clock()).build();
        settings(Manager::builder(provider)).clock(self.time.clock()).build().unwrap()
    }

    async fn start(&self, token: &str) -> Session {
        self.manager.start(&with_token(token)).await.unwrap()
    }

    /// Returns the value of `n` for the visitor with `token`.
    async fn n(&self, token: &str) -> Option<u64> {
        n(&self.manager, token).await
    }
}

async fn n(manager: &Manager, token: &str) -> Option<u64> {
    let session = manager.start(&with_token(token)).await.unwrap();
    let found = session.get("n").unwrap();
    assert_eq!(session.id().is_some(), found.is_some());
    found
}

fn with_token(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        headers.insert(COOKIE, HeaderValue::try_from(format!("__Host-id={token}")).unwrap());
    }
    headers
}

/// One request with `token` that does `change`; what it came to, and the token that the browser holds afterwards.
async fn request(manager: &Manager, token: &str, change: impl FnOnce(&Session)) -> (Released, String) {
    let session = manager.start(&with_token(token)).await.unwrap();
    change(&session);
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.unwrap();
    (released, token_of(&headers).unwrap_or_else(|| token.to_owned()))
}

fn token_of(headers: &HeaderMap) -> Option<String> {
    let mut cookies = headers.get_all(SET_COOKIE).iter();
    let cookie = cookies.next()?.to_str().unwrap();
    assert!(cookies.next().is_none());
    assert_eq!(headers["cache-control"], "no-store");
    Some(cookie.split_once('=').unwrap().1.split(';').next().unwrap().to_owned())
}

fn set(n: u64) -> impl FnOnce(&Session) {
    move |session| session.set("n", n).unwrap()
}

fn login(session: &Session) {
    session.authenticate(Principal::new("alice").unwrap()).unwrap();
}

#[tokio::test]
async fn a_session_lives_in_its_cookie_from_request_to_request() {
    let rig = Rig::new();
    let (released, first) = request(&rig.manager, "", set(1)).await;
    assert_eq!(released, Released::Created);
    assert_eq!(rig.n(&first).await, Some(1));
    let id = rig.start(&first).await.id().unwrap();
    assert_eq!(id.expose().len(), 43);
    assert!(!first.contains(id.expose()));

    let (released, second) = request(&rig.manager, &first, set(2)).await;
    assert_eq!(released, Released::Saved);
    assert_eq!(rig.n(&second).await, Some(2));
    assert_eq!(rig.start(&second).await.id().unwrap(), id, "the session's id stays");
    assert_ne!(first, second);

    let (released, same) = request(&rig.manager, &second, |_| ()).await;
    assert_eq!((released, same), (Released::Unchanged, second.clone()), "nothing is sent for a read");

    let session = rig.start(&second).await;
    assert_eq!(session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap(), 3);
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    assert_eq!(rig.n(&token_of(&headers).unwrap()).await, Some(3));
}

#[tokio::test]
async fn a_login_gets_another_id_and_a_logout_takes_the_cookie_back() {
    let rig = Rig::new();
    let (_, anonymous) = request(&rig.manager, "", set(1)).await;
    let before = rig.start(&anonymous).await.id();
    let (released, token) = request(&rig.manager, &anonymous, login).await;
    assert_eq!(released, Released::Regenerated);
    let session = rig.start(&token).await;
    assert_eq!(session.principal(), Some(Principal::new("alice").unwrap()));
    assert_ne!(session.id(), before);
    assert_eq!(session.get("n").unwrap(), Some(1_u64));

    let (released, gone) = request(&rig.manager, &token, |session| session.destroy().unwrap()).await;
    assert_eq!((released, &*gone), (Released::Destroyed, ""));
    // A copy of the cookie goes on to work, as the documentation says.
    assert!(!rig.provider.capabilities().revocable);
    assert_eq!(rig.n(&token).await, Some(1));
}

#[tokio::test]
async fn revocations_end_every_copy_of_a_cookie() {
    let rig = Rig::revocable();
    assert!(rig.provider.capabilities().revocable);
    let (_, anonymous) = request(&rig.manager, "", set(1)).await;
    let (_, phone) = request(&rig.manager, &anonymous, login).await;
    assert_eq!(rig.n(&anonymous).await, None, "the id from before the login");
    let (_, laptop) = request(&rig.manager, "", |session| {
        set(2)(session);
        login(session);
    })
    .await;
    let (released, _) = request(&rig.manager, &phone, |session| session.destroy().unwrap()).await;
    assert_eq!(released, Released::Destroyed);
    assert_eq!(rig.n(&phone).await, None);
    assert_eq!(rig.n(&laptop).await, Some(2), "the other device");

    // A slow request that began before brings nothing back and sends no cookie.
    let slow = rig.start(&laptop).await;
    slow.set("n", 3).unwrap();
    rig.provider.end_sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(slow.release(&mut headers).await.unwrap(), Released::Gone { lost_write: true });
    assert_eq!(token_of(&headers), None);
    assert_eq!(rig.n(&laptop).await, None);

    rig.time.advance(Duration::from_millis(1));
    let (_, again) = request(&rig.manager, "", |session| {
        set(4)(session);
        login(session);
    })
    .await;
    assert_eq!(rig.n(&again).await, Some(4), "a login afterwards");
    rig.time.advance(MINUTE);
    rig.provider.end_sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
    assert_eq!(rig.n(&again).await, None, "and the end of that");
    let (_, bob) = request(&rig.manager, "", |session| {
        set(5)(session);
        session.authenticate(Principal::new("bob").unwrap()).unwrap();
    })
    .await;
    assert_eq!(rig.n(&bob).await, Some(5), "another user");
}

#[tokio::test]
async fn a_request_with_a_cookie_just_ended_begins_anew() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    let _ = request(&rig.manager, &token, |session| session.destroy().unwrap()).await;
    let late = rig.start(&token).await;
    assert_eq!(late.get::<u32>("n").unwrap(), None);
    let (released, fresh) = request(&rig.manager, &token, set(3)).await;
    assert_eq!((released, rig.n(&fresh).await), (Released::Created, Some(3)));
    assert_eq!(rig.n(&token).await, None);
}

#[tokio::test]
async fn a_logout_beside_planted_cookies_ends_the_session() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    let others = ["A", "B", "C", "D"].map(|letter| format!("; __Host-id={}", letter.repeat(token.len())));
    let all = [token.clone(), others.concat()].concat();
    let (released, _) = request(&rig.manager, &all, |session| session.destroy().unwrap()).await;
    assert_eq!(released, Released::Destroyed);
    assert_eq!(rig.n(&token).await, None, "a copy of the cookie is worth nothing");
}

#[tokio::test]
async fn of_two_who_end_a_session_by_a_login_one_does() {
    let rig = Rig::revocable();
    let (_, anonymous) = request(&rig.manager, "", set(1)).await;
    let (one, other) = (rig.start(&anonymous).await, rig.start(&anonymous).await);
    login(&one);
    login(&other);
    assert_eq!(one.release(&mut HeaderMap::new()).await.unwrap(), Released::Regenerated);
    let mut headers = HeaderMap::new();
    assert_eq!(other.release(&mut headers).await.unwrap(), Released::Gone { lost_write: true });
    assert_eq!(token_of(&headers), None);
}

#[tokio::test]
async fn a_cookie_of_another_seal_gives_a_fresh_session() {
    let rig = Rig::new();
    let (_, good) = request(&rig.manager, "", set(1)).await;
    let retired = {
        let former = rig.ring.newest();
        rig.ring.rotate(SealKey::generate().unwrap());
        let (_, by_new) = request(&rig.manager, "", set(2)).await;
        assert_eq!(rig.n(&good).await, Some(1), "all keys open");
        assert_eq!(rig.n(&by_new).await, Some(2));
        rig.ring.retire(former).unwrap();
        good
    };
    let (_, good) = request(&rig.manager, "", set(1)).await;
    let encode = data_encoding_base64url;
    let json = br#"{"n":1,"principal":"alice","exp":99999999999}"#;
    let mut bad = vec![
        retired,
        String::from_utf8_lossy(json).into_owned(),
        encode(json),
        encode(&json.repeat(10)),
        "A".repeat(good.len()),
        format!("{good}="),
        format!("{good}A"),
        format!("{good}{good}"),
        "A".repeat(1 << 16),
        request(&rig.other(|manager| manager.namespace("another")), "", set(1)).await.1,
    ];
    // The namespace alone is the same.
    let other_name = rig.other(|manager| manager.cookie_name("__Host-other").namespace("__Host-id"));
    bad.push(request(&other_name, "", set(1)).await.1);
    for len in 0..good.len() {
        bad.push(good[..len].to_owned());
    }
    for (place, byte) in good.bytes().enumerate() {
        for bit in 0..8 {
            let mut flipped = good.clone().into_bytes();
            flipped[place] = byte ^ (1 << bit);
            if let Ok(flipped) = String::from_utf8(flipped) {
                bad.push(flipped);
            }
        }
    }
    let response = |token: String| {
        let rig = &rig;
        async move {
            let Ok(value) = HeaderValue::try_from(format!("__Host-id={token}")) else { return None };
            let session = rig.manager.start(&HeaderMap::from_iter([(COOKIE, value)])).await.unwrap();
            let seen = (session.id(), session.principal(), session.keys().unwrap(), session.created());
            let mut headers = HeaderMap::new();
            let released = session.release(&mut headers).await.unwrap();
            Some((seen, released, headers))
        }
    };
    let fresh = response("A".into()).await.unwrap();
    assert_eq!(fresh.0, (None, None, vec![], None));
    assert_eq!(fresh.1, Released::Unchanged);
    let mut tried = 0;
    for token in bad {
        let Some(found) = response(token.clone()).await else { continue };
        tried += 1;
        assert_eq!(found, fresh, "{token}");
    }
    assert!(tried > 1_500, "{tried} cookies");
    assert_eq!(rig.n(&good).await, Some(1), "and the one that it all began with is good");
}

fn data_encoding_base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let sixes = bits.as_bytes().chunks(6).map(|six| {
        let six = format!("{:0<6}", std::str::from_utf8(six).unwrap());
        char::from(ALPHABET[usize::from_str_radix(&six, 2).unwrap()])
    });
    sixes.collect()
}

#[tokio::test]
async fn a_cookie_says_itself_when_it_ends() {
    let rig = Rig::new();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    rig.time.advance(30 * MINUTE - Duration::from_millis(1));
    assert_eq!(rig.n(&token).await, Some(1));
    rig.time.advance(Duration::from_millis(1));
    assert_eq!(rig.n(&token).await, None, "the idle timeout");

    let (_, mut token) = request(&rig.manager, "", set(1)).await;
    for _ in 0..8 * 60 - 1 {
        rig.time.advance(MINUTE);
        token = request(&rig.manager, &token, |_| ()).await.1;
    }
    assert_eq!(rig.n(&token).await, Some(1));
    rig.time.advance(MINUTE);
    assert_eq!(rig.n(&token).await, None, "the absolute timeout, however much it was used");
}

#[tokio::test]
async fn a_use_is_noted_by_a_new_cookie_once_a_minute_and_no_more() {
    let rig = Rig::new();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    rig.time.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(request(&rig.manager, &token, |_| ()).await, (Released::Unchanged, token.clone()));
    rig.time.advance(Duration::from_millis(1));
    let (released, renewed) = request(&rig.manager, &token, |_| ()).await;
    assert_eq!(released, Released::Touched);
    assert_ne!(renewed, token);
    rig.time.advance(29 * MINUTE + Duration::from_millis(1));
    assert_eq!((rig.n(&token).await, rig.n(&renewed).await), (None, Some(1)));
}

#[tokio::test]
async fn a_cookie_over_a_minute_ahead_is_refused() {
    let rig = Rig::new();
    // Another process, whose clock is ahead.
    let ahead = ManualClock::starting_at(rig.time.clock().now() + 2 * MINUTE);
    let provider = CookieProvider::builder(rig.ring.clone()).clock(ahead.clock()).build();
    let other = Manager::builder(provider).clock(ahead.clock()).build().unwrap();
    let (_, token) = request(&other, "", set(1)).await;
    rig.time.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(rig.n(&token).await, None);
    rig.time.advance(Duration::from_millis(1));
    assert_eq!(rig.n(&token).await, Some(1));
}

#[tokio::test]
async fn a_cookie_over_4096_bytes_is_an_error_and_not_sent() {
    let rig = Rig::with(|provider| provider, |manager| manager.cookie_name("__Host-id"));
    let mut largest = 0;
    for len in 2_700..3_100 {
        let session = rig.start("").await;
        let text = "x".repeat(len);
        let mut headers = HeaderMap::new();
        match session.set("text", &text) {
            Ok(()) => {
                let _ = session.release(&mut headers).await.unwrap();
                let token = token_of(&headers).unwrap();
                largest = "__Host-id".len() + token.len();
                assert_eq!(rig.start(&token).await.get::<String>("text").unwrap(), Some(text));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                assert_eq!(session.release(&mut headers).await.unwrap(), Released::Unchanged);
                assert_eq!(token_of(&headers), None);
            }
        }
    }
    assert!((4094..=4096).contains(&largest), "{largest} bytes");

    // Only the commit can tell this, since the user's name takes room too.
    let (_, token) =
        request(&rig.manager, "", |session| session.set("text", "x".repeat(2_800)).unwrap()).await;
    let session = rig.start(&token).await;
    session.authenticate(Principal::new("a".repeat(256)).unwrap()).unwrap();
    let mut headers = HeaderMap::new();
    let error = session.release(&mut headers).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("4087 characters in its cookie"), "{error}");
    assert_eq!(token_of(&headers), None);
    assert_eq!(
        rig.start(&token).await.get::<String>("text").unwrap().unwrap().len(),
        2_800,
        "the old value is intact"
    );
}

#[tokio::test]
async fn what_a_store_alone_can_do_is_a_clear_error() {
    let rig = Rig::new();
    let capabilities = rig.provider.capabilities();
    assert!(capabilities.token_is_record() && !capabilities.lists && capabilities.persistent);
    let alice = Principal::new("alice").unwrap();
    let (_, token) = request(&rig.manager, "", login).await;
    let id = rig.start(&token).await.id().unwrap();
    for error in [
        rig.manager.active_sessions().await.unwrap_err(),
        rig.manager.sessions_of(&alice).await.unwrap_err(),
        rig.manager.end_sessions(&alice).await.unwrap_err(),
        rig.manager.session(&id).await.unwrap_err(),
        rig.provider.end_sessions_of(&alice).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(rig.manager.collect_garbage().await.unwrap(), 0);
}

#[tokio::test]
async fn of_parallel_responses_the_last_wins_as_is_documented() {
    let rig = Rig::new();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    let (_, one) = request(&rig.manager, &token, |session| session.set("a", 1).unwrap()).await;
    let (_, other) = request(&rig.manager, &token, |session| session.set("b", 1).unwrap()).await;
    assert!(!rig.start(&other).await.contains("a").unwrap() && rig.start(&one).await.contains("a").unwrap());
}

#[tokio::test]
async fn the_newer_of_two_cookies_of_one_session_counts() {
    let rig = Rig::new();
    let (_, old) = request(&rig.manager, "", set(1)).await;
    let (_, new) = request(&rig.manager, &old, set(2)).await;
    let (_, stranger) = request(&rig.manager, "", set(9)).await;
    let both = |a: &str, b: &str| {
        HeaderMap::from_iter([(
            COOKIE,
            HeaderValue::try_from(format!("__Host-id={a}; __Host-id={b}")).unwrap(),
        )])
    };
    for headers in [both(&old, &new), both(&new, &old)] {
        assert_eq!(rig.manager.start(&headers).await.unwrap().get("n").unwrap(), Some(2_u64));
    }
    for headers in [both(&new, &stranger), both(&stranger, &new)] {
        assert_eq!(rig.manager.start(&headers).await.unwrap().get::<u64>("n").unwrap(), None);
    }
}

#[tokio::test]
async fn a_handle_that_lives_long_sees_that_its_session_was_ended() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", |session| {
        set(1)(session);
        login(session);
    })
    .await;
    let socket = rig.start(&token).await;
    assert!(socket.reload().await.unwrap());
    rig.provider.end_sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
    assert!(!socket.reload().await.unwrap());
    let stateless = Rig::new();
    let (_, token) = request(&stateless.manager, "", set(1)).await;
    assert!(stateless.start(&token).await.reload().await.unwrap(), "nothing newer is known");
}

#[tokio::test]
async fn a_generator_that_fails_is_an_error_and_no_cookie_is_sent() {
    let fails = |_: &mut [u8]| Err(std::io::Error::other("no entropy"));
    let rig = Rig::with(|provider| provider.danger_random(fails), |manager| manager);
    let session = rig.start("").await;
    session.set("n", 1).unwrap();
    let mut headers = HeaderMap::new();
    let error = session.release(&mut headers).await.unwrap_err();
    assert_eq!((error.kind(), error.status().as_u16()), (ErrorKind::Random, 503));
    assert_eq!(token_of(&headers), None);
}

#[tokio::test]
async fn an_id_header_carries_the_sealed_session() {
    let name = HeaderName::from_static("x-session");
    let rig = Rig::with(|provider| provider, |manager| manager.id_header(name.clone()));
    let session = rig.start("").await;
    session.set("n", 7).unwrap();
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    let request = HeaderMap::from_iter([(name.clone(), headers[&name].clone())]);
    assert_eq!(rig.manager.start(&request).await.unwrap().get("n").unwrap(), Some(7_u64));
}

#[tokio::test]
async fn one_provider_serves_one_cookie_name() {
    let rig = Rig::new();
    let built = |settings: fn(ManagerBuilder) -> ManagerBuilder| {
        settings(Manager::builder(rig.provider.clone()))
            .clock(rig.time.clock())
            .build()
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(built(|manager| manager), Ok(()), "the same once more");
    assert!(built(|manager| manager.cookie_name("other")).unwrap_err().contains("one cookie name"));
    assert!(built(|manager| manager.rotate_every(HOUR)).unwrap_err().contains("rotateEvery has no meaning"));
    let others = built(|manager| manager.seal(KeyRing::new(SealKey::generate().unwrap())));
    assert!(others.unwrap_err().contains("seals with its own keys"));
    assert!(rig.manager.advice().is_empty(), "{:?}", rig.manager.advice());
}

/// A key as `openssl rand -base64 32` prints one.
const KEY: &str = "L4wa4HvTaUXwosbYHnuTUNSsDm97EpjA8tbg8UJ7jP8=";

async fn by_name(provider_config: &str) -> Result<Manager, String> {
    let config = serde_json::json!({
        "cookieName": "gosessionid", "enableSetCookie": false, "gclifetime": 3600, "ProviderConfig": provider_config,
    });
    Manager::new("cookie", &config.to_string()).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_seeds_configuration_works_to_the_letter() {
    let config = format!(
        r#"{{"cookieName":"gosessionid","securityKey":"{KEY}","blockKey":"0123456789abcdef","securityName":"shop","maxage":600}}"#
    );
    let manager = by_name(&config).await.unwrap();
    // Its documentation switches enableSetCookie off, which was about another cookie than the one with the session.
    let (_, token) = request(&manager, "", set(1)).await;
    let found = async |manager: &Manager| {
        let cookie = HeaderValue::try_from(format!("gosessionid={token}")).unwrap();
        let session = manager.start(&HeaderMap::from_iter([(COOKIE, cookie)])).await.unwrap();
        session.get::<u64>("n").unwrap()
    };
    assert_eq!(found(&manager).await, Some(1));
    assert_eq!(found(&by_name(&config).await.unwrap()).await, Some(1), "another process");
    for (what, other) in [
        ("securityKey", config.replace("L4wa", "L5wa")),
        ("blockKey", config.replace("0123456789abcdef", "0123456789abcdeg")),
        ("securityName", config.replace("shop", "shop2")),
    ] {
        assert_eq!(found(&by_name(&other).await.unwrap()).await, None, "another {what}");
    }
}

#[tokio::test]
async fn a_weak_key_or_an_impossible_setting_is_refused() {
    for (config, expected) in [
        ("".to_owned(), "there is no default"),
        ("{}".to_owned(), "there is no default"),
        (r#"{"blockKey":"0123456789abcdef"}"#.to_owned(), "there is no default"),
        // The key of Beego's documentation.
        (r#"{"securityKey":"beegocookiehashkey"}"#.to_owned(), "at least 32 random bytes, found 18"),
        (r#"{"securityKey":"CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET"}"#.to_owned(), "widely known"),
        (format!(r#"{{"securityKey":"{}"}}"#, "a".repeat(64)), "repeats itself"),
        (format!(r#"{{"securityKey":"{KEY}","blockKey":"short"}}"#), "blockKey: expected 16, 24 or 32 bytes"),
        (format!(r#"{{"securityKey":"{KEY}","cookieName":"other"}}"#), "give one name"),
        (format!(r#"{{"securityKey":"{KEY}","maxage":5}}"#), "maxage: expected"),
        (format!(r#"{{"securityKey":"{KEY}","maxAge":"5"}}"#), "maxage: expected"),
        (format!(r#"{{"securityKey":"{KEY}","secure":false}}"#), "secure is false"),
        (format!(r#"{{"securityKey":"{KEY}","colour":1}}"#), "expected the keys"),
        ("hunter2".to_owned(), "expected a JSON object"),
    ] {
        let error = by_name(&config).await.unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
        assert!(
            !error.contains("hunter2") && !error.contains(KEY) && !error.contains("beegocookie"),
            "{error}"
        );
    }
    let both = format!(
        r#"{{"cookieName":"id","sealKeys":["{KEY}"],"providerConfig":"{{\"securityKey\":\"{KEY}\"}}"}}"#
    );
    assert!(Manager::new("cookie", &both).await.unwrap_err().to_string().contains("found both"));
    let ring_alone = format!(r#"{{"cookieName":"__Host-id","sealKeys":["{KEY}"]}}"#);
    let manager = Manager::new("cookie", &ring_alone).await.unwrap();
    let (_, token) = request(&manager, "", set(1)).await;
    assert_eq!(n(&manager, &token).await, Some(1));
}

#[tokio::test]
async fn a_cookie_is_accepted_for_its_max_age_at_most() {
    let rig = Rig::with(|provider| provider.max_age(10 * MINUTE), |manager| manager);
    let (_, token) = request(&rig.manager, "", set(1)).await;
    rig.time.advance(10 * MINUTE - Duration::from_millis(1));
    assert_eq!(rig.n(&token).await, Some(1));
    let (_, renewed) = request(&rig.manager, &token, |_| ()).await;
    rig.time.advance(Duration::from_millis(1));
    assert_eq!((rig.n(&token).await, rig.n(&renewed).await), (None, Some(1)));
}

#[tokio::test]
async fn nothing_that_prints_shows_what_is_in_a_cookie() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    let session = rig.start(&token).await;
    let shown = format!("{:?} {:?} {session:?} {:?}", rig.manager, rig.provider, session.id());
    for start in (0..token.len() - 8).step_by(4) {
        assert!(!shown.contains(&token[start..start + 8]));
    }
    assert!(shown.contains(&rig.ring.newest().to_string()));
}

#[tokio::test]
async fn ending_a_users_sessions_spares_other_applications() {
    let (time, ring) = (ManualClock::default(), KeyRing::new(SealKey::generate().unwrap()));
    let marks = MemoryProvider::builder().clock(time.clock()).build();
    let open = |namespace: &str| {
        let builder = CookieProvider::builder(ring.clone()).clock(time.clock());
        let provider = builder.revocations(marks.clone(), 8 * HOUR).build();
        let manager = Manager::builder(provider.clone()).clock(time.clock()).namespace(namespace);
        (provider, manager.build().unwrap())
    };
    let ((shop, sells), (_, rules)) = (open("shop"), open("admin"));
    let alice = Principal::new("alice").unwrap();
    let (_, customer) = request(&sells, "", login).await;
    let (_, admin) = request(&rules, "", login).await;
    shop.end_sessions_of(&alice).await.unwrap();
    assert_eq!(sells.start(&with_token(&customer)).await.unwrap().principal(), None);
    assert_eq!(rules.start(&with_token(&admin)).await.unwrap().principal(), Some(alice));
}

#[tokio::test]
async fn a_mark_outlives_its_session_on_a_slow_clock() {
    let (ring, right) = (KeyRing::new(SealKey::generate().unwrap()), ManualClock::default());
    let behind = ManualClock::starting_at(right.clock().now() - Duration::from_secs(59));
    let marks = MemoryProvider::builder().clock(right.clock()).build();
    let open = |time: &ManualClock| {
        let builder = CookieProvider::builder(ring.clone()).clock(time.clock());
        let provider = builder.revocations(marks.clone(), 8 * HOUR).build();
        Manager::builder(provider).clock(time.clock()).idle_timeout(8 * HOUR).build().unwrap()
    };
    let (here, there) = (open(&right), open(&behind));
    let (_, token) = request(&here, "", set(1)).await;
    assert_eq!(n(&there, &token).await, Some(1));
    let _ = request(&here, &token, |session| session.destroy().unwrap()).await;
    for time in [&right, &behind] {
        time.advance(8 * HOUR + Duration::from_secs(58));
    }
    // By its own clock the session would have a second to live.
    assert_eq!(n(&there, &token).await, None);
}

#[tokio::test]
async fn a_use_of_a_session_that_was_ended_meanwhile_sends_no_cookie() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    rig.time.advance(2 * MINUTE);
    let reader = rig.start(&token).await;
    let (released, _) = request(&rig.manager, &token, |session| session.destroy().unwrap()).await;
    assert_eq!(released, Released::Destroyed);
    let mut headers = HeaderMap::new();
    assert_eq!(reader.release(&mut headers).await.unwrap(), Released::Gone { lost_write: false });
    assert_eq!(token_of(&headers), None);
}

#[tokio::test]
async fn a_login_whose_session_fits_no_cookie_ends_nothing() {
    let rig = Rig::revocable();
    let (_, token) = request(&rig.manager, "", set(1)).await;
    let session = rig.start(&token).await;
    // All data that there is room for; a user's name is no part of it.
    let fits = |size: &usize| session.set("large", "x".repeat(*size)).is_ok();
    assert!((2_000..3_100).rev().any(|size| fits(&size)));
    session.authenticate(Principal::new("a".repeat(255)).unwrap()).unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(token_of(&headers), None);
    assert_eq!(rig.n(&token).await, Some(1), "the session of before goes on");
}

#[tokio::test]
async fn a_session_remembered_for_a_month_stays_dead_for_it() {
    for everywhere in [false, true] {
        let rig = Rig::revocable();
        let (_, token) = request(&rig.manager, "", |session| {
            login(session);
            session.set_lifetime(Lifetime::remembered(30 * 24 * HOUR)).unwrap();
        })
        .await;
        if everywhere {
            rig.provider.end_sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
        } else {
            let _ = request(&rig.manager, &token, |session| session.destroy().unwrap()).await;
        }
        for _ in 0..31 * 24 {
            rig.time.advance(HOUR);
            let _ = rig.manager.collect_garbage().await.unwrap();
            assert_eq!(rig.start(&token).await.principal(), None, "everywhere: {everywhere}");
        }
    }
}

/// The next number of a sequence that looks random, below `bound`.
fn next(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

#[tokio::test]
async fn an_ended_session_is_dead_to_every_copy_at_every_time() {
    for first in 0..60 {
        let mut seed = first;
        let time = ManualClock::default();
        let marks = MemoryProvider::builder().clock(time.clock()).build();
        let idle = HOUR * (1 + next(&mut seed, 5) as u32);
        let rig = Rig::on(
            time,
            |provider| provider.revocations(marks, MINUTE),
            |manager| manager.idle_timeout(idle).absolute_timeout(Some(4 * idle)),
        );
        let (_, token) = request(&rig.manager, "", login).await;
        let (mut copies, mut unused) = (vec![token], idle);
        for _ in 0..next(&mut seed, 5) {
            rig.time.advance(unused / 2);
            let newest = copies.last().unwrap().clone();
            if rig.start(&newest).await.principal().is_none() {
                // Past its absolute end: begin anew, with the old copies still in the hands of a thief.
                copies.push(request(&rig.manager, "", login).await.1);
                unused = idle;
                continue;
            }
            let own = HOUR * (1 + next(&mut seed, 24 * 40) as u32);
            let lifetime = match next(&mut seed, 3) {
                0 => Some(Lifetime::remembered(own)),
                1 => Some(Lifetime::idle(own)),
                _ => None,
            };
            let (_, copy) = request(&rig.manager, &newest, |session| {
                session.set("n", 1).unwrap();
                lifetime.into_iter().for_each(|own| session.set_lifetime(own).unwrap());
            })
            .await;
            if lifetime.is_some() {
                unused = own;
            }
            copies.push(copy);
        }
        if next(&mut seed, 2) == 0 {
            rig.provider.end_sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
        } else {
            // By whichever copy: each names the session that it is of.
            let by = copies[next(&mut seed, copies.len() as u64) as usize].clone();
            let session = rig.start(&by).await;
            let Some(id) = session.id() else { continue };
            session.destroy().unwrap();
            let _ = session.release(&mut HeaderMap::new()).await.unwrap();
            let mut same = Vec::new();
            for copy in copies {
                let opened = rig.other(|manager| manager).start(&with_token(&copy)).await.unwrap();
                if opened.id().is_some_and(|other| other.expose() == id.expose()) {
                    same.push(copy);
                }
            }
            copies = same;
        }
        for _ in 0..100 {
            let _ = rig.manager.collect_garbage().await.unwrap();
            for copy in &copies {
                assert_eq!(rig.start(copy).await.principal(), None, "seed {first}");
            }
            rig.time.advance(HOUR * (1 + next(&mut seed, 30) as u32));
        }
    }
}

#[tokio::test]
async fn a_session_used_within_a_max_age_of_a_minute_lives() {
    for lifetime in [None, Some(Lifetime::idle(HOUR))] {
        let rig = Rig::with(|provider| provider.max_age(MINUTE), |manager| manager);
        let (_, mut token) = request(&rig.manager, "", |session| {
            set(1)(session);
            lifetime.into_iter().for_each(|own| session.set_lifetime(own).unwrap());
        })
        .await;
        for _ in 0..20 {
            rig.time.advance(MINUTE / 2);
            assert_eq!(rig.n(&token).await, Some(1), "{lifetime:?}");
            let mut headers = HeaderMap::new();
            let _ = rig.start(&token).await.release(&mut headers).await.unwrap();
            token = token_of(&headers).unwrap_or(token);
        }
    }
}
