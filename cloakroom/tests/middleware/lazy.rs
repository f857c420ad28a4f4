//! The store calls of each kind of request. A request that does not use its session makes none.

use std::convert::Infallible;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use cloakroom::{Session, SessionLayer, session::SessionHandle};
use http::header::{COOKIE, HeaderName, HeaderValue};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::hooked::Call;
use crate::support::{Rig, ask, joined, pair, request, send, set_cookies, text};

const UNKNOWN: &str = "__Host-id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn site(rig: &Rig) -> Router {
    let read = |session: Session| async move { format!("{:?}", session.get::<u64>("n").unwrap()) };
    let set = |session: Session| async move { session.set("n", 2).unwrap() };
    Router::new()
        .route("/untouched", get(async || "ok"))
        .route("/read", get(read))
        .route("/set", get(set))
        .route("/twice", get(twice))
        .route("/together", get(together))
        .route("/logout", get(|session: Session| async move { session.destroy().unwrap() }))
        .layer(SessionLayer::new(rig.manager.clone()))
}

/// Checks that two extractors and a handle give the same session.
async fn twice(one: Session, two: Session, Extension(handle): Extension<SessionHandle>) -> String {
    one.set("seen", true).unwrap();
    let three = handle.load().await.unwrap();
    assert_eq!(three.get::<bool>("seen").unwrap(), Some(true));
    two.delete("seen").unwrap();
    format!("{:?}", three.get::<u64>("n").unwrap())
}

/// Loads the session several times at once, also from another task.
async fn together(Extension(handle): Extension<SessionHandle>) -> String {
    let elsewhere = tokio::spawn({
        let handle = handle.clone();
        async move { handle.load().await.unwrap() }
    });
    let (one, two, three) = tokio::join!(handle.load(), handle.load(), elsewhere);
    let numbers =
        [one.unwrap(), two.unwrap(), three.unwrap()].map(|session| session.get::<u64>("n").unwrap());
    format!("{numbers:?}")
}

#[tokio::test]
async fn an_unused_session_costs_no_store_call() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for cookie in ["", UNKNOWN, &*alive, "__Host-id=../x", "junk"] {
        let response = ask(&site(&rig), "/untouched", cookie).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec![]));
        assert_eq!(rig.faults.calls(), [], "{cookie}");
    }
}

#[tokio::test]
async fn a_read_is_exactly_one_load() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for (cookie, calls, seen) in
        [("", vec![], "None"), (UNKNOWN, vec![Call::Load], "None"), (&*alive, vec![Call::Load], "Some(1)")]
    {
        let response = ask(&site(&rig), "/read", cookie).await;
        assert_eq!(set_cookies(response.headers()), [""; 0]);
        assert_eq!(text(response).await, seen);
        assert_eq!(rig.faults.calls(), calls, "{cookie}");
    }
}

#[tokio::test]
async fn extractors_of_one_request_share_one_session() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    assert_eq!(text(ask(&site(&rig), "/twice", &alive).await).await, "Some(1)");
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Update]);
}

#[tokio::test]
async fn concurrent_loads_of_one_request_make_one_call() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    assert_eq!(text(ask(&site(&rig), "/together", &alive).await).await, "[Some(1), Some(1), Some(1)]");
    assert_eq!(rig.faults.calls(), [Call::Load]);
}

#[tokio::test]
async fn a_change_is_one_load_and_one_update() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let response = ask(&site(&rig), "/set", &alive).await;
    assert_eq!(set_cookies(response.headers()), [""; 0], "the browser has its cookie already");
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Update]);
    assert_eq!(rig.stored(&alive).await, Some(2));
}

#[tokio::test]
async fn a_first_visit_that_sets_something_is_one_create() {
    let rig = Rig::new();
    let response = ask(&site(&rig), "/set", "").await;
    assert_eq!(rig.faults.calls(), [Call::Create]);
    assert_eq!(rig.stored(&pair(response.headers()).unwrap()).await, Some(2));
}

