//! The near cache: the whole contract, and what is its own: copies that save loads, and never outlive what they are copies of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "cached/told.rs"]
mod told;

use std::time::Duration;

use cloakroom::testkit::{Store, base, model, record};
use cloakroom::{
    Cached, Clock, Manager, ManualClock, MemoryProvider, Provider,
    providers::{Created, Record, StoreKey, Updated},
};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use proptest::prelude::*;
use told::Told;

const BOUND: Duration = Duration::from_secs(1);

cloakroom::conformance!(within_a_bound, |clock| async move {
    let store = MemoryProvider::builder().clock(clock.clone()).build();
    Cached::builder(store).clock(clock).within(BOUND)
});

// Two near caches on one store, as two processes have them.
cloakroom::conformance!(watching_from_two_sides, |clock| async move {
    let store = Told::new(clock.clone());
    let (one, other) = (watching(&store, &clock).await, watching(&store, &clock).await);
    Store::new(one).with_second(other)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_near_cache_does_as_the_model_does(
        ops in proptest::collection::vec(any::<[u8; model::Op::BYTES]>().prop_map(model::Op::from), 1..80)
    ) {
        let time = ManualClock::default();
        let store = MemoryProvider::builder().clock(time.clock()).build();
        model::run(Cached::builder(store).clock(time.clock()).within(BOUND), &time, &ops);
    }
}

async fn watching(store: &Told, clock: &Clock) -> Cached<Told> {
    Cached::builder(store.clone()).clock(clock.clone()).watching().await.unwrap()
}

fn key(n: usize) -> StoreKey {
    format!("key-{n}").parse().unwrap()
}

/// A store with one session in it, and its record.
async fn with_one(clock: &Clock) -> (Told, Record) {
    let store = Told::new(clock.clone());
    let first = record(clock).value("n", 1).build();
    assert_eq!(store.create(&key(0), &first).await.unwrap(), Created::Done);
    (store, first)
}

async fn change(provider: &impl Provider, clock: &Clock, version: u64) -> Record {
    let next = record(clock).version(version + 1).value("n", version + 1).build();
    assert_eq!(provider.update(&key(0), &next, &base(version)).await.unwrap(), Updated::Done);
    next
}

#[tokio::test]
async fn a_session_in_use_is_read_from_the_store_once() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    for _ in 0..100 {
        assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(store.loads(), 1);
    near.clear();
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    assert_eq!(store.loads(), 2);
}

#[tokio::test]
async fn a_change_is_seen_as_soon_as_it_is_told() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let (here, there) = (watching(&store, &time.clock()).await, watching(&store, &time.clock()).await);
    assert_eq!(here.load(&key(0)).await.unwrap(), Some(first));
    let second = change(&there, &time.clock(), 1).await;
    assert_eq!(here.load(&key(0)).await.unwrap(), Some(second));
    assert!(there.delete(&key(0)).await.unwrap());
    assert_eq!(here.load(&key(0)).await.unwrap(), None);
}

#[tokio::test]
async fn where_nothing_is_told_a_change_is_seen_when_the_bound_is_over_and_not_before() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND);
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    let second = change(&store, &time.clock(), 1).await;
    time.advance(BOUND - Duration::from_millis(1));
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    time.advance(Duration::from_millis(1));
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(second));
}

#[tokio::test]
async fn the_bound_counts_from_the_question_and_not_from_a_late_answer() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND);
    store.hold_answers().await;
    let late = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.has_acted().await;
    let (writer, clock) = (store.clone(), time.clock());
    let changing = tokio::spawn(async move { change(&writer, &clock, 1).await });
    store.has_acted().await;
    time.advance(BOUND);
    store.let_answer();
    let second = changing.await.unwrap();
    assert_eq!(late.await.unwrap(), Some(first));
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(second));
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_kept_after_it() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    for own in [true, false] {
        let version = store.load(&key(0)).await.unwrap().unwrap().version();
        let (here, there) = (watching(&store, &time.clock()).await, watching(&store, &time.clock()).await);
        store.hold_answers().await;
        let overtaken = tokio::spawn({
            let here = here.clone();
            async move { here.load(&key(0)).await.unwrap() }
        });
        store.has_acted().await;
        let writer = if own { here.clone() } else { there };
        let clock = time.clock();
        let changing = tokio::spawn(async move { change(&writer, &clock, version).await });
        store.has_acted().await;
        store.let_answer();
        let next = changing.await.unwrap();
        assert_eq!(overtaken.await.unwrap().unwrap().version(), version);
        assert_eq!(here.load(&key(0)).await.unwrap(), Some(next), "changed by {own}");
    }
    assert_eq!(first.version(), 1);
}

