//! Flash messages: each is kept until exactly one request has delivered it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cloakroom::{
    ErrorKind, Manager, MemoryProvider, Session, SessionLayer,
    config::Codec,
    session::{Flash, SessionHandle},
};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use support::faulty::Fault;
use support::hooked::Call;
use support::{Rig, alice, ask, cookies, pair, text};

fn shown(flashes: &[Flash]) -> Vec<(&str, &str)> {
    flashes.iter().map(|flash| (flash.name.as_str(), flash.message.as_str())).collect()
}

async fn start(manager: &Manager, cookie: &str) -> Session {
    manager.start(&cookies(cookie)).await.unwrap()
}

async fn take(session: &Session) -> Vec<Flash> {
    session.take_flashes::<String>().await.unwrap()
}

/// Returns the messages that the next page would show.
async fn waiting(manager: &Manager, cookie: &str) -> Vec<String> {
    let session = start(manager, cookie).await;
    let taken = take(&session).await.into_iter().map(|flash| flash.message).collect();
    let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    taken
}

/// Stores a session with `messages` and returns its cookie.
async fn left(rig: &Rig, messages: &[&str]) -> String {
    let session = rig.store.start(&HeaderMap::new()).await.unwrap();
    for message in messages {
        session.flash("info", message).unwrap();
    }
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    pair(&headers).unwrap()
}

/// Lets spawned tasks run until `done` returns true.
async fn until<F: Future<Output = bool>>(done: impl Fn() -> F) {
    let all = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
}

#[tokio::test]
async fn messages_are_taken_once_in_their_order() {
    for codec in [Codec::MESSAGE_PACK, Codec::JSON] {
        let rig = Rig::with(|builder| builder.codec(codec));
        let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
        session.flash("success", "Saved.").unwrap();
        session.flash("a-warning", "Nearly full.").unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        let cookie = pair(&headers).unwrap();

        let next = start(&rig.manager, &cookie).await;
        assert!(next.is_empty().unwrap() && next.keys().unwrap().is_empty(), "the application sees no key");
        let taken = take(&next).await;
        assert_eq!(format!("{taken:?}"), "[Flash { .. }, Flash { .. }]", "Debug shows no message");
        assert_eq!(shown(&taken), [("success", "Saved."), ("a-warning", "Nearly full.")]);
        assert_eq!(take(&next).await, []);
        let _ = next.release(&mut HeaderMap::new()).await.unwrap();
        assert!(waiting(&rig.manager, &cookie).await.is_empty());
    }
}

#[tokio::test]
async fn a_page_without_messages_makes_no_store_call() {
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    let session = start(&rig.manager, &cookie).await;
    rig.faults.calls();
    assert_eq!(take(&session).await, []);
    assert_eq!(session.take_flashes_of::<String>("info").await.unwrap(), [""; 0]);
    assert_eq!(rig.faults.calls(), []);
}

#[tokio::test]
async fn messages_of_concurrent_requests_are_all_stored() {
    let rig = Rig::new();
    let cookie = rig.session_with(1).await;
    let requests: Vec<_> = futures(8, |n| {
        let (manager, cookie) = (rig.manager.clone(), cookie.clone());
        async move {
            let session = start(&manager, &cookie).await;
            session.flash("info", n.to_string()).unwrap();
            let _ = session.release(&mut HeaderMap::new()).await.unwrap();
        }
    });
    for request in requests {
        request.await.unwrap();
    }
    let mut all = waiting(&rig.manager, &cookie).await;
    all.sort_unstable();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(rig.stored(&cookie).await, Some(1));
}

fn futures<F: Future<Output = T> + Send + 'static, T: Send + 'static>(
    count: usize,
    request: impl Fn(usize) -> F,
) -> Vec<tokio::task::JoinHandle<T>> {
    (0..count).map(|n| tokio::spawn(request(n))).collect()
}

