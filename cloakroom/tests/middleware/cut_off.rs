//! Handlers that are cut off by a layer inside the session layer, which answers in their place.

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

/// As tower-http's `TimeoutLayer` does it.
async fn with_a_timeout(request: Request, next: Next) -> Response {
    match tokio::time::timeout(Duration::from_millis(20), next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// As tower-http's `CatchPanicLayer` does it, with an answer of its own.
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
async fn a_handler_cut_off_with_408_commits_nothing() {
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
async fn what_was_saved_before_a_408_still_reaches_the_client() {
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
async fn a_panic_that_is_answered_200_commits_nothing() {
    let by_hand = async |session: Session| {
        session.set("n", 2).unwrap();
        session.authenticate(alice()).unwrap();
        give_way(1).await;
        if session.id().is_some() || session.principal().is_some() {
            panic!("the handler panics, as it was asked to");
        }
    };
    let typed = async |mut cart: Typed<Cart>| {
        cart.items = 3;
        cart.save().unwrap();
        give_way(1).await;
        if cart.items == 3 {
            panic!("the handler panics, as it was asked to");
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
async fn a_message_that_a_panicking_handler_took_is_put_back() {
    let rig = Rig::new();
    let handler = async |session: Session| {
        assert_eq!(session.take_flashes::<String>().await.unwrap().len(), 1);
        if session.id().is_some() {
            panic!("the handler panics, as it was asked to");
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
async fn what_follows_a_caught_panic_is_committed() {
    let rig = Rig::new();
    let count = async |session: Session, request: Request, next: Next| {
        let response = next.run(request).await;
        session.set("failures", 1).unwrap();
        response
    };
    let handler = async |session: Session| {
        session.set("n", 2).unwrap();
        if session.id().is_none() {
            panic!("the handler panics, as it was asked to");
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
async fn the_panic_of_another_task_undoes_nothing() {
    let rig = Rig::new();
    let handler = async |session: Session| {
        session.set("n", 2).unwrap();
        let clone = session.clone();
        let task = tokio::spawn(async move {
            let _clone = clone;
            panic!("the task panics, as it was asked to");
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
