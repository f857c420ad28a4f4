//! The headers of responses: `Vary`, `Cache-Control`, one `Set-Cookie`. The bodies reveal nothing about the server.

use axum::Router;
use axum::response::AppendHeaders;
use axum::routing::get;
use cloakroom::{Session, SessionLayer};
use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};

use crate::support::{Rig, alice, ask, cookies, joined, set_cookies, text};

fn site(rig: &Rig) -> Router {
    let said = AppendHeaders([(VARY, "accept"), (CACHE_CONTROL, "private"), (CACHE_CONTROL, "max-age=60")]);
    let set = async move |session: Session| {
        session.set("n", 2).unwrap();
        said
    };
    let stored_already = async |session: Session| {
        session.set("n", 2).unwrap();
        AppendHeaders([(VARY, "Accept, COOKIE"), (CACHE_CONTROL, "No-Store")])
    };
    Router::new()
        .route("/untouched", get(async || AppendHeaders([(VARY, "accept")])))
        .route("/read", get(async |_: Session| ()))
        .route("/set", get(set))
        .route("/said", get(stored_already))
        .route("/login", get(login))
        .layer(SessionLayer::new(rig.manager.clone()))
}

async fn login(session: Session) -> AppendHeaders<[(http::HeaderName, &'static str); 3]> {
    session.set("n", 2).unwrap();
    session.save().await.unwrap();
    session.regenerate().unwrap();
    session.save().await.unwrap();
    session.authenticate(alice()).unwrap();
    session.set("m", 3).unwrap();
    let before = (SET_COOKIE, "theme=dark");
    AppendHeaders([before, (SET_COOKIE, "__Host-id=forged; Path=/"), (SET_COOKIE, "__Host-id2=other")])
}

#[tokio::test]
async fn only_a_request_that_uses_its_session_varies_by_cookie() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for cookie in ["", &*alive] {
        let vary = async |path| joined(ask(&site(&rig), path, cookie).await.headers(), "vary");
        assert_eq!(vary("/untouched").await, "accept");
        assert_eq!(vary("/read").await, "Cookie");
        assert_eq!(vary("/set").await, "accept, Cookie");
        assert_eq!(vary("/said").await, "Accept, COOKIE");
    }
}

#[tokio::test]
async fn a_response_with_a_cookie_is_never_cached() {
    let rig = Rig::new();
    let control = async |path, cookie| {
        let response = ask(&site(&rig), path, cookie).await;
        (joined(response.headers(), "cache-control"), set_cookies(response.headers()).len())
    };
    assert_eq!(control("/set", "").await, ("private, max-age=60, no-store".to_owned(), 1));
    assert_eq!(control("/said", "").await, ("No-Store".to_owned(), 1));
    assert_eq!(control("/read", "").await, (String::new(), 0));
    let alive = rig.session_with(1).await;
    assert_eq!(control("/set", &alive).await, ("private, max-age=60".to_owned(), 0));
}

#[tokio::test]
async fn a_response_sets_the_session_cookie_once() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for cookie in ["", &*alive] {
        let response = ask(&site(&rig), "/login", cookie).await;
        let all = set_cookies(response.headers());
        let (ours, others): (Vec<&str>, Vec<&str>) =
            all.into_iter().partition(|set| set.starts_with("__Host-id="));
        assert_eq!(others, ["theme=dark", "__Host-id2=other"]);
        let [ours] = ours[..] else { panic!("{} cookies of our name", ours.len()) };
        assert!(ours.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{}", ours.len());
        let session = rig.store.start(&cookies(ours.split(';').next().unwrap())).await.unwrap();
        assert_eq!((session.principal(), session.get::<u64>("m").unwrap()), (Some(alice()), Some(3)));
    }
    assert!(!rig.alive(&alive).await);
}

#[tokio::test]
async fn without_the_layer_an_extractor_responds_500() {
    let site = Router::new().route("/", get(async |_: Session| "never"));
    let response = ask(&site, "/", "").await;
    assert_eq!(response.status(), 500);
    assert_eq!(text(response).await, "Internal Server Error");
}