#[tokio::test]
async fn nothing_is_read_from_copies_while_changes_cannot_be_heard() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    store.deafen();
    let before = store.loads();
    for _ in 0..3 {
        assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(store.loads(), before + 3);
    // A record that was asked for while nothing could be heard may be behind when its answer comes.
    store.hold_answers().await;
    let held = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.has_acted().await;
    store.listen();
    store.let_answer();
    assert_eq!(held.await.unwrap(), Some(first.clone()));
    let before = store.loads();
    for _ in 0..3 {
        assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(store.loads(), before + 1);
}

#[tokio::test]
async fn an_answer_from_before_the_silence_is_not_kept_after_it() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    store.hold_answers().await;
    let held = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.has_acted().await;
    store.deafen();
    store.listen();
    store.let_answer();
    assert_eq!(held.await.unwrap(), Some(first.clone()));
    let before = store.loads();
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    assert_eq!(store.loads(), before + 1);
}

#[tokio::test]
async fn a_change_that_is_cancelled_leaves_no_copy_of_what_was_before() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    // No news here: only the caller knows that something may have changed.
    let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND * 1000);
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    let next = record(&time.clock()).version(2).value("n", 2).build();
    store.hold_answers().await;
    let cancelled = tokio::spawn({
        let (near, next) = (near.clone(), next.clone());
        async move { near.update(&key(0), &next, &base(1)).await }
    });
    store.has_acted().await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    store.let_answer();
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(next));
}

#[tokio::test]
async fn an_expired_copy_is_no_session() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    time.set(first.expires());
    assert_eq!(near.load(&key(0)).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_every_time() {
    let time = ManualClock::default();
    let (store, _) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    let before = store.loads();
    for _ in 0..3 {
        assert_eq!(near.load(&key(1)).await.unwrap(), None);
    }
    assert_eq!(store.loads(), before + 3);
}

#[tokio::test]
async fn copies_keep_within_their_bytes() {
    let time = ManualClock::default();
    let store = Told::new(time.clock());
    let value = "x".repeat(1000);
    for n in 0..1000 {
        let large = record(&time.clock()).value("v", &value).build();
        assert_eq!(store.create(&key(n), &large).await.unwrap(), Created::Done);
    }
    let near =
        Cached::builder(store.clone()).clock(time.clock()).max_bytes(100_000).watching().await.unwrap();
    for _ in 0..2 {
        for n in 0..1000 {
            assert!(near.load(&key(n)).await.unwrap().is_some());
        }
    }
    // At the most 100 of them fit.
    assert!(store.loads() >= 1900, "{} loads", store.loads());
}

#[tokio::test]
async fn increments_through_stale_copies_are_all_counted() {
    let time = ManualClock::default();
    let store = Told::new(time.clock());
    let manager = || {
        let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND * 1000);
        Manager::builder(near).clock(time.clock()).build().unwrap()
    };
    let nodes = [manager(), manager()];
    let session = nodes[0].start(&HeaderMap::new()).await.unwrap();
    session.set("n", 0).unwrap();
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await.unwrap();
    let cookie = response[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let request = HeaderMap::from_iter([(COOKIE, cookie.try_into().unwrap())]);

    for turn in 0..100 {
        let node = &nodes[turn % 2];
        // Different keys by plain changes and one key atomically, each on a copy that the other node has left behind.
        let session = node.start(&request).await.unwrap();
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
        session.set(&format!("turn-{turn}"), turn).unwrap();
        let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    }
    let fresh = Manager::builder(store.clone()).clock(time.clock()).build().unwrap();
    let session = fresh.start(&request).await.unwrap();
    assert_eq!(session.get::<u64>("n").unwrap(), Some(100));
    assert_eq!(session.len().unwrap(), 101);
}
