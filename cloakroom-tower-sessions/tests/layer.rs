//! `SessionManagerLayer` of tower-sessions 0.14 and 0.15 around an axum application, on every kind of store.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// The place where slow handlers wait: between their load and their save.
#[derive(Clone)]
struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Gate {
        Gate { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.unwrap().forget();
    }

    /// Waits until another handler stands at the gate.
    async fn wait_for_one(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    fn let_one_pass(&self) {
        self.open.add_permits(1);
    }
}

/// Sends a request with a cookie, and returns the status, the cookie that is set and the body.
async fn get(app: &Router, path: &str, cookie: &str) -> (StatusCode, Option<String>, String) {
    let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, cookie) = (response.status(), set_cookie(&response));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, cookie, String::from_utf8(body.to_vec()).unwrap())
}

fn set_cookie(response: &Response<Body>) -> Option<String> {
    let header = response.headers().get(header::SET_COOKIE)?.to_str().unwrap();
    Some(header.split(';').next().unwrap().to_owned())
}

/// The application and its tests, with one release of tower-sessions.
macro_rules! with_release {
    ($release:ident, $tower_sessions:ident) => {
        mod $release {
            use axum::Router;
            use axum::http::StatusCode;
            use axum::routing::get as on_get;
            use cloakroom::Provider;
            use cloakroom_tower_sessions::CloakroomStore;
            use time::Duration;
            use $tower_sessions::{Expiry, Session, SessionManagerLayer};

            use super::{Gate, get};
            use crate::support::{Opened, on_every_store};

            on_every_store!(
                a_counter_counts_across_requests,
                of_two_requests_that_change_the_session_one_wins,
                of_two_processes_that_change_the_session_one_wins,
                a_logout_during_a_request_is_final,
                a_handler_that_saves_itself_learns_of_the_conflict,
                requests_that_change_nothing_are_no_conflict,
            );

            fn app(store: CloakroomStore, gate: &Gate, always_save: bool) -> Router {
                let (slow, unchanged, saving) = (gate.clone(), gate.clone(), gate.clone());
                let layer = SessionManagerLayer::new(store)
                    .with_expiry(Expiry::OnInactivity(Duration::HOUR))
                    .with_always_save(always_save);
                Router::new()
                    .route("/", on_get(count))
                    .route("/slow", on_get(async move |session: Session| slowly(session, &slow).await))
                    .route(
                        "/unchanged",
                        on_get(async move |session: Session| read(session, &unchanged).await),
                    )
                    .route("/saving", on_get(async move |session: Session| save(session, &saving).await))
                    .route("/new-id", on_get(async |session: Session| session.cycle_id().await.unwrap()))
                    .route("/logout", on_get(async |session: Session| session.flush().await.unwrap()))
                    .layer(layer)
            }

            async fn count(session: Session) -> String {
                let n: u32 = session.get("n").await.unwrap().unwrap_or(0) + 1;
                session.insert("n", n).await.unwrap();
                n.to_string()
            }

            async fn slowly(session: Session, gate: &Gate) {
                let n: u32 = session.get("slow").await.unwrap().unwrap_or(0) + 1;
                gate.pass().await;
                session.insert("slow", n).await.unwrap();
            }

            async fn read(session: Session, gate: &Gate) {
                let _loaded: Option<u32> = session.get("n").await.unwrap();
                gate.pass().await;
            }

            async fn save(session: Session, gate: &Gate) -> StatusCode {
                slowly(session.clone(), gate).await;
                match session.save().await {
                    Ok(()) => StatusCode::OK,
                    // With a server's error the layer does not save again.
                    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
                }
            }

            async fn a_counter_counts_across_requests(opened: Opened) {
                let app = app(CloakroomStore::new(opened.provider.clone()), &Gate::new(), false);
                let (status, cookie, body) = get(&app, "/", "").await;
                let cookie = cookie.unwrap();
                assert_eq!((status, body.as_str()), (StatusCode::OK, "1"));
                for n in 2..5 {
                    assert_eq!(get(&app, "/", &cookie).await.2, n.to_string());
                }
                let (_, new, _) = get(&app, "/new-id", &cookie).await;
                let new = new.unwrap();
                assert_ne!(new, cookie);
                assert_eq!(get(&app, "/", &new).await.2, "5");
                assert_eq!(get(&app, "/", &cookie).await.2, "1", "the old id leads to no session");
                let (_, removed, _) = get(&app, "/logout", &new).await;
                assert_eq!(removed.unwrap(), "id=");
                assert_eq!(get(&app, "/", &new).await.2, "1");
                assert_eq!(opened.provider.count().await.unwrap(), 2);
            }

            async fn of_two_requests_that_change_the_session_one_wins(opened: Opened) {
                let gate = Gate::new();
                let app = app(CloakroomStore::new(opened.provider), &gate, false);
                one_wins(&app, &app, &gate).await;
            }

            async fn of_two_processes_that_change_the_session_one_wins(opened: Opened) {
                let gate = Gate::new();
                let here = app(CloakroomStore::new(opened.provider), &gate, false);
                let there = app(CloakroomStore::new(opened.another), &gate, false);
                one_wins(&here, &there, &gate).await;
            }

            async fn one_wins(here: &Router, there: &Router, gate: &Gate) {
                let cookie = get(here, "/", "").await.1.unwrap();
                let meanwhile = async {
                    gate.wait_for_one().await;
                    assert_eq!(get(here, "/", &cookie).await.0, StatusCode::OK);
                    gate.let_one_pass();
                };
                let (slow, ()) = tokio::join!(get(there, "/slow", &cookie), meanwhile);
                // The cookie stays, and the body is empty.
                assert_eq!(slow, (StatusCode::INTERNAL_SERVER_ERROR, None, String::new()));
                assert_eq!(get(here, "/", &cookie).await.2, "3");
            }

            async fn a_logout_during_a_request_is_final(opened: Opened) {
                let gate = Gate::new();
                let app = app(CloakroomStore::new(opened.provider.clone()), &gate, false);
                let cookie = get(&app, "/", "").await.1.unwrap();
                let logout = async {
                    gate.wait_for_one().await;
                    get(&app, "/logout", &cookie).await;
                    gate.let_one_pass();
                };
                let (slow, ()) = tokio::join!(get(&app, "/slow", &cookie), logout);
                assert_eq!(slow, (StatusCode::INTERNAL_SERVER_ERROR, None, String::new()));
                assert_eq!(opened.provider.count().await.unwrap(), 0);
                assert_eq!(get(&app, "/", &cookie).await.2, "1");
            }

            async fn a_handler_that_saves_itself_learns_of_the_conflict(opened: Opened) {
                let gate = Gate::new();
                let app = app(CloakroomStore::new(opened.provider), &gate, false);
                let cookie = get(&app, "/", "").await.1.unwrap();
                let alone = async {
                    gate.wait_for_one().await;
                    gate.let_one_pass();
                };
                let (saved, ()) = tokio::join!(get(&app, "/saving", &cookie), alone);
                assert_eq!(saved.0, StatusCode::OK, "the layer saves once more after the handler");
                let meanwhile = async {
                    gate.wait_for_one().await;
                    get(&app, "/", &cookie).await;
                    gate.let_one_pass();
                };
                let (refused, ()) = tokio::join!(get(&app, "/saving", &cookie), meanwhile);
                assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
            }

            async fn requests_that_change_nothing_are_no_conflict(opened: Opened) {
                let gate = Gate::new();
                let app = app(CloakroomStore::new(opened.provider), &gate, true);
                let cookie = get(&app, "/", "").await.1.unwrap();
                let meanwhile = async {
                    gate.wait_for_one().await;
                    gate.wait_for_one().await;
                    assert_eq!(get(&app, "/", &cookie).await.2, "2");
                    gate.let_one_pass();
                    gate.let_one_pass();
                };
                let (one, other, ()) = tokio::join!(
                    get(&app, "/unchanged", &cookie),
                    get(&app, "/unchanged", &cookie),
                    meanwhile
                );
                assert_eq!((one.0, other.0), (StatusCode::OK, StatusCode::OK));
                assert_eq!(get(&app, "/", &cookie).await.2, "3");
            }
        }
    };
}

with_release!(tower_sessions_14, tower_sessions_0_14);
with_release!(tower_sessions_15, tower_sessions);
