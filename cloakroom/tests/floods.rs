//! Floods of first visits. Anonymous sessions live for a shorter time, have a quota, and can be refused by a callback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::{
    ErrorKind, Manager, ManagerBuilder, ManualClock, MemoryProvider, Provider, Session, SessionLayer, Visit,
    config::Config,
};
use http::{HeaderMap, StatusCode};

use support::faulty::{Fault, Faulty};
use support::hooked::{Call, Hook, Hooked, Verdict};
use support::{alice, ask, cookies, pair, send, set_cookies};

const MINUTE: Duration = Duration::from_secs(60);

fn rig(settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> (Manager, ManualClock) {
    let time = ManualClock::default();
    let provider = MemoryProvider::builder().clock(time.clock()).build();
    (settings(Manager::builder(provider)).clock(time.clock()).build().unwrap(), time)
}

async fn request(
    manager: &Manager,
    cookie: &str,
    change: impl FnOnce(&Session),
) -> cloakroom::Result<String> {
    let headers = if cookie.is_empty() { HeaderMap::new() } else { cookies(cookie) };
    let session = manager.start(&headers).await.unwrap();
    change(&session);
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await?;
    Ok(pair(&response).unwrap_or_else(|| cookie.to_owned()))
}

async fn visit(manager: &Manager) -> cloakroom::Result<String> {
    request(manager, "", |session| session.set("n", 1).unwrap()).await
}

async fn login(manager: &Manager, cookie: &str) -> cloakroom::Result<String> {
    request(manager, cookie, |session| session.authenticate(alice()).unwrap()).await
}

async fn alive(manager: &Manager, cookie: &str) -> bool {
    manager.start(&cookies(cookie)).await.unwrap().id().is_some()
}

#[tokio::test]
async fn an_anonymous_session_ends_after_its_own_timeout() {
    let (manager, time) = rig(|builder| builder.anonymous_timeout(Some(10 * MINUTE)));
    let (idle, used, user) =
        (visit(&manager).await.unwrap(), visit(&manager).await.unwrap(), visit(&manager).await.unwrap());
    let user = login(&manager, &user).await.unwrap();
    time.advance(9 * MINUTE);
    request(&manager, &used, |_| ()).await.unwrap();
    time.advance(MINUTE);
    assert!(!alive(&manager, &idle).await, "unused for ten minutes");
    assert!(alive(&manager, &used).await, "a use moves the deadline");
    time.advance(9 * MINUTE);
    assert!(!alive(&manager, &used).await);
    assert!(alive(&manager, &user).await, "a user has the idle timeout");
    time.advance(11 * MINUTE);
    assert!(!alive(&manager, &user).await);
}

#[tokio::test]
async fn a_change_keeps_the_kind_of_timeout() {
    let (manager, time) = rig(|builder| builder.anonymous_timeout(Some(10 * MINUTE)));
    let (visitor, user) = (visit(&manager).await.unwrap(), login(&manager, "").await.unwrap());
    for cookie in [&visitor, &user] {
        request(&manager, cookie, |session| session.set("n", 2).unwrap()).await.unwrap();
    }
    time.advance(10 * MINUTE);
    assert_eq!((alive(&manager, &visitor).await, alive(&manager, &user).await), (false, true));
}

#[tokio::test]
async fn the_anonymous_timeout_is_at_most_the_idle_timeout() {
    let (manager, time) = rig(|builder| builder.anonymous_timeout(Some(60 * MINUTE)));
    let cookie = visit(&manager).await.unwrap();
    time.advance(30 * MINUTE);
    assert!(!alive(&manager, &cookie).await, "no longer than the idle timeout");

    let (manager, time) = rig(|builder| builder.anonymous_timeout(Some(MINUTE)));
    let cookie = visit(&manager).await.unwrap();
    for _ in 0..10 {
        time.advance(Duration::from_secs(50));
        request(&manager, &cookie, |_| ()).await.unwrap();
    }
    assert!(alive(&manager, &cookie).await, "touches are frequent enough");
}

#[tokio::test]
async fn at_the_quota_only_logins_begin_sessions() {
    let (manager, time) = rig(|builder| builder.session_quota(3));
    let first = visit(&manager).await.unwrap();
    let _ = (visit(&manager).await.unwrap(), visit(&manager).await.unwrap());
    let error = visit(&manager).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Full, StatusCode::SERVICE_UNAVAILABLE));
    assert!(error.to_string().contains("the store holds 3 sessions"), "{error}");
    assert_eq!(manager.active_sessions().await.unwrap(), 3);

    request(&manager, &first, |session| session.set("n", 2).unwrap()).await.unwrap();
    login(&manager, "").await.unwrap();
    assert_eq!(manager.active_sessions().await.unwrap(), 4, "a login still begins a session");

    request(&manager, &first, |session| session.destroy().unwrap()).await.unwrap();
    time.advance(31 * MINUTE);
    visit(&manager).await.unwrap();
}

