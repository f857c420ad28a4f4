//! Warnings about settings with which sessions cannot work. Each is given once and names the remedy.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::{
    Manager, ManagerBuilder, ManualClock, MemoryProvider, Session, SessionLayer, config::SameSite,
};
use http::Request;

use crate::support::log::Log;
use crate::support::{pair, send, set_cookies};

fn built(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Manager {
    settings(Manager::builder(MemoryProvider::new())).build().unwrap()
}

/// Visits a page that begins a session, with `headers`. Returns the number of warnings with `what`.
async fn warnings(manager: &Manager, what: &str, headers: &[(&str, &str)]) -> usize {
    let log = Log::start();
    let set = async |session: Session| session.set("n", 2).unwrap();
    let site = Router::new()
        .route("/", get(set))
        .route("/read", get(async |_: Session| ""))
        .layer(SessionLayer::new(manager.clone()));
    for path in ["/read", "/", "/"] {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = send(&site, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
    }
    let text = log.text();
    text.lines().filter(|line| line.contains(" WARN ") && line.contains(what)).count()
}

const DROPPED: &str = "browsers drop it, so nobody stays signed in";

#[tokio::test]
async fn a_secure_cookie_over_plain_http_warns_once() {
    let manager = built(|builder| builder);
    let host = [("host", "192.168.1.7:3000")];
    assert_eq!(warnings(&manager, DROPPED, &host).await, 1);
    assert_eq!(warnings(&manager, "plain_http_for_development", &host).await, 0, "once for each manager");
    let page = [("host", "shop.test"), ("origin", "http://shop.test"), ("x-forwarded-for", "10.0.0.1")];
    assert_eq!(warnings(&built(|builder| builder), "plain_http_for_development", &page).await, 1);
}

#[tokio::test]
async fn https_and_localhost_cause_no_warning() {
    for headers in [
        &[("host", "localhost:3000")][..],
        &[("host", "127.0.0.1:3000")],
        &[("host", "shop.example"), ("sec-fetch-site", "none")],
        &[("host", "shop.example"), ("x-forwarded-proto", "https")],
        &[],
    ] {
        assert_eq!(warnings(&built(|builder| builder), DROPPED, headers).await, 0, "{headers:?}");
    }
    let plain = built(|builder| builder.cookie_name("id").secure(false));
    assert_eq!(warnings(&plain, DROPPED, &[("host", "shop.test")]).await, 0);
}

#[tokio::test]
async fn a_session_without_the_layer_warns_too() {
    let log = Log::start();
    let manager = built(|builder| builder);
    let mut headers = http::HeaderMap::new();
    headers.insert("host", "shop.test".parse().unwrap());
    let session = manager.start(&headers).await.unwrap();
    session.set("n", 1).unwrap();
    let _ = session.release(&mut http::HeaderMap::new()).await.unwrap();
    assert_eq!(log.text().matches(DROPPED).count(), 1);
}

#[tokio::test]
async fn plain_http_for_development_makes_plain_http_work() {
    type Settings = fn(ManagerBuilder) -> ManagerBuilder;
    let cases: [(Settings, &str); 4] = [
        (|builder| builder.plain_http_for_development(), "id="),
        (|builder| builder.plain_http_for_development().cookie_name("__Host-shop").secure(true), "shop="),
        (|builder| builder.cookie_name("__Secure-s").plain_http_for_development(), "s="),
        (
            |builder| {
                let builder = builder.cookie_name("s").same_site(SameSite::None);
                builder.plain_http_for_development()
            },
            "s=",
        ),
    ];
    for (settings, name) in cases {
        let log = Log::start();
        let manager = built(settings);
        assert_eq!(log.text().matches("plain_http_for_development is on").count(), 1);
        assert_eq!(warnings(&manager, DROPPED, &[("host", "shop.test")]).await, 0);
        let session = manager.start(&http::HeaderMap::new()).await.unwrap();
        session.set("n", 1).unwrap();
        let mut response = http::HeaderMap::new();
        let _ = session.release(&mut response).await.unwrap();
        assert!(pair(&response).unwrap().starts_with(name), "{name}");
        assert!(set_cookies(&response)[0].ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{name}");
    }
}

const UNCOLLECTED: &str = "nobody collects the sessions that expire";

/// Begins `sessions` sessions. Returns the number of warnings with `what`.
async fn told(manager: &Manager, what: &str, sessions: usize) -> usize {
    let log = Log::start();
    for _ in 0..sessions {
        let session = manager.start(&http::HeaderMap::new()).await.unwrap();
        session.set("n", 1).unwrap();
        let _ = session.release(&mut http::HeaderMap::new()).await.unwrap();
    }
    log.text().matches(what).count()
}

#[tokio::test]
async fn missing_garbage_collection_warns_once() {
    let manager = built(|builder| builder);
    assert_eq!(told(&manager, UNCOLLECTED, 300).await, 1, "after many sessions");
    assert_eq!(told(&manager, UNCOLLECTED, 300).await, 0);

    let time = ManualClock::default();
    let provider = MemoryProvider::builder().clock(time.clock()).build();
    let manager = Manager::builder(provider).clock(time.clock()).build().unwrap();
    assert_eq!(told(&manager, UNCOLLECTED, 1).await, 0, "not at once");
    time.advance(Duration::from_secs(120));
    assert_eq!(told(&manager, UNCOLLECTED, 2).await, 1, "after two intervals");
}

#[tokio::test]
async fn with_garbage_collection_there_is_no_warning() {
    let manager = built(|builder| builder);
    let guard = manager.spawn_gc();
    assert_eq!(told(&manager, UNCOLLECTED, 300).await, 0);
    drop(guard);
    assert_eq!(told(&manager, UNCOLLECTED, 300).await, 1, "after the guard was dropped");
    let manager = built(|builder| builder);
    manager.collect_garbage().await.unwrap();
    assert_eq!(told(&manager, UNCOLLECTED, 300).await, 0, "a call of collect_garbage counts");
}

#[tokio::test]
async fn a_collection_guard_dropped_at_once_warns() {
    let log = Log::start();
    let manager = built(|builder| builder);
    let _ = manager.spawn_gc();
    let text = log.text();
    assert_eq!(text.matches("let _collecting = sessions.spawn_gc();").count(), 1, "{text}");
    assert!(text.contains(" WARN "), "{text}");
}