#[tokio::test]
async fn each_message_goes_to_one_of_many_readers() {
    for round in 0..20 {
        let rig = Rig::new();
        rig.faults.pause(round % 4);
        let cookie = left(&rig, &["one", "two", "three"]).await;
        let readers = futures(8, |_| {
            let (manager, cookie) = (rig.manager.clone(), cookie.clone());
            async move { waiting(&manager, &cookie).await }
        });
        let mut all = Vec::new();
        for reader in readers {
            all.extend(reader.await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, ["one", "three", "two"], "each message once");
    }
}

#[tokio::test]
async fn a_request_can_take_its_own_message_unstored() {
    let rig = Rig::new();
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    session.flash("error", "No such user.").unwrap();
    assert_eq!(shown(&take(&session).await), [("error", "No such user.")]);
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    assert_eq!((rig.count().await, pair(&headers)), (0, None), "no record and no cookie");
}

#[tokio::test]
async fn messages_survive_a_login_but_no_clear_or_logout() {
    let rig = Rig::new();
    let after = async |change: fn(&Session)| {
        let cookie = left(&rig, &["before"]).await;
        let session = start(&rig.manager, &cookie).await;
        change(&session);
        session.flash("info", "after").unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        waiting(&rig.manager, &pair(&headers).unwrap_or(cookie)).await
    };
    assert_eq!(after(|session| session.authenticate(alice()).unwrap()).await, ["before", "after"]);
    assert_eq!(after(|session| session.clear().unwrap()).await, ["after"]);
    assert_eq!(
        after(|session| session.destroy().unwrap()).await,
        ["after"],
        "the message of the new session"
    );
}

#[tokio::test]
async fn messages_of_another_type_stay() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Notice {
        title: String,
        urgent: bool,
    }

    let rig = Rig::new();
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    session.flash("notice", Notice { title: "Hello".into(), urgent: true }).unwrap();
    session.flash("info", "plain").unwrap();
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    let session = start(&rig.manager, &pair(&headers).unwrap()).await;
    assert_eq!(session.take_flashes_of::<String>("notice").await.unwrap(), [""; 0]);
    assert_eq!(shown(&take(&session).await), [("info", "plain")]);
    let notices = session.take_flashes_of::<Notice>("notice").await.unwrap();
    assert_eq!(notices, [Notice { title: "Hello".into(), urgent: true }]);
}

#[tokio::test]
async fn the_newest_32_messages_are_kept() {
    let rig = Rig::new();
    let mut cookie = rig.session_with(1).await;
    for n in 0..40 {
        let session = start(&rig.manager, &cookie).await;
        session.flash("info", n.to_string()).unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        cookie = pair(&headers).unwrap_or(cookie);
    }
    let expected: Vec<_> = (8..40).map(|n| n.to_string()).collect();
    assert_eq!(waiting(&rig.manager, &cookie).await, expected);
}

/// A site whose handlers take the messages and then do what their path says.
fn site(manager: &Manager) -> Router {
    let show = async |session: Session| join(take(&session).await);
    let fail = async |session: Session| (StatusCode::BAD_GATEWAY, join(take(&session).await));
    let panic = async |session: Session| {
        take(&session).await;
        if true {
            panic!("an injected panic of the handler");
        }
    };
    let hang = async |session: Session| {
        take(&session).await;
        std::future::pending::<()>().await;
    };
    let change = async |session: Session| {
        session.set("n", 2).unwrap();
        join(take(&session).await)
    };
    Router::new()
        .route("/show", get(show))
        .route("/fail", get(fail))
        .route("/panic", get(panic))
        .route("/hang", get(hang))
        .route("/change", get(change))
        .layer(SessionLayer::new(manager.clone()))
}

