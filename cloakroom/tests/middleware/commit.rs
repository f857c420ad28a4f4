//! The commit at the end of a request: which responses commit, and what a failed commit does.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use axum::routing::get;
use cloakroom::{Error, ErrorKind, ManualClock, Released, Session, SessionLayer};
use http::StatusCode;
use hyper::body::Frame;
use tower::ServiceExt;

use crate::support::faulty::Fault;
use crate::support::hooked::{Call, give_way};
use crate::support::{Rig, alice, ask, cookies, joined, pair, request, set_cookies, text};

async fn set_and_fail(session: Session) -> StatusCode {
    session.set("n", 2).unwrap();
    StatusCode::BAD_GATEWAY
}

async fn set_and_panic(session: Session) {
    session.set("n", 2).unwrap();
    panic!("an injected panic of the handler");
}

async fn set_and_wait(session: Session) {
    session.set("n", 2).unwrap();
    std::future::pending::<()>().await;
}

async fn set(session: Session) -> &'static str {
    session.set("n", 2).unwrap();
    "done"
}

fn site(rig: &Rig) -> Router {
    Router::new()
        .route("/fail", get(set_and_fail))
        .route("/panic", get(set_and_panic))
        .route("/wait", get(set_and_wait))
        .route("/set", get(set))
        .layer(SessionLayer::new(rig.manager.clone()))
}

/// A site whose handler changes its session. Then another request logs out before the handler ends.
fn site_with_a_logout_between(
    rig: &Rig,
    cookie: &str,
    handler: impl Fn(&Session) + Clone + Send + Sync + 'static,
) -> Router {
    let (store, cookie) = (rig.store.clone(), cookie.to_owned());
    Router::new().route(
        "/",
        get(|session: Session| async move {
            handler(&session);
            let released = store.destroy(&cookies(&cookie), &mut Default::default()).await.unwrap();
            assert_eq!(released, Released::Destroyed);
            ([("set-cookie", "theme=dark")], "done")
        }),
    )
}

#[tokio::test]
async fn a_5xx_response_commits_nothing() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for cookie in [&*alive, ""] {
        let response = ask(&site(&rig), "/fail", cookie).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (502, vec![]));
        assert_eq!(joined(response.headers(), "vary"), "Cookie");
    }
    assert_eq!(rig.faults.calls(), [Call::Load], "nothing was written");
    assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
}

#[tokio::test]
async fn commit_on_server_error_commits_a_5xx_response() {
    let rig = Rig::with(|builder| builder.commit_on_server_error(true));
    let alive = rig.session_with(1).await;
    let response = ask(&site(&rig), "/fail", &alive).await;
    assert_eq!((response.status().as_u16(), rig.stored(&alive).await), (502, Some(2)));
    let response = ask(&site(&rig), "/fail", "").await;
    assert_eq!(rig.stored(&pair(response.headers()).unwrap()).await, Some(2));
}

#[tokio::test]
async fn a_panicking_handler_commits_nothing() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for cookie in [&*alive, ""] {
        // A server runs each connection in a task, which catches the panic.
        let (site, request) = (site(&rig), request("/panic", cookie));
        let task = tokio::spawn(async move { site.oneshot(request).await.map(|_| ()) });
        assert!(task.await.unwrap_err().is_panic());
    }
    // A pending commit would run now.
    give_way(50).await;
    assert_eq!(rig.faults.calls(), [Call::Load]);
    assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
    assert_eq!(ask(&site(&rig), "/set", &alive).await.status(), 200);
    assert_eq!(rig.stored(&alive).await, Some(2));
}

#[tokio::test]
async fn a_request_cancelled_in_its_handler_commits_nothing() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    {
        let mut response = pin!(site(&rig).oneshot(request("/wait", &alive)));
        for _ in 0..100 {
            let pending =
                std::future::poll_fn(|context| Poll::Ready(response.as_mut().poll(context).is_pending()));
            assert!(pending.await, "the handler never ends");
        }
    }
    give_way(50).await;
    assert_eq!(rig.faults.calls(), [Call::Load]);
    assert_eq!(rig.stored(&alive).await, Some(1));
    assert_eq!(ask(&site(&rig), "/set", &alive).await.status(), 200);
}

#[tokio::test]
async fn the_commit_precedes_the_response_head() {
    let rig = Rig::new();
    rig.faults.pause(20);
    let response = ask(&site(&rig), "/set", "").await;
    // The body has not been read yet.
    let cookie = pair(response.headers()).unwrap();
    assert_eq!(rig.stored(&cookie).await, Some(2));
    assert_eq!(text(response).await, "done");
}

#[tokio::test]
async fn a_change_during_the_response_body_is_an_error() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let late = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&late);
    let handler = async |session: Session| {
        let late = async move {
            let saved = session.save().await;
            let results = [
                session.set("n", 9),
                session.delete("n"),
                session.clear(),
                session.destroy(),
                session.regenerate(),
                session.authenticate(alice()),
                saved,
                session.update("n", |_: Option<u64>| 9).await.map(|_| ()),
            ];
            told.lock().unwrap().extend(results.map(|result| result.map_err(|error| error.kind())));
            Bytes::from("the end")
        };
        Body::new(Late(Some(Box::pin(late))))
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    let response = ask(&site, "/", &alive).await;
    assert_eq!(*late.lock().unwrap(), []);
    assert_eq!(text(response).await, "the end");
    assert_eq!(*late.lock().unwrap(), [Err(ErrorKind::Released); 8]);
    assert_eq!(rig.stored(&alive).await, Some(1));
}

