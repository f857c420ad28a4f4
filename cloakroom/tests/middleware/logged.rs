//! The log of errors that become responses: one line each, at a level that strangers cannot abuse.

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use cloakroom::{
    CsrfLayer, CsrfToken, Error, Level, Manager, MemoryProvider, Session, SessionLayer, Visit,
    config::OverLimit,
};
use http::{Request, StatusCode};

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::log::Log;
use crate::support::{Rig, alice, ask, cookies, send, text};

/// Returns level and text of the log's lines, without events.
fn lines(log: &Log) -> Vec<(String, String)> {
    let text = log.text();
    let lines = text.lines().filter(|line| !line.contains("cloakroom::event: "));
    let told = lines.map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next().unwrap().to_owned(), words.collect::<Vec<_>>().join(" "))
    });
    told.collect()
}

/// Checks that the log has one line, with this level and this text in it.
#[track_caller]
fn assert_logged(log: &Log, level: &str, expected: &str) {
    let lines = lines(log);
    let [(found, line)] = &lines[..] else { panic!("expected one line with {expected:?}: {lines:?}") };
    assert_eq!(found, level, "{line}");
    assert!(line.contains(expected), "{line}");
}

async fn update(session: Session) -> cloakroom::Result<()> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_layer_is_logged_with_its_remedy() {
    let log = Log::start();
    let site = Router::new().route("/", get(async |_: Session| "never"));
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_logged(&log, "ERROR", "add .layer(SessionLayer::new(manager)) to its router");
}

#[tokio::test]
async fn a_rejection_that_the_application_handles_is_logged() {
    let log = Log::start();
    let own = async |session: Result<Session, Error>| match session {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::IM_A_TEAPOT,
    };
    let site = Router::new().route("/", get(own));
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::IM_A_TEAPOT);
    assert_logged(&log, "ERROR", "add .layer(SessionLayer::new(manager))");
}

#[tokio::test]
async fn a_csrf_layer_without_a_session_layer_is_logged() {
    let log = Log::start();
    let site = Router::new().route("/", post(async || "never")).layer(CsrfLayer::new());
    let response = send(&site, Request::post("/").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_logged(&log, "ERROR", "add .layer(SessionLayer::new(manager))");
}

#[tokio::test]
async fn an_error_returned_by_a_handler_is_logged_once() {
    let log = Log::start();
    let rig = Rig::new();
    let site = Router::new().route("/", get(update)).layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Create, Fault::Fail);
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_logged(&log, "ERROR", "the session store is unavailable: redis://");
}

#[tokio::test]
async fn a_failed_load_is_logged_once() {
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    let site = Router::new()
        .route("/", get(async |_: Session| "never"))
        .route("/token", get(async |_: CsrfToken| "never"))
        .layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Load, Fault::Fail);
    for path in ["/", "/token"] {
        let log = Log::start();
        assert_eq!(ask(&site, path, &cookie).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_logged(&log, "ERROR", "the session store is unavailable");
    }
}

#[tokio::test]
async fn a_failed_commit_is_logged_once() {
    let log = Log::start();
    let rig = Rig::new();
    let set = async |session: Session| session.set("n", 2).unwrap();
    let site = Router::new().route("/", get(set)).layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Create, Fault::Fail);
    assert_eq!(ask(&site, "/", "").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_logged(&log, "ERROR", "a session could not be committed");
}

#[tokio::test]
async fn a_refused_commit_is_logged_and_has_a_body() {
    let log = Log::start();
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    let (store, former) = (rig.store.clone(), cookie.clone());
    let handler = async move |session: Session| {
        session.set("n", 2).unwrap();
        let _ = store.destroy(&cookies(&former), &mut Default::default()).await.unwrap();
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    let response = ask(&site, "/", &cookie).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(text(response).await.starts_with("Your session has ended"));
    assert_logged(&log, "INFO", "a commit was refused");
}

#[tokio::test]
async fn an_error_that_strangers_can_cause_is_no_warning() {
    let set = async |session: Session| session.set("n", 2).unwrap();
    let login = async |session: Session| session.authenticate(alice()).unwrap();
    let level = async |session: Session| session.require_level(Level::new(2));
    let site = |manager: &Manager| {
        Router::new()
            .route("/set", get(set).post(set))
            .route("/login", get(login))
            .route("/level", get(level))
            .layer(CsrfLayer::new())
            .layer(SessionLayer::new(manager.clone()))
    };
    let builder = || Manager::builder(MemoryProvider::new());
    let throttled = site(&builder().admit(|_: &Visit| false).build().unwrap());
    let full = site(&builder().session_quota(0).build().unwrap());
    let one = std::num::NonZeroUsize::MIN;
    let crowded = site(&builder().sessions_per_user(one, OverLimit::Refuse).build().unwrap());
    assert_eq!(ask(&crowded, "/login", "").await.status(), StatusCode::OK);
    for (site, path, status, expected) in [
        (&throttled, "/set", 429, "INFO"),
        (&full, "/set", 503, "INFO"),
        (&crowded, "/login", 403, "INFO"),
        (&crowded, "/level", 401, "DEBUG"),
    ] {
        let log = Log::start();
        let response = ask(site, path, "").await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(text(response).await.is_empty(), status == 503, "{path}");
        assert_logged(&log, expected, "");
    }
    let log = Log::start();
    let forged = Request::post("/set").header("sec-fetch-site", "cross-site").body(Body::empty()).unwrap();
    assert_eq!(send(&throttled, forged).await.status(), StatusCode::FORBIDDEN);
    assert_logged(&log, "INFO", "a request was refused");
}

#[tokio::test]
async fn unknown_ids_cause_no_warning() {
    let log = Log::start();
    let rig = Rig::new();
    let site =
        Router::new().route("/", get(async |_: Session| "")).layer(SessionLayer::new(rig.manager.clone()));
    let id = |letter: &str| format!("__Host-id={}", letter.repeat(43));
    let five: Vec<_> = ["A", "Q", "g", "w", "4"].map(id).into();
    for cookie in [&*five.join("; "), &five[0], "__Host-id=x"] {
        assert_eq!(ask(&site, "/", cookie).await.status(), StatusCode::OK);
    }
    let text = log.text();
    assert!(text.contains("duplicate") && text.contains("unknown_id"), "{text}");
    assert!(!text.contains("WARN") && !text.contains("ERROR"), "{text}");
}

#[tokio::test]
async fn an_error_made_into_a_response_is_logged_once() {
    let log = Log::start();
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    // The rejection becomes the response of another layer.
    let handler = async |session: Result<Session, Error>| match session {
        Ok(_) => "never".into_response(),
        Err(error) => error.into_response(),
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    rig.faults.set(Call::Load, Fault::Fail);
    assert_eq!(ask(&site, "/", &cookie).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_logged(&log, "ERROR", "the session store is unavailable");
}