fn join(flashes: Vec<Flash>) -> String {
    flashes.into_iter().map(|flash| flash.message).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn messages_of_a_failed_handler_are_shown_later() {
    for path in ["/fail", "/panic", "/hang"] {
        let rig = Rig::new();
        let cookie = left(&rig, &["one", "two"]).await;
        let site = site(&rig.manager);
        let (asked, brought) = (site.clone(), cookie.clone());
        let request = tokio::spawn(async move { ask(&asked, path, &brought).await.status() });
        match path {
            "/fail" => assert_eq!(request.await.unwrap(), StatusCode::BAD_GATEWAY),
            "/panic" => assert!(request.await.unwrap_err().is_panic()),
            _ => {
                let taken = async || rig.faults.calls().contains(&Call::Update);
                until(taken).await;
                // The update has begun. Let its answer arrive, so that the handler hangs with the messages.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                request.abort();
                assert!(request.await.unwrap_err().is_cancelled());
            }
        }
        // The messages are put back in the background. The update has begun, so let its answer arrive.
        until(async || rig.faults.calls().contains(&Call::Update)).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(text(ask(&site, "/show", &cookie).await).await, "one two", "after {path}");
        assert_eq!(text(ask(&site, "/show", &cookie).await).await, "", "after {path} and one that showed it");
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(waiting(&rig.store, &cookie).await.is_empty(), "shown messages are not put back");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_put_back_after_a_failed_commit() {
    let rig = Rig::new();
    let cookie = left(&rig, &["one"]).await;
    let session = start(&rig.manager, &cookie).await;
    assert_eq!(shown(&take(&session).await), [("info", "one")]);
    session.set("n", 2).unwrap();
    rig.faults.set(Call::Update, Fault::Fail);
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    rig.faults.heal();
    drop(session);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting(&rig.store, &cookie).await, ["one"]);
}

#[tokio::test]
async fn messages_are_not_put_back_after_a_save() {
    let rig = Rig::new();
    for detached in [false, true] {
        let cookie = left(&rig, &["one"]).await;
        let session = start(&rig.manager, &cookie).await;
        let session = if detached {
            rig.manager.session(&session.id().unwrap()).await.unwrap().unwrap()
        } else {
            session
        };
        assert_eq!(shown(&take(&session).await), [("info", "one")]);
        if !detached {
            session.save().await.unwrap();
        }
        drop(session);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(waiting(&rig.store, &cookie).await.is_empty());
    }
}

#[tokio::test]
async fn a_session_that_ended_has_no_messages() {
    let rig = Rig::new();
    let cookie = left(&rig, &["one"]).await;
    let session = start(&rig.manager, &cookie).await;
    let other = start(&rig.manager, &cookie).await;
    other.destroy().unwrap();
    let _ = other.release(&mut HeaderMap::new()).await.unwrap();
    assert_eq!(session.take_flashes::<String>().await.unwrap_err().kind(), ErrorKind::Gone);
}

#[tokio::test]
async fn flash_after_the_release_is_an_error() {
    let manager = Manager::builder(MemoryProvider::new()).build().unwrap();
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let handler = async move |axum::Extension(handle): axum::Extension<SessionHandle>| {
        let session = handle.load().await.unwrap();
        session.flash("info", "one").unwrap();
        *keep.lock().unwrap() = Some(session);
    };
    let site = Router::new().route("/", get(handler)).layer(SessionLayer::new(manager));
    let _ = ask(&site, "/", "").await;
    let session = kept.lock().unwrap().take().unwrap();
    assert_eq!(session.flash("info", "two").unwrap_err().kind(), ErrorKind::Released);
    assert_eq!(session.take_flashes::<String>().await.unwrap_err().kind(), ErrorKind::Released);
}

#[tokio::test]
async fn reserved_keys_are_refused_to_applications() {
    let rig = Rig::new();
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    for key in ["\u{1}", "\u{1}csrf", "\u{1}flash/"] {
        assert_eq!(session.set(key, 1).unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(session.delete(key).unwrap_err().kind(), ErrorKind::Value);
        assert_eq!(session.update(key, |_: Option<u8>| 1).await.unwrap_err().kind(), ErrorKind::Value);
    }
    session.set("a\u{1}", 1).unwrap();
    session.set("", 1).unwrap();
    assert_eq!(session.len().unwrap(), 2);
}