#[tokio::test]
async fn concurrent_first_visits_stop_at_the_quota() {
    let (manager, _time) = rig(|builder| builder.session_quota(10));
    let visits: Vec<_> = (0..50)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move { visit(&manager).await.is_ok() })
        })
        .collect();
    let mut begun = 0;
    for visit in visits {
        begun += u64::from(visit.await.unwrap());
    }
    assert_eq!((begun, manager.active_sessions().await.unwrap()), (10, 10));
}

#[tokio::test]
async fn a_flood_counts_the_store_once_a_second() {
    let (time, faults) = (ManualClock::default(), Faulty::default());
    let memory = MemoryProvider::builder().clock(time.clock()).build();
    let builder = Manager::builder(Hooked::new(memory, faults.clone())).clock(time.clock());
    let manager = builder.session_quota(1_000).build().unwrap();
    for second in 0..3 {
        for _ in 0..20 {
            visit(&manager).await.unwrap();
        }
        let counts = faults.calls().into_iter().filter(|call| *call == Call::Count).count();
        assert_eq!(counts, 1, "in second {second}");
        time.advance(Duration::from_secs(1));
    }
}

/// A store whose count returns after two more visitors have come.
#[derive(Clone, Default)]
struct CountedLate(Arc<OnceLock<Manager>>);

