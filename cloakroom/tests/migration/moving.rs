//! The move of a session: its values, its user, its id, and who may come with it.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::event::EventKind;
use cloakroom::migration::{MigrationSource, OldSessions};
use cloakroom::{ErrorKind, Lifetime, Manager, MemoryProvider, Principal, Released};

use super::old::{OldApp, Site};
use super::{headers, release, request};

#[tokio::test]
async fn an_old_session_moves_at_its_first_use() {
    let site = Site::open();
    let (old, other) = (site.add("one"), site.add("two"));
    let session = request(&site.manager, &format!("a=b; {old}; c=d")).await;
    assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("one"));
    assert_eq!(session.get::<Vec<String>>("cart").unwrap().unwrap(), ["tea", "milk"]);
    assert_eq!(session.principal().unwrap(), Principal::new("ann").unwrap());
    let (released, cookie) = release(&session).await;
    let cookie = cookie.unwrap();
    assert_eq!(released, Released::Unchanged);
    assert!(cookie.starts_with("__Host-id=") && cookie.len() == "__Host-id=".len() + 43, "{cookie}");
    assert!(!site.old.has(&old), "its old record is deleted");
    assert!(site.old.has(&other), "the others wait until they are used");
    assert_eq!(site.events(), [EventKind::Moved]);

    let session = request(&site.manager, &format!("{cookie}; {old}")).await;
    assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("one"));
    assert_eq!(site.manager.sessions_of(&Principal::new("ann").unwrap()).await.unwrap().len(), 1);
    assert_eq!(site.manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_requests_move_an_old_session_once() {
    let site = Arc::new(Site::open());
    let old = site.add("one");
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let (site, old) = (Arc::clone(&site), old.clone());
            tokio::spawn(async move {
                let session = request(&site.manager, &old).await;
                assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("one"));
                session.set(&format!("own {task}"), task).unwrap();
                release(&session).await
            })
        })
        .collect();
    let mut cookies = Vec::new();
    for task in tasks {
        let (released, cookie) = task.await.unwrap();
        assert_eq!(released, Released::Saved);
        cookies.push(cookie.unwrap());
    }
    cookies.dedup();
    assert_eq!(cookies.len(), 1, "each response tells the new id");
    assert_eq!(site.manager.active_sessions().await.unwrap(), 1);
    assert_eq!(request(&site.manager, &cookies[0]).await.len().unwrap(), 2 + 12);
}

#[tokio::test]
async fn an_expired_or_unknown_old_session_is_not_moved() {
    let site = Site::open();
    let old = site.old.add("one", site.time.clock().now());
    for cookie in [&*old, "sid=valid-nobody"] {
        let session = request(&site.manager, cookie).await;
        assert!(session.id().is_none() && session.is_empty().unwrap(), "{cookie}");
        assert_eq!(release(&session).await, (Released::Unchanged, None));
    }
    assert_eq!(site.events(), [EventKind::UnknownId, EventKind::UnknownId]);
}

#[tokio::test]
async fn a_malformed_old_cookie_is_an_event() {
    let site = Site::open();
    let session = request(&site.manager, "sid=forged").await;
    assert!(session.is_empty().unwrap());
    assert_eq!(site.events(), [EventKind::MalformedId]);
}

#[tokio::test]
async fn an_unreadable_old_session_leaves_an_anonymous_visitor() {
    let site = Site::open();
    let old = site.add("one");
    site.old.corrupt();
    let session = request(&site.manager, &old).await;
    assert!(session.is_empty().unwrap() && session.principal().is_none());
    assert_eq!(site.events(), [EventKind::Corrupt]);
    session.set("n", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Created, "the visitor may begin a session");
}

#[tokio::test]
async fn several_old_sessions_of_a_request_count_as_none() {
    let site = Site::open();
    let (one, two) = (site.add("one"), site.add("two"));
    let session = request(&site.manager, &format!("{one}; {two}")).await;
    assert!(session.is_empty().unwrap());
    assert_eq!(site.events(), [EventKind::Duplicate]);
    assert!(site.old.has(&one) && site.old.has(&two));
}

#[tokio::test]
async fn a_live_session_of_ones_own_comes_first() {
    let site = Site::open();
    let own = request(&site.manager, "").await;
    own.set("name", "own").unwrap();
    let cookie = release(&own).await.1.unwrap();
    let old = site.add("one");
    let session = request(&site.manager, &format!("{old}; {cookie}")).await;
    assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("own"));
    assert!(site.old.has(&old));
}

