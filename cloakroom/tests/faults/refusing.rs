//! A store that refuses writes. Reading works, and a logout needs no more than a delete.

use std::time::Duration;

use cloakroom::{ErrorKind, Manager, ManualClock, MemoryProvider, Released};
use http::HeaderMap;

use crate::support::faulty::{Fault, Faulty};
use crate::support::hooked::{Call, Hooked};
use crate::support::{alice, cookies, pair, set_cookies};

/// A manager with a clock that a test sets, and the faults of its store.
struct Store {
    manager: Manager,
    faults: Faulty,
    time: ManualClock,
}

impl Store {
    fn with(settings: impl FnOnce(cloakroom::ManagerBuilder) -> cloakroom::ManagerBuilder) -> Self {
        let (time, faults) = (ManualClock::default(), Faulty::default());
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let builder = Manager::builder(Hooked::new(provider, faults.clone())).clock(time.clock());
        Store { manager: settings(builder).build().unwrap(), faults, time }
    }

    /// Stores a session of alice and returns its cookie.
    async fn logged_in(&self) -> String {
        let session = self.manager.start(&HeaderMap::new()).await.unwrap();
        session.authenticate(alice()).unwrap();
        session.set("n", 1).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(session.release(&mut headers).await.unwrap(), Released::Created);
        pair(&headers).unwrap()
    }

    fn refuse_writes(&self) {
        for call in [Call::Create, Call::Update, Call::End, Call::Touch, Call::Rename] {
            self.faults.set(call, Fault::Fail);
        }
        self.faults.calls();
    }

    async fn alive(&self, cookie: &str) -> bool {
        self.manager.start(&cookies(cookie)).await.unwrap().id().is_some()
    }
}

#[tokio::test]
async fn a_read_succeeds_though_the_touch_fails() {
    for (rotates, call) in [(false, Call::Touch), (true, Call::Rename)] {
        let store = Store::with(|builder| {
            let builder = builder.cookie_lifetime(Some(Duration::from_secs(3600)));
            if rotates { builder.rotate_every(Duration::from_secs(60)) } else { builder }
        });
        let cookie = store.logged_in().await;
        store.refuse_writes();
        store.time.advance(Duration::from_secs(61));
        let session = store.manager.start(&cookies(&cookie)).await.unwrap();
        assert_eq!(session.get::<u32>("n").unwrap(), Some(1));
        let mut headers = HeaderMap::new();
        assert_eq!(session.release(&mut headers).await.unwrap(), Released::Unchanged);
        assert_eq!(store.faults.calls(), [Call::Load, call], "the write was tried");
        assert_eq!(set_cookies(&headers), [""; 0], "a cookie is renewed only if the touch was stored");
        let session = store.manager.start(&cookies(&cookie)).await.unwrap();
        session.set("n", 2).unwrap();
        let error = session.release(&mut HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "a lost change is an error");
    }
}

#[tokio::test]
async fn a_logout_needs_only_a_delete() {
    let store = Store::with(|builder| builder);
    let cookie = store.logged_in().await;
    store.refuse_writes();
    let session = store.manager.start(&cookies(&cookie)).await.unwrap();
    session.destroy().unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap(), Released::Destroyed);
    assert_eq!(store.faults.calls(), [Call::Load, Call::End, Call::Delete]);
    assert!(set_cookies(&headers)[0].contains("Max-Age=0"));
    assert!(!store.alive(&cookie).await);
}

#[tokio::test]
async fn log_out_everywhere_needs_only_deletes() {
    let store = Store::with(|builder| builder);
    let (one, other) = (store.logged_in().await, store.logged_in().await);
    store.refuse_writes();
    assert_eq!(store.manager.end_sessions(&alice()).await.unwrap(), 2);
    assert!(!store.alive(&one).await && !store.alive(&other).await);
}

#[tokio::test]
async fn a_logout_deletes_a_session_that_cannot_be_loaded() {
    let store = Store::with(|builder| builder);
    let cookie = store.logged_in().await;
    let user = alice();
    store.refuse_writes();
    store.faults.set(Call::Load, Fault::Fail);
    assert_eq!(store.manager.end_sessions(&user).await.unwrap(), 1);
    store.faults.heal();
    assert!(!store.alive(&cookie).await);
}

#[tokio::test]
async fn a_logout_fails_only_if_every_step_fails() {
    let store = Store::with(|builder| builder);
    let cookie = store.logged_in().await;
    store.refuse_writes();
    store.faults.set(Call::Delete, Fault::Fail);
    let session = store.manager.start(&cookies(&cookie)).await.unwrap();
    session.destroy().unwrap();
    let mut headers = HeaderMap::new();
    let error = session.release(&mut headers).await.unwrap_err();
    assert_eq!((error.kind(), set_cookies(&headers).len()), (ErrorKind::Unavailable, 0));
    store.faults.heal();
    assert!(store.alive(&cookie).await);
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_keeps_no_other_alive() {
    let store = Store::with(|builder| builder);
    let cookies_of_hers = [store.logged_in().await, store.logged_in().await, store.logged_in().await];
    store.faults.set(Call::Load, Fault::Corrupt);
    store.faults.set(Call::Delete, Fault::Fail);
    let error = store.manager.end_sessions(&alice()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let tried = store.faults.calls().into_iter().filter(|call| *call == Call::Delete).count();
    assert_eq!(tried, 3, "each session was tried");
    store.faults.heal();
    assert_eq!(store.manager.end_sessions(&alice()).await.unwrap(), 3, "a second call ends the rest");
    for cookie in &cookies_of_hers {
        assert!(!store.alive(cookie).await);
    }
}