#[tokio::test]
async fn a_malformed_id_costs_no_store_call() {
    let rig = Rig::new();
    let long = vec![b'A'; 1 << 20];
    let ids: [&[u8]; 12] = [
        b"../x",
        b"..%2fx",
        b"x",
        b"",
        b"\x80\xff",
        "ä".as_bytes(),
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x80",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/",
        b"\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        &long,
    ];
    for id in ids {
        let mut asked = request("/read", "");
        let cookie = HeaderValue::from_bytes(&[b"__Host-id=", id].concat()).unwrap();
        asked.headers_mut().insert(COOKIE, cookie);
        assert_eq!(text(send(&site(&rig), asked).await).await, "None");
        assert_eq!(rig.faults.calls(), [], "{} bytes", id.len());
    }
    HeaderValue::from_bytes(b"__Host-id=\0").expect_err("a header cannot hold a NUL");
    let response = ask(&site(&rig), "/set", "__Host-id=../x").await;
    assert_eq!(rig.faults.calls(), [Call::Create], "a new visitor");
    assert_eq!(pair(response.headers()).unwrap().len(), "__Host-id=".len() + 43);
}

#[tokio::test]
async fn a_logout_without_a_session_costs_no_store_call() {
    let rig = Rig::new();
    let response = ask(&site(&rig), "/logout", "").await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec![]));
    assert_eq!(rig.faults.calls(), []);
}

#[tokio::test]
async fn a_logout_is_one_load_and_one_update() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let response = ask(&site(&rig), "/logout", &alive).await;
    assert_eq!(pair(response.headers()).unwrap(), "__Host-id=");
    assert_eq!(rig.faults.calls(), [Call::Load, Call::End]);
    assert!(!rig.alive(&alive).await);
}

#[tokio::test]
async fn a_malformed_cookie_hides_no_other_cookie() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let crumbs: [&[&[u8]]; 3] = [
        &[b"a=1", alive.as_bytes(), b"b=2"],
        &[b"a=\xff\xfe; =; ;;\x80", alive.as_bytes()],
        &[&[b"g=\xc3\xa4\xff; ", alive.as_bytes(), b"; \"broken"].concat()],
    ];
    for crumbs in crumbs {
        let mut asked = request("/read", "");
        for crumb in crumbs {
            asked.headers_mut().append(COOKIE, HeaderValue::from_bytes(crumb).unwrap());
        }
        assert_eq!(text(send(&site(&rig), asked).await).await, "Some(1)", "{crumbs:?}");
    }
}

#[tokio::test]
async fn a_tower_service_finds_a_handle_in_the_request() {
    let rig = Rig::new();
    let handler = service_fn(async |request: Request<()>| {
        if request.uri().path() != "/untouched" {
            let handle = request.extensions().get::<SessionHandle>().unwrap();
            let session = handle.load().await.unwrap();
            let n = session.get::<u64>("n").unwrap().unwrap_or(0) + 1;
            session.set("n", n).unwrap();
        }
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let service = SessionLayer::new(rig.manager.clone()).layer(handler);
    let visit = async |path: &str, cookie: &str| {
        let request = request(path, cookie).map(|_: Body| ());
        service.clone().oneshot(request).await.unwrap()
    };
    let first = visit("/", "").await;
    let cookie = pair(first.headers()).unwrap();
    assert_eq!(rig.faults.calls(), [Call::Create]);
    assert_eq!(pair(visit("/", &cookie).await.headers()), None);
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Update]);
    assert_eq!(rig.stored(&cookie).await, Some(2));
    assert!(visit("/untouched", &cookie).await.headers().is_empty());
    assert_eq!(rig.faults.calls(), []);
}

#[tokio::test]
async fn a_client_without_cookies_has_its_id_in_a_header() {
    let name = HeaderName::from_static("x-session");
    let rig = Rig::with(|builder| builder.id_header(HeaderName::from_static("x-session")));
    let first = ask(&site(&rig), "/set", "").await;
    let id = first.headers()[&name].clone();
    assert!(id.is_sensitive(), "Debug of the headers must not show it");
    assert_eq!(pair(first.headers()).unwrap(), format!("__Host-id={}", id.to_str().unwrap()));
    assert_eq!(joined(first.headers(), "vary"), "Cookie, x-session");

    let visit = async |id: &[u8], cookie: &str| {
        let mut asked = request("/read", cookie);
        asked.headers_mut().insert(&name, HeaderValue::from_bytes(id).unwrap());
        rig.faults.calls();
        text(send(&site(&rig), asked).await).await
    };
    assert_eq!(visit(id.as_bytes(), "").await, "Some(2)");
    assert_eq!(visit(b"../x", "").await, "None");
    assert_eq!(rig.faults.calls(), []);
    let other = rig.session_with(7).await;
    assert_eq!(visit(id.as_bytes(), &other).await, "Some(7)", "a cookie has precedence over the header");
}