#[tokio::test]
async fn a_logout_ends_the_old_session_beside_ones_own() {
    let site = Site::open();
    let own = request(&site.manager, "").await;
    own.set("name", "own").unwrap();
    let cookie = release(&own).await.1.unwrap();
    let old = site.add("one");
    let logout = request(&site.manager, &format!("{old}; {cookie}")).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert!(!site.old.has(&old));
    assert!(request(&site.manager, &old).await.is_empty().unwrap(), "nobody is logged in again");
}

#[tokio::test]
async fn a_logout_after_the_move_ends_the_session_for_good() {
    let site = Site::open();
    let old = site.add("one");
    let cookie = release(&request(&site.manager, &old).await).await.1.unwrap();
    // The browser keeps the old cookie too.
    let logout = request(&site.manager, &format!("{old}; {cookie}")).await;
    logout.destroy().unwrap();
    logout.set("notice", "logged out").unwrap();
    let (released, next) = release(&logout).await;
    assert_eq!(released, Released::Created, "the notice is in a new session");
    assert_ne!(next.unwrap(), cookie);
    for former in [&old, &cookie] {
        assert!(request(&site.manager, former).await.is_empty().unwrap());
    }
}

#[tokio::test]
async fn a_moved_login_stays_one_when_it_is_read_again() {
    let site = Site::open();
    let cookie = release(&request(&site.manager, &site.add("one")).await).await.1.unwrap();
    assert!(request(&site.manager, &cookie).await.authenticated().is_some());
}

#[tokio::test]
async fn a_moved_session_claims_no_recent_login() {
    let site = Site::open();
    let session = request(&site.manager, &site.add("one")).await;
    let error = session.require_recent(Duration::from_secs(365 * 24 * 3600)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let hour = Duration::from_secs(3600);
    session.set_lifetime(Lifetime::idle(hour).at_most(2 * hour)).unwrap();
    let cookie = release(&session).await.1.unwrap();
    site.time.advance(hour / 2);
    assert_eq!(request(&site.manager, &cookie).await.principal().unwrap().as_str(), "ann");
}

#[tokio::test]
async fn the_managers_timeouts_begin_at_the_move() {
    let site = Site::open();
    let cookie = release(&request(&site.manager, &site.add("one")).await).await.1.unwrap();
    site.time.advance(Duration::from_secs(29 * 60));
    assert!(!request(&site.manager, &cookie).await.is_empty().unwrap());
    site.time.advance(Duration::from_secs(31 * 60));
    assert!(request(&site.manager, &cookie).await.is_empty().unwrap());
}

#[tokio::test]
async fn an_application_adjusts_or_leaves_old_sessions() {
    let old = OldApp::default();
    let adjusted = old.clone().adjusted_by(|mut session| async move {
        if session.get::<String>("name")?.as_deref() == Some("left") {
            return Ok(None);
        }
        session.set_principal_from("name");
        session.remember();
        Ok(Some(session))
    });
    let site = Site::with(old, |_| MigrationSource::from(adjusted));
    let session = request(&site.manager, &site.add("kept")).await;
    assert_eq!(session.principal().unwrap().as_str(), "kept");
    let cookie = release(&session).await.1.unwrap();
    site.time.advance(Duration::from_secs(50 * 60));
    assert!(!request(&site.manager, &cookie).await.is_empty().unwrap(), "it lasts as the old one did");
    assert!(request(&site.manager, &site.add("left")).await.is_empty().unwrap());
}

#[tokio::test]
async fn a_claim_is_no_id_of_this_library() {
    let site = Site::open();
    let _ = release(&request(&site.manager, &site.add("one")).await).await;
    let claim = format!("__Host-id=moved-{}", "A".repeat(43));
    assert!(request(&site.manager, &claim).await.is_empty().unwrap());
    assert!(site.events().contains(&EventKind::MalformedId), "it does not have the form of an id");
}

#[test]
fn a_migration_that_cannot_be_kept_is_refused() {
    let memory = || Manager::builder(MemoryProvider::new());
    let source = || MigrationSource::new(OldApp::default());
    let error = memory().migrate_from(MemoryProvider::new()).build().unwrap_err().to_string();
    assert!(error.contains("another library's layout"), "{error}");
    memory().migrate_from(source()).build().unwrap();
    let shown = format!("{:?}", source());
    assert_eq!(shown, "MigrationSource");
    let _ = headers("");
}
