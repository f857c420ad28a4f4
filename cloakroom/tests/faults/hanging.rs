//! A store that does not answer in time. No request waits longer than the deadline.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::{ErrorKind, Result, Session, SessionLayer};
use tokio::time::{Instant, timeout};

use crate::site;
use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, ask, cookies, set_cookies};

const DEADLINE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_millis(200);

/// Makes a request. Checks that the response is 503 soon after the deadline.
async fn answered_in_time(site: &Router, path: &str, cookie: &str) {
    let start = Instant::now();
    let response = ask(site, path, cookie).await;
    let waited = start.elapsed();
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]), "{path}");
    assert!(waited >= DEADLINE, "{path}: gave up after {waited:?}");
    assert!(waited <= DEADLINE + SLACK, "{path}: waited {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_store_delays_no_request_past_the_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for (path, call) in [
        ("/read", Call::Load),
        ("/set", Call::Load),
        ("/set", Call::Update),
        ("/login", Call::Rename),
        ("/regenerate", Call::Rename),
        ("/logout", Call::End),
    ] {
        rig.faults.set(call, Fault::Hang);
        answered_in_time(&site(&rig.manager), path, &alive).await;
        rig.faults.heal();
        assert_eq!(rig.stored(&alive).await, Some(1), "{path}");
    }
    rig.faults.set(Call::Create, Fault::Hang);
    answered_in_time(&site(&rig.manager), "/set", "").await;
    rig.faults.heal();
    assert_eq!(ask(&site(&rig.manager), "/set", &alive).await.status(), 200);
    assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(2), 1));
}

#[tokio::test(start_paused = true)]
async fn load_and_commit_share_one_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    rig.faults.set(Call::Load, Fault::Slow(Duration::from_millis(1500)));
    for call in [Call::Update, Call::Rename, Call::End] {
        rig.faults.set(call, Fault::Hang);
    }
    for path in ["/set", "/login", "/logout"] {
        answered_in_time(&site(&rig.manager), path, &alive).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_a_conflict_is_within_the_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let (store, cookie, faults) = (rig.store.clone(), alive.clone(), rig.faults.clone());
    let handler = async move |session: Session| {
        session.set("n", 2).unwrap();
        let other = store.start(&cookies(&cookie)).await.unwrap();
        other.set("m", 1).unwrap();
        other.save().await.unwrap();
        faults.set(Call::Load, Fault::Hang);
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    answered_in_time(&site, "/", &alive).await;
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Update, Call::Load]);
}

#[tokio::test(start_paused = true)]
async fn repeated_loads_share_one_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    rig.faults.set(Call::Load, Fault::Hang);
    let stubborn = async |one: Result<Session>, two: Result<Session>, three: Result<Session>| {
        for result in [one, two, three] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
        }
        http::StatusCode::SERVICE_UNAVAILABLE
    };
    let site = Router::new().route("/", get(stubborn)).layer(SessionLayer::new(rig.manager.clone()));
    answered_in_time(&site, "/", &alive).await;
    assert_eq!(rig.faults.calls(), [Call::Load; 3]);
}

#[tokio::test(start_paused = true)]
async fn several_cookies_of_our_name_share_one_deadline() {
    let rig = Rig::new();
    let (one, two) = (rig.session_with(1).await, rig.session_with(2).await);
    rig.faults.set(Call::Load, Fault::Slow(Duration::from_millis(1500)));
    answered_in_time(&site(&rig.manager), "/read", &format!("{one}; {two}")).await;
}

#[tokio::test(start_paused = true)]
async fn calls_outside_of_a_request_have_the_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    let id = session.id().unwrap();
    rig.faults.set_all(Fault::Hang);
    rig.faults.set(Call::OfPrincipal, Fault::Hang);
    rig.faults.set(Call::Count, Fault::Hang);
    let user = crate::support::alice();
    session.set("n", 2).unwrap();
    let bounded = async |what: &str, result: std::pin::Pin<Box<dyn Future<Output = Result<()>> + '_>>| {
        let start = Instant::now();
        let answer = timeout(DEADLINE * 10, result).await.unwrap_or_else(|_| panic!("{what} hangs"));
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout, "{what}");
        assert_eq!(start.elapsed().as_secs(), 2, "{what}: {:?}", start.elapsed());
    };
    bounded("save", Box::pin(async { session.save().await })).await;
    bounded("update", Box::pin(async { session.update("n", |_: Option<u8>| 1).await.map(|_| ()) })).await;
    bounded("reload", Box::pin(async { session.reload().await.map(|_| ()) })).await;
    bounded("session", Box::pin(async { rig.manager.session(&id).await.map(|_| ()) })).await;
    bounded("sessions_of", Box::pin(async { rig.manager.sessions_of(&user).await.map(|_| ()) })).await;
    bounded("end_sessions", Box::pin(async { rig.manager.end_sessions(&user).await.map(|_| ()) })).await;
    bounded("active_sessions", Box::pin(async { rig.manager.active_sessions().await.map(|_| ()) })).await;
}