/// A body with the result of one future.
struct Late<F>(Option<Pin<Box<F>>>);

impl<F: Future<Output = Bytes>> HttpBody for Late<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(future) = &mut self.0 else { return Poll::Ready(None) };
        let bytes = ready!(future.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_write_to_a_session_that_ended_is_409() {
    let rig = Rig::new();
    let changes: [fn(&Session); 4] = [
        |session| session.set("n", 2).unwrap(),
        |session| session.regenerate().unwrap(),
        |session| session.authenticate(alice()).unwrap(),
        |session| session.clear().unwrap(),
    ];
    for change in changes {
        let alive = rig.session_with(1).await;
        let site = site_with_a_logout_between(&rig, &alive, change);
        let response = ask(&site.layer(SessionLayer::new(rig.manager.clone())), "/", &alive).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (409, vec![]));
        assert_eq!(joined(response.headers(), "vary"), "Cookie");
        assert_eq!(joined(response.headers(), "cache-control"), "no-store");
        assert!(text(response).await.starts_with("Your session has ended"));
        assert_eq!(rig.count().await, 0, "no session was created");
    }
}

/// A handler that changes nothing.
type Reader = Box<dyn Fn(&Session) + Send + Sync>;

#[tokio::test]
async fn a_read_of_a_session_that_ended_succeeds() {
    let time = ManualClock::default();
    let rig = Rig::with_clock(&time.clock());
    let readers: [Reader; 3] = [
        Box::new(|_| ()),
        // A touch is due, and finds no session.
        Box::new(move |_| time.advance(Duration::from_secs(120))),
        // The second of two logouts loses nothing.
        Box::new(|session| session.destroy().unwrap()),
    ];
    for reader in readers.map(Arc::new) {
        let alive = rig.session_with(1).await;
        let site = site_with_a_logout_between(&rig, &alive, move |session| reader(session));
        let response = ask(&site.layer(SessionLayer::new(rig.manager.clone())), "/", &alive).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec!["theme=dark"]));
        assert_eq!(text(response).await, "done");
    }
}

#[tokio::test]
async fn on_ended_may_return_the_handlers_response() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let site = site_with_a_logout_between(&rig, &alive, |session| session.set("n", 2).unwrap());
    let layer = SessionLayer::new(rig.manager.clone()).on_ended(|mut response: Response| {
        response.headers_mut().insert("x-ended", "yes".parse().unwrap());
        response
    });
    let response = ask(&site.layer(layer), "/", &alive).await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec!["theme=dark"]));
    assert_eq!(joined(response.headers(), "x-ended"), "yes");
    assert_eq!(text(response).await, "done");
    assert_eq!(rig.count().await, 0);
}

#[tokio::test]
async fn a_saved_session_that_ended_sets_no_cookie() {
    let rig = Rig::new();
    for lost_write in [false, true] {
        let store = rig.store.clone();
        let handler = async move |session: Session| {
            session.set("n", 1).unwrap();
            session.save().await.unwrap();
            let elsewhere = store.session(&session.id().unwrap()).await.unwrap().unwrap();
            elsewhere.destroy().unwrap();
            elsewhere.save().await.unwrap();
            if lost_write {
                session.set("n", 2).unwrap();
            } else {
                // The session has ended already, so this loses nothing.
                session.destroy().unwrap();
            }
        };
        let layer = SessionLayer::new(rig.manager.clone()).on_ended(|response: Response| response);
        let response = ask(&Router::new().route("/", get(handler)).layer(layer), "/", "").await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec![]));
        assert_eq!(rig.count().await, 0);
    }
}

#[tokio::test]
async fn on_error_makes_the_response_of_a_failed_commit() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    let layer = SessionLayer::new(rig.manager.clone()).on_error(move |error: &Error| {
        *told.lock().unwrap() = Some(error.kind());
        let body = Body::from("please try again");
        Response::builder().status(error.status()).header("cache-control", "max-age=60").body(body).unwrap()
    });
    let site = Router::new().route("/", get(set)).layer(layer);
    rig.faults.set(Call::Update, Fault::Fail);
    let response = ask(&site, "/", &alive).await;
    assert_eq!(*seen.lock().unwrap(), Some(ErrorKind::Unavailable));
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]));
    assert_eq!(joined(response.headers(), "cache-control"), "max-age=60, no-store");
    assert_eq!(joined(response.headers(), "vary"), "Cookie");
    assert_eq!(text(response).await, "please try again");
}

#[tokio::test]
async fn a_failed_commit_still_sends_an_id_that_was_saved() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let handler = async |session: Session| {
        session.authenticate(alice()).unwrap();
        session.save().await.unwrap();
        session.set("n", 2).unwrap();
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Update, Fault::Fail);
    let response = ask(&site, "/", &alive).await;
    assert_eq!(response.status(), 503);
    let renewed = pair(response.headers()).expect("the old id has ended, so the client needs the new one");
    assert!(!rig.alive(&alive).await);
    assert_eq!(rig.stored(&renewed).await, Some(1));
}
