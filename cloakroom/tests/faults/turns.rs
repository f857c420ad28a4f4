//! The calls on one session wait for one another, in their order, and no longer than the deadline.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use cloakroom::{ErrorKind, Released, Session, SessionLayer, session::SessionHandle};
use http::HeaderMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, ask, cookies};

/// Returns a session whose store hangs in an update, and the task that waits for it.
async fn parked(rig: &Rig) -> (Session, tokio::task::JoinHandle<cloakroom::Result<u32>>) {
    let alive = rig.session_with(1).await;
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    rig.faults.set(Call::Update, Fault::Hang);
    let parked = session.clone();
    let task =
        tokio::spawn(async move { parked.update("hits", |hits: Option<u32>| hits.unwrap_or(0) + 1).await });
    while !rig.faults.calls().contains(&Call::Update) {
        tokio::task::yield_now().await;
    }
    (session, task)
}

#[tokio::test(start_paused = true)]
async fn waiting_for_another_call_has_the_deadline() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    // A caller that is not polled keeps its turn, for example in a `select!`.
    rig.faults.set(Call::Update, Fault::Hang);
    let mut parked = Box::pin(session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1));
    while !rig.faults.calls().contains(&Call::Update) {
        let polled = poll_fn(|context| Poll::Ready(parked.as_mut().poll(context).is_pending()));
        assert!(polled.await);
        tokio::task::yield_now().await;
    }
    session.set("m", 1).unwrap();
    for call in ["save", "reload", "update", "release"] {
        let start = Instant::now();
        let failed = match call {
            "save" => session.save().await.err(),
            "reload" => session.reload().await.err(),
            "update" => session.update("k", |_: Option<u32>| 1).await.err(),
            _ => session.release(&mut HeaderMap::new()).await.err(),
        };
        let waited = start.elapsed();
        assert!(waited <= Duration::from_millis(2_100), "{call} waited {waited:?}");
        assert_eq!(failed.map(|error| error.kind()), Some(ErrorKind::Timeout), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_blocks_no_other_call() {
    let rig = Rig::new();
    let (session, task) = parked(&rig).await;
    let waiting = session.clone();
    let waiter = tokio::spawn(async move { waiting.reload().await });
    tokio::task::yield_now().await;
    waiter.abort();
    task.abort();
    let _ = (waiter.await, task.await);
    rig.faults.heal();
    assert!(session.reload().await.unwrap());
    session.set("m", 1).unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Saved);
}

#[tokio::test]
async fn a_release_gets_its_turn_during_a_loop_of_updates() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    session.update("hits", |hits: Option<u32>| hits.unwrap_or(0) + 1).await.unwrap();
    let looping = session.clone();
    let updates = tokio::spawn(async move {
        let mut updates = 0_u32;
        while looping.update("hits", |hits: Option<u32>| hits.unwrap_or(0) + 1).await.is_ok() {
            updates += 1;
        }
        updates
    });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    session.set("m", 1).unwrap();
    rig.faults.calls();
    let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    let before = rig.faults.calls().into_iter().filter(|call| *call == Call::Update).count();
    assert!(before <= 4, "{before} updates went before the release");
    updates.await.unwrap();
}

/// Makes a request whose handler gives the session's handle to a task. The task loads the session after the response
/// has left, or begins before. Returns the result of the load.
async fn loaded_late(rig: &Rig, cookie: &str, begin_before: bool) -> cloakroom::Result<Session> {
    let (go, late) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
    let (told, task) = (Arc::clone(&go), Arc::clone(&late));
    let handler = async move |handle: Extension<SessionHandle>| {
        *task.lock().unwrap() = Some(tokio::spawn(async move {
            if !begin_before {
                told.notified().await;
            }
            handle.load().await
        }));
        tokio::task::yield_now().await;
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(rig.manager.clone()));
    assert_eq!(ask(&site, "/", cookie).await.status(), 200);
    go.notify_one();
    let task = late.lock().unwrap().take().unwrap();
    task.await.unwrap()
}

#[tokio::test]
async fn a_load_after_the_response_has_left_is_an_error() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    let error = loaded_late(&rig, &alive, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Released, "the load began after the response");
    rig.faults.set(Call::Load, Fault::Slow(Duration::from_millis(20)));
    let error = loaded_late(&rig, &alive, true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Released, "the load was under way");
}