impl Hook for CountedLate {
    async fn after(&self, call: Call, _: bool) -> cloakroom::Result<()> {
        if let (Call::Count, Some(manager)) = (call, self.0.get()) {
            for _ in 0..2 {
                visit(manager).await.unwrap();
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_visit_during_a_count_is_counted() {
    let (time, late) = (ManualClock::default(), CountedLate::default());
    let memory = MemoryProvider::builder().clock(time.clock()).build();
    let builder = Manager::builder(Hooked::new(memory.clone(), late.clone())).clock(time.clock());
    let manager = builder.session_quota(3).build().unwrap();
    visit(&manager).await.unwrap();
    late.0.set(manager.clone()).unwrap();
    time.advance(Duration::from_secs(1));
    assert_eq!(visit(&manager).await.unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(memory.count().await.unwrap(), 3);
}

/// A store in which the first two fresh ids are taken.
#[derive(Clone, Default)]
struct TakenTwice(Arc<AtomicUsize>);

impl Hook for TakenTwice {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        let is_taken = call == Call::Create && self.0.fetch_add(1, Ordering::Relaxed) < 2;
        Ok(if is_taken { Verdict::Lose } else { Verdict::Forward })
    }
}

#[tokio::test]
async fn a_commit_is_admitted_once_though_its_id_is_taken() {
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let manager = Manager::builder(Hooked::new(MemoryProvider::new(), TakenTwice::default()));
    let manager = manager.session_quota(1).admit(move |_: &Visit| asks.fetch_add(1, Ordering::Relaxed) < 1);
    let manager = manager.build().unwrap();
    visit(&manager).await.unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), manager.active_sessions().await.unwrap()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_another_count_replaces_one_that_hangs() {
    let faults = Faulty::default();
    let manager = Manager::builder(Hooked::new(MemoryProvider::new(), faults.clone()));
    let manager = manager.session_quota(3).build().unwrap();
    faults.set(Call::Count, Fault::Hang);
    assert_eq!(visit(&manager).await.unwrap_err().kind(), ErrorKind::Timeout);
    faults.heal();
    tokio::time::sleep(MINUTE).await;
    visit(&manager).await.unwrap();
}

#[tokio::test]
async fn admit_sees_the_request_and_a_refusal_is_429() {
    #[derive(Clone)]
    struct Address(&'static str);

    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let (manager, _time) = rig(|builder| {
        builder.admit(move |visit: &Visit| {
            asks.fetch_add(1, Ordering::Relaxed);
            let address = visit.extensions().get::<Address>().unwrap();
            address.0 != "flood" && visit.headers().contains_key("user-agent")
        })
    });
    let site = Router::new()
        .route("/set", get(async |session: Session| session.set("n", 1).unwrap()))
        .route("/look", get(async |session: Session| session.contains("n").unwrap().to_string()))
        .route("/login", get(async |session: Session| session.authenticate(alice()).unwrap()))
        .layer(SessionLayer::new(manager.clone()));
    let ask_from = async |path: &str, address: &'static str, agent: bool, cookie: &str| {
        let mut request = support::request(path, cookie);
        request.extensions_mut().insert(Address(address));
        if agent {
            request.headers_mut().insert("user-agent", "browser".parse().unwrap());
        }
        let response = send(&site, request).await;
        (response.status(), pair(response.headers()))
    };
    let (status, cookie) = ask_from("/set", "home", true, "").await;
    assert_eq!((status, asked.load(Ordering::Relaxed)), (StatusCode::OK, 1));
    let cookie = cookie.unwrap();
    for (address, agent) in [("flood", true), ("home", false)] {
        assert_eq!(ask_from("/set", address, agent, "").await, (StatusCode::TOO_MANY_REQUESTS, None));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(ask_from("/look", "flood", true, "").await, (StatusCode::OK, None));
    assert_eq!(ask_from("/set", "flood", true, &cookie).await, (StatusCode::OK, None));
    assert_eq!(ask_from("/login", "flood", true, "").await.0, StatusCode::OK);
    assert_eq!(asked.load(Ordering::Relaxed), 3, "called only when an anonymous session begins");
    assert_eq!(manager.active_sessions().await.unwrap(), 2);
}

#[tokio::test]
async fn ten_thousand_reads_and_logouts_store_nothing() {
    let (manager, _time) = rig(|builder| builder);
    let site = Router::new()
        .route("/look", get(async |session: Session| session.get::<u8>("n").unwrap().is_some().to_string()))
        .route("/logout", get(async |session: Session| session.destroy().unwrap()))
        .layer(SessionLayer::new(manager.clone()));
    for _ in 0..5_000 {
        for path in ["/look", "/logout"] {
            assert_eq!(set_cookies(ask(&site, path, "").await.headers()), [""; 0]);
        }
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 0);
}

#[test]
fn explain_names_anonymous_timeout_and_quota() {
    let (manager, _time) = rig(|builder| builder.anonymous_timeout(Some(10 * MINUTE)).session_quota(100));
    let told = manager.explain();
    assert!(told.contains("Where nobody has logged in it ends 10 min after that use"), "{told}");
    assert!(told.contains("With 100 sessions in the store no anonymous one begins"), "{told}");
    let told = rig(|builder| builder).0.explain();
    assert!(!told.contains("anonymous timeout") && !told.contains("quota"), "{told}");
}

#[test]
fn the_configuration_string_has_both_settings() {
    let config =
        Config::from_json(r#"{"cookieName":"id","anonymousTimeout":600,"sessionQuota":100000}"#).unwrap();
    assert_eq!((config.anonymous_timeout(), config.session_quota()), (10 * MINUTE, Some(100_000)));
    let config = Config::from_json(r#"{"cookieName":"id"}"#).unwrap();
    assert_eq!((config.anonymous_timeout(), config.session_quota()), (config.idle_timeout(), None));
}
