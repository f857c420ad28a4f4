//! Handlers that a layer inside the session layer stops, and responds for.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cloakroom::{Session, SessionData, SessionLayer, Typed};
use futures_util::FutureExt;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::support::hooked::{Call, give_way};
use crate::support::{Rig, alice, ask, pair, set_cookies};

/// Responds with 408 after a timeout, as tower-http's `TimeoutLayer` does.
async fn with_a_timeout(request: Request, next: Next) -> Response {
    match tokio::time::timeout(Duration::from_millis(20), next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Responds with 200 after a panic, as tower-http's `CatchPanicLayer` can.
async fn catching_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => (StatusCode::OK, "Something went wrong.").into_response(),
    }
}

async fn login_and_wait(session: Session) {
    session.set("n", 2).unwrap();
    session.authenticate(alice()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_handler_stopped_with_408_commits_nothing() {
    for commit_on_server_error in [false, true] {
        let rig = Rig::with(|builder| builder.commit_on_server_error(commit_on_server_error));
        let site = Router::new()
            .route("/", get(login_and_wait))
            .layer(from_fn(with_a_timeout))
            .layer(SessionLayer::new(rig.manager.clone()));
        let alive = rig.session_with(1).await;
        for cookie in [&*alive, ""] {
            let response = ask(&site, "/", cookie).await;
            assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (408, vec![]));
        }
        assert_eq!(rig.faults.calls(), [Call::Load], "nothing was written");
        assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
    }
}

#[tokio::test]
async fn a_session_saved_before_a_408_sends_its_cookie() {
    let rig = Rig::new();
    let handler = async |session: Session| {
        session.set("n", 2).unwrap();
        session.save().await.unwrap();
        session.set("n", 3).unwrap();
        std::future::pending::<()>().await;
    };
    let site = Router::new()
        .route("/", get(handler))
        .layer(from_fn(with_a_timeout))
        .layer(SessionLayer::new(rig.manager.clone()));
    let response = ask(&site, "/", "").await;
    assert_eq!(rig.stored(&pair(response.headers()).unwrap()).await, Some(2));
}

#[derive(Default, Serialize, Deserialize)]
struct Cart {
    items: u32,
}

impl SessionData for Cart {
    const KEY: &'static str = "cart";
}

#[tokio::test]
async fn a_caught_panic_with_a_200_commits_nothing() {
    let by_hand = async |session: Session| {
        session.set("n", 2).unwrap();
        session.authenticate(alice()).unwrap();
        give_way(1).await;
        if session.id().is_some() || session.principal().is_some() {
            panic!("an injected panic of the handler");
        }
    };
    let typed = async |mut cart: Typed<Cart>| {
        cart.items = 3;
        cart.save().unwrap();
        give_way(1).await;
        if cart.items == 3 {
            panic!("an injected panic of the handler");
        }
    };
    for commit_on_server_error in [false, true] {
        let rig = Rig::with(|builder| builder.commit_on_server_error(commit_on_server_error));
        let site = Router::new()
            .route("/", get(by_hand))
            .route("/typed", get(typed))
            .layer(from_fn(catching_panics))
            .layer(SessionLayer::new(rig.manager.clone()));
        let alive = rig.session_with(1).await;
        for path in ["/", "/typed"] {
            for cookie in [&*alive, ""] {
                let response = ask(&site, path, cookie).await;
                assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (200, vec![]));
            }
        }
        assert_eq!(rig.faults.calls(), [Call::Load, Call::Load], "nothing was written");
        assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
    }
}

#[tokio::test]
async fn a_message_taken_before_a_panic_is_put_back() {
    let rig = Rig::new();
    let handler = async |session: Session| {
        assert_eq!(session.take_flashes::<String>().await.unwrap().len(), 1);
        if session.id().is_some() {
            panic!("an injected panic of the handler");
        }
    };
    let site = Router::new()
        .route("/", get(handler))
        .layer(from_fn(catching_panics))
        .layer(SessionLayer::new(rig.manager.clone()));
    let session = rig.store.start(&http::HeaderMap::new()).await.unwrap();
    session.flash("info", "saved").unwrap();
    let mut headers = http::HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    let cookie = pair(&headers).unwrap();
    assert_eq!(ask(&site, "/", &cookie).await.status(), StatusCode::OK);
    give_way(50).await;
    let session = rig.store.start(&crate::support::cookies(&cookie)).await.unwrap();
    assert_eq!(session.take_flashes::<String>().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_after_a_caught_panic_is_committed() {
    let rig = Rig::new();
    let count = async |session: Session, request: Request, next: Next| {
        let response = next.run(request).await;
        session.set("failures", 1).unwrap();
        response
    };
    let handler = async |session: Session| {
        session.set("n", 2).unwrap();
        if session.id().is_none() {
            panic!("an injected panic of the handler");
        }
    };
    let site = Router::new()
        .route("/", get(handler))
        .layer(from_fn(catching_panics))
        .layer(from_fn(count))
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = pair(ask(&site, "/", "").await.headers()).unwrap();
    let session = rig.store.start(&crate::support::cookies(&cookie)).await.unwrap();
    assert_eq!((session.get::<u64>("n").unwrap(), session.get::<u64>("failures").unwrap()), (None, Some(1)));
}

#[tokio::test]
async fn a_panic_of_another_task_discards_nothing() {
    let rig = Rig::new();
    let handler = async |session: Session| {
        session.set("n", 2).unwrap();
        let clone = session.clone();
        let task = tokio::spawn(async move {
            let _clone = clone;
            panic!("an injected panic of the task");
        });
        assert!(task.await.unwrap_err().is_panic());
        Ok::<_, Infallible>(())
    };
    let site = Router::new()
        .route("/", get(async move |session: Session| handler(session).await.unwrap()))
        .layer(SessionLayer::new(rig.manager.clone()));
    let cookie = pair(ask(&site, "/", "").await.headers()).unwrap();
    assert_eq!(rig.stored(&cookie).await, Some(2));
}
