//! Requests on a store that refuses changes. Pages that only read are answered, and a full store still logs users out.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

use crate::manager::Manager;
use crate::principal::Principal;
use crate::request::Released;
use crate::testkit::fixture::{Fixture, minutes};

/// Returns a manager over the store, and a request with the cookie of alice's session.
async fn logged_in(f: &Fixture) -> (Manager, HeaderMap) {
    let builder = Manager::builder(f.provider.clone()).clock(f.clock.clone()).deadline(minutes(1));
    let manager = builder.build().expect("the defaults work together");
    let session = manager.start(&HeaderMap::new()).await.expect("an empty session");
    session.set("n", 1).expect("a number");
    session.authenticate(Principal::new("alice").expect("a user")).expect("a login");
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await.expect("a login while the store takes it");
    let cookie = response[SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    (manager, HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(cookie).expect("a header"))]))
}

/// Checks that pages that only read are answered, also when a touch is due.
async fn pages_are_read(f: &Fixture, manager: &Manager, headers: &HeaderMap) {
    for _ in 0..3 {
        f.advance(minutes(2)).await;
        let session = manager.start(headers).await.expect("a load");
        assert_eq!(session.get("n").expect("a number"), Some(1), "the session is as it was");
        let released = session.release(&mut HeaderMap::new()).await;
        let is_answered = matches!(released, Ok(Released::Unchanged | Released::Touched));
        assert!(is_answered, "a request that only read is answered, found {released:?}");
    }
}

pub(super) async fn a_store_that_refuses_changes_answers_pages_that_read(f: Fixture) {
    for switch in [f.full(), f.read_only()].into_iter().flatten() {
        let (manager, headers) = logged_in(&f).await;
        switch(true).await;
        pages_are_read(&f, &manager, &headers).await;
        switch(false).await;
        pages_are_read(&f, &manager, &headers).await;
    }
}

pub(super) async fn a_full_store_logs_out(f: Fixture) {
    let Some(fill) = f.full() else { return };
    if !f.revokes().await {
        return;
    }
    let (manager, headers) = logged_in(&f).await;
    fill(true).await;
    let session = manager.start(&headers).await.expect("a load");
    session.destroy().expect("a logout");
    let released =
        session.release(&mut HeaderMap::new()).await.expect("a logout needs no more than a delete");
    assert_eq!(released, Released::Destroyed);
    let thief = manager.start(&headers).await.expect("a load");
    assert_eq!(thief.principal(), None, "a copy of the cookie is worth nothing");
    fill(false).await;
    let thief = manager.start(&headers).await.expect("a load");
    assert_eq!(thief.principal(), None, "and stays so");
}
