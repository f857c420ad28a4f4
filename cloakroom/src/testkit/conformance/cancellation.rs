//! A future that is dropped half-way leaves the store consistent and the provider usable. Requests are cancelled at any point, so
//! every method must survive it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::testkit::base;
use crate::testkit::fixture::{Fixture, key, minutes, user};

/// Polls `call` at most `polls` times and drops it, as a request that is cancelled does.
async fn cancelled<T>(polls: usize, call: impl Future<Output = crate::Result<T>>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        let over = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
        if over {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The numbers of polls before a call is dropped: none, one and more.
const POLLS: [usize; 6] = [0, 1, 1, 2, 3, 10];

/// Checks that every method works on new keys, through both handles.
async fn is_usable(f: &Fixture, name: &str) {
    for (side, f) in [f, &f.swapped()].into_iter().enumerate() {
        let why = format!("after dropped calls of {name}");
        let (old, new) = (key(&format!("usable-{side}-old")), key(&format!("usable-{side}-new")));
        let user = format!("usable-{side}");
        let stage = |version| f.record().principal(&user).version(version).build();
        f.put(&old, &stage(1)).await;
        assert_eq!(f.update(&old, &stage(2), 1).await, Updated::Done, "{why}");
        assert_eq!(f.touch(&old).await, Touched::Done, "{why}");
        assert_eq!(f.rename(&old, &new, &stage(3), 2, None).await, Renamed::Done, "{why}");
        f.holds(&new, &stage(3), &why).await;
        f.collect_all(100).await;
        if f.capabilities().lists {
            assert!(f.count().await > 0, "{why}");
            assert!(f.scan(10).await.iter().any(|entry| entry.key == new), "{why}");
            f.belong_to(&user, &[&new], &why).await;
        }
        if f.capabilities().revocable {
            assert!(f.delete(&new).await, "{why}");
        }
    }
}

pub(super) async fn a_dropped_create_stores_all_or_nothing(f: Fixture) {
    for round in 0..60 {
        let name = key(&format!("round-{round}"));
        let record = f.record().filled(2_000).build();
        cancelled(POLLS[round % POLLS.len()], f.handle(round).create(&name, &record)).await;
        if let Some(found) = f.load(&name).await {
            assert_eq!(found, record, "a create that was dropped has stored all or nothing");
        }
        // The dropped call may have taken effect or not. This one must answer.
        let (Created::Done | Created::Taken) = f.create(&name, &record).await;
        f.holds(&name, &record, "stored by one of the two").await;
    }
    is_usable(&f, "create").await;
}

pub(super) async fn a_dropped_update_changes_all_or_nothing(f: Fixture) {
    for round in 0..60 {
        let name = key(&format!("round-{round}"));
        let before = f.record().filled(2_000).principal("alice").build();
        let after = f.record().filled(1_000).principal("bob").version(2).build();
        f.put(&name, &before).await;
        cancelled(POLLS[round % POLLS.len()], f.handle(round).update(&name, &after, &before)).await;
        let found = f.load(&name).await.expect("an update ends no session");
        assert!(found == before || found == after, "an update that was dropped is there or not: {found:?}");
    }
    is_usable(&f, "update").await;
}

pub(super) async fn a_dropped_touch_moves_all_or_nothing(f: Fixture) {
    for round in 0..60 {
        let name = key(&format!("round-{round}"));
        let before = f.record().filled(2_000).build();
        let mut after = before.clone();
        after.touch(f.now() + minutes(1));
        f.put(&name, &before).await;
        let touch = f.handle(round);
        let touch = touch.touch(&name, f.now() + minutes(1));
        cancelled(POLLS[round % POLLS.len()], touch).await;
        let found = f.load(&name).await.expect("a touch ends no session");
        assert!(found == before || found == after, "a touch that was dropped is there or not: {found:?}");
    }
    is_usable(&f, "touch").await;
}

pub(super) async fn a_dropped_rename_never_loses_the_session(f: Fixture) {
    for round in 0..60 {
        let (old, new) = (key(&format!("old-{round}")), key(&format!("new-{round}")));
        let (before, after) = (f.record().filled(2_000).build(), f.record().filled(1_000).version(2).build());
        f.put(&old, &before).await;
        cancelled(POLLS[round % POLLS.len()], f.handle(round).rename(&old, &new, &after, 1, None)).await;
        // Load the old key first, since the step may still happen between the two loads.
        match f.load(&old).await {
            Some(found) => assert_eq!(found, before, "the old record is as it was"),
            None => f.holds(&new, &after, "what left the old key is under the new one").await,
        }
    }
    is_usable(&f, "rename").await;
}

pub(super) async fn dropped_deletes_and_lists_leave_the_provider_usable(f: Fixture) {
    let alive = f.record().principal("alice").build();
    f.put(&key("alive"), &alive).await;
    for round in 0..60 {
        let polls = POLLS[round % POLLS.len()];
        let name = key(&format!("round-{round}"));
        f.put(&name, &f.record().idle(minutes(1)).build()).await;
        let provider = f.handle(round);
        cancelled(polls, provider.delete(&name)).await;
        cancelled(polls, provider.load(&name)).await;
        cancelled(polls, provider.count()).await;
        cancelled(polls, provider.scan(None, 10)).await;
        cancelled(polls, provider.indexed(&user("alice"), None, 10)).await;
        if round % 10 == 9 {
            f.advance(minutes(1)).await;
        }
        cancelled(polls, provider.delete_expired(5)).await;
    }
    f.collect_all(10).await;
    f.holds(&key("alive"), &alive, "none of the dropped calls was about this session").await;
    is_usable(&f, "delete").await;
}

pub(super) async fn calls_that_are_dropped_in_the_midst_of_others_hold_nobody_up(f: Fixture) {
    let name = key("shared");
    f.put(&name, &f.record().value("n", 0).build()).await;
    let tasks: Vec<_> = (0..24usize)
        .map(|n| {
            let (f, name) = (f.clone(), name.clone());
            tokio::spawn(async move {
                let provider = f.handle(n);
                for step in 0..10u64 {
                    let record = f.record().value("n", step).build();
                    match n % 3 {
                        0 => cancelled(1 + n % 2, provider.update(&name, &record, &base(1))).await,
                        1 => cancelled(1, provider.load(&name)).await,
                        _ => drop(provider.load(&name).await.expect("a load beside dropped calls")),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    }
    assert!(f.load(&name).await.is_some(), "nobody ended it");
    is_usable(&f, "all").await;
}
