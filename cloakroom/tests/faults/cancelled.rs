//! Requests that are dropped at each await point. The store holds the old or the new state, and still works.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use cloakroom::Released;
use http::HeaderMap;

use crate::site;
use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, alice, ask, cookies, pair, request};
use tower::ServiceExt;

/// Polls `future` at most `polls` times, and drops it. Returns its result if it finished.
async fn for_a_while<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            Poll::Ready(answer) => return Some(answer),
            Poll::Pending => {}
        }
    }
    None
}

/// Drops a request for `path` after each number of polls, until one finishes. Each has a new rig.
///
/// `check` returns true if the request took effect. Both outcomes must have been seen.
async fn dropped_at_every_point(path: &str, check: impl AsyncFn(&Rig, &str) -> bool) {
    let mut seen = BTreeSet::new();
    for polls in 0.. {
        let rig = Rig::new();
        rig.faults.pause(3);
        let alive = rig.session_with(1).await;
        let site = site(&rig.manager);
        let response = for_a_while(site.clone().oneshot(request(path, &alive)), polls).await;
        let happened = check(&rig, &alive).await;
        seen.insert(happened);
        // No lock is held any more: the next request of the same visitor gets its response.
        let next = if happened && path == "/login" { 409 } else { 200 };
        assert_eq!(ask(&site, "/set", &alive).await.status(), next, "{path} after {polls} polls");
        if let Some(response) = response {
            assert_eq!(response.unwrap().status(), 200, "{path}");
            assert!(happened, "{path}: it finished");
            break;
        }
    }
    assert_eq!(seen, BTreeSet::from([false, true]), "{path}");
}

#[tokio::test]
async fn a_cancelled_change_is_stored_or_not() {
    let check = async |rig: &Rig, cookie: &str| match rig.stored(cookie).await {
        Some(1) => false,
        Some(2) => true,
        other => panic!("neither old nor new: {other:?}"),
    };
    dropped_at_every_point("/set", check).await;
}

#[tokio::test]
async fn a_cancelled_login_leaves_one_session() {
    let check = async |rig: &Rig, cookie: &str| {
        let (old, logged_in) =
            (rig.alive(cookie).await, rig.store.sessions_of(&alice()).await.unwrap().len());
        assert_eq!((rig.count().await, logged_in), (1, usize::from(!old)));
        !old
    };
    dropped_at_every_point("/login", check).await;
}

#[tokio::test]
async fn a_cancelled_logout_happens_or_not() {
    let check = async |rig: &Rig, cookie: &str| match rig.stored(cookie).await {
        Some(1) => false,
        None => rig.count().await == 0,
        other => panic!("half a session: {other:?}"),
    };
    dropped_at_every_point("/logout", check).await;
}

#[tokio::test]
async fn a_cancelled_first_visit_leaves_one_session_or_none() {
    let mut seen = BTreeSet::new();
    for polls in 0.. {
        let rig = Rig::new();
        rig.faults.pause(3);
        let response = for_a_while(site(&rig.manager).oneshot(request("/set", "")), polls).await;
        seen.insert(rig.count().await);
        if let Some(response) = response {
            assert_eq!(rig.stored(&pair(response.unwrap().headers()).unwrap()).await, Some(2));
            break;
        }
    }
    assert_eq!(seen, BTreeSet::from([0, 1]));
}

#[tokio::test]
async fn after_a_cancelled_release_a_session_can_be_released() {
    for polls in 0.. {
        let rig = Rig::new();
        rig.faults.pause(3);
        let alive = rig.session_with(1).await;
        let session = rig.manager.start(&cookies(&alive)).await.unwrap();
        session.set("n", 2).unwrap();
        session.set("m", 2).unwrap();
        let mut headers = HeaderMap::new();
        if for_a_while(session.release(&mut headers), polls).await.is_some() {
            assert!(polls > 6, "only {polls} points to cancel at");
            break;
        }
        session.set("m", 3).unwrap();
        assert_eq!(session.release(&mut headers).await.unwrap(), Released::Saved);
        let stored = rig.store.start(&cookies(&alive)).await.unwrap();
        assert_eq!((stored.get("n").unwrap(), stored.get("m").unwrap()), (Some(2), Some(3)));
    }
}

#[tokio::test]
async fn a_cancelled_update_counts_at_most_once() {
    for polls in 0.. {
        let rig = Rig::new();
        rig.faults.pause(3);
        let alive = rig.session_with(1).await;
        let session = rig.manager.start(&cookies(&alive)).await.unwrap();
        // Another request commits first, so that the cancelled one queues for its retry.
        let other = rig.store.start(&cookies(&alive)).await.unwrap();
        other.set("m", 1).unwrap();
        other.save().await.unwrap();
        let one_more = |n: Option<u64>| n.unwrap_or(0) + 1;
        let done = for_a_while(session.update("n", one_more), polls).await;
        let n = rig.stored(&alive).await.unwrap();
        assert!((1..=2).contains(&n), "{n}");
        assert_eq!(session.update("n", one_more).await.unwrap(), n + 1);
        if let Some(done) = done {
            assert_eq!((done.unwrap(), n), (2, 2));
            break;
        }
    }
}

#[tokio::test]
async fn a_panic_of_the_provider_fails_only_its_request() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for (path, call) in
        [("/read", Call::Load), ("/set", Call::Update), ("/login", Call::Rename), ("/logout", Call::End)]
    {
        rig.faults.set(call, Fault::Panic);
        let (site, asked) = (site(&rig.manager), request(path, &alive));
        let task = tokio::spawn(async move { site.oneshot(asked).await.map(|_| ()) });
        assert!(task.await.unwrap_err().is_panic(), "{path}");
        rig.faults.heal();
        assert_eq!(rig.stored(&alive).await, Some(1), "{path}");
    }
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    session.set("n", 2).unwrap();
    rig.faults.set(Call::Update, Fault::Panic);
    let saving = session.clone();
    let task = tokio::spawn(async move { saving.save().await });
    assert!(task.await.unwrap_err().is_panic());
    rig.faults.heal();
    session.save().await.unwrap();
    assert_eq!(rig.stored(&alive).await, Some(2));
}

#[tokio::test]
async fn after_a_cancelled_load_the_next_call_loads() {
    for polls in 0.. {
        let rig = Rig::new();
        rig.faults.pause(3);
        let alive = rig.session_with(1).await;
        let handle = rig.manager.handle(&cookies(&alive));
        let first = for_a_while(handle.load(), polls).await;
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        let loads = rig.faults.calls().len();
        if first.is_some() {
            assert_eq!(loads, 1);
            break;
        }
        assert_eq!(loads, 1 + usize::from(polls > 0));
    }
}
