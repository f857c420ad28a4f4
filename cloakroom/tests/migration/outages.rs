//! Stores that fail while sessions move: nothing is lost, and what has ended stays ended.

use std::time::Duration;

use cloakroom::{ErrorKind, Released};

use super::hooked::Call;
use super::old::Site;
use super::{headers, release, request};

const WRITES: [Call; 4] = [Call::Create, Call::Update, Call::Rename, Call::Touch];

#[tokio::test]
async fn an_outage_of_the_old_store_logs_nobody_out() {
    let site = Site::open();
    let old = site.add("one");
    site.old.refuse_loads(true);
    let error = site.manager.start(&headers(&old)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    site.old.refuse_loads(false);
    assert!(!request(&site.manager, &old).await.is_empty().unwrap());
}

#[tokio::test]
async fn an_ended_session_stays_ended_if_no_delete_succeeds() {
    let site = Site::open();
    let old = site.add("one");
    site.old.refuse_deletes(true);
    let cookie = release(&request(&site.manager, &old).await).await.1.unwrap();
    assert!(site.old.has(&old));
    // The client missed that response and presents the old cookie, so the new one is sent again.
    site.time.advance(Duration::from_secs(120));
    assert_eq!(release(&request(&site.manager, &old).await).await.1, Some(cookie.clone()));
    let logout = request(&site.manager, &cookie).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    for minutes in [0, 2, 20, 35, 59, 61, 600] {
        for cookie in [&old, &cookie] {
            let session = request(&site.manager, cookie).await;
            assert!(session.id().is_none() && session.is_empty().unwrap(), "after {minutes} more minutes");
        }
        site.time.advance(Duration::from_secs(60 * minutes));
    }
}

#[tokio::test]
async fn a_failed_delete_is_tried_again() {
    let site = Site::open();
    let (one, two) = (site.add("one"), site.add("two"));
    site.old.refuse_deletes(true);
    for old in [&one, &two] {
        let _ = release(&request(&site.manager, old).await).await;
        assert!(site.old.has(old));
    }
    site.old.refuse_deletes(false);
    let _ = request(&site.manager, &one).await;
    assert!(!site.old.has(&one), "by the next request that presents the old cookie");
    let _ = site.manager.collect_garbage().await.unwrap();
    assert!(!site.old.has(&two), "by garbage collection");
}

#[tokio::test]
async fn a_session_that_cannot_be_moved_is_read_in_place() {
    let site = Site::open();
    let old = site.add("one");
    site.store.set(&WRITES);
    let session = request(&site.manager, &old).await;
    assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("one"));
    assert_eq!(session.principal().unwrap().as_str(), "ann");
    assert_eq!(release(&session).await, (Released::Unchanged, None), "no cookie is set");
    let session = request(&site.manager, &old).await;
    session.set("n", 1).unwrap();
    let error = session.release(&mut http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a change needs the move");
    site.store.set(&[]);
    let (released, cookie) = release(&session).await;
    assert_eq!(released, Released::Saved);
    assert_eq!(request(&site.manager, &cookie.unwrap()).await.get::<u8>("n").unwrap(), Some(1));
    assert!(!site.old.has(&old));
}

#[tokio::test]
async fn a_logout_needs_one_of_the_two_stores() {
    for (writes, deletes) in [(&WRITES[..], false), (&[][..], true)] {
        let site = Site::open();
        let old = site.add("one");
        site.store.set(&WRITES);
        let logout = request(&site.manager, &old).await;
        logout.destroy().unwrap();
        site.store.set(writes);
        site.old.refuse_deletes(deletes);
        assert_eq!(release(&logout).await.0, Released::Destroyed, "deletes fail: {deletes}");
        site.store.set(&[]);
        assert!(request(&site.manager, &old).await.is_empty().unwrap());
        site.time.advance(Duration::from_secs(59 * 60));
        assert!(request(&site.manager, &old).await.is_empty().unwrap(), "to the end of the old session");
    }
}

#[tokio::test]
async fn a_logout_that_neither_store_takes_is_an_error() {
    let site = Site::open();
    let old = site.add("one");
    site.store.set(&WRITES);
    let logout = request(&site.manager, &old).await;
    logout.destroy().unwrap();
    site.old.refuse_deletes(true);
    let error = logout.release(&mut http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
