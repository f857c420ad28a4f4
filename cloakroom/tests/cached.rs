//! The near cache: the whole contract, and tests that its copies save loads and are never used past a change.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "cached/watched_store.rs"]
mod watched_store;

use std::time::Duration;

use cloakroom::testkit::{Store, base, model, record};
use cloakroom::{
    Cached, Clock, Manager, ManualClock, MemoryProvider, Provider,
    providers::{Created, Record, StoreKey, Updated},
};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use proptest::prelude::*;
use watched_store::WatchedStore;

const BOUND: Duration = Duration::from_secs(1);

cloakroom::conformance!(within_a_bound, |clock| async move {
    let store = MemoryProvider::builder().clock(clock.clone()).build();
    Cached::builder(store).clock(clock).within(BOUND)
});

// Two near caches on one store, as two processes have them.
cloakroom::conformance!(watching_with_two_handles, |clock| async move {
    let store = WatchedStore::new(clock.clone());
    let (one, other) = (watching(&store, &clock).await, watching(&store, &clock).await);
    Store::new(one).with_second(other)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_near_cache_agrees_with_the_model(
        ops in proptest::collection::vec(any::<[u8; model::Op::BYTES]>().prop_map(model::Op::from), 1..80)
    ) {
        let time = ManualClock::default();
        let store = MemoryProvider::builder().clock(time.clock()).build();
        model::run(Cached::builder(store).clock(time.clock()).within(BOUND), &time, &ops);
    }
}

async fn watching(store: &WatchedStore, clock: &Clock) -> Cached<WatchedStore> {
    Cached::builder(store.clone()).clock(clock.clone()).watching().await.unwrap()
}

fn key(n: usize) -> StoreKey {
    format!("key-{n}").parse().unwrap()
}

/// Returns a store with one session, and its record.
async fn with_one(clock: &Clock) -> (WatchedStore, Record) {
    let store = WatchedStore::new(clock.clone());
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
async fn a_session_in_use_is_loaded_from_the_store_once() {
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
async fn a_change_is_seen_as_soon_as_it_is_invalidated() {
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
async fn without_invalidations_a_copy_is_used_for_the_bound() {
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
async fn the_bound_counts_from_the_load_and_not_from_its_reply() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND);
    store.hold_replies().await;
    let late = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.wait_until_stored().await;
    let (writer, clock) = (store.clone(), time.clock());
    let changing = tokio::spawn(async move { change(&writer, &clock, 1).await });
    store.wait_until_stored().await;
    time.advance(BOUND);
    store.release_replies();
    let second = changing.await.unwrap();
    assert_eq!(late.await.unwrap(), Some(first));
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_load_overtaken_by_a_change_leaves_no_copy() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    for own in [true, false] {
        let version = store.load(&key(0)).await.unwrap().unwrap().version();
        let (here, there) = (watching(&store, &time.clock()).await, watching(&store, &time.clock()).await);
        store.hold_replies().await;
        let overtaken = tokio::spawn({
            let here = here.clone();
            async move { here.load(&key(0)).await.unwrap() }
        });
        store.wait_until_stored().await;
        let writer = if own { here.clone() } else { there };
        let clock = time.clock();
        let changing = tokio::spawn(async move { change(&writer, &clock, version).await });
        store.wait_until_stored().await;
        store.release_replies();
        let next = changing.await.unwrap();
        assert_eq!(overtaken.await.unwrap().unwrap().version(), version);
        assert_eq!(here.load(&key(0)).await.unwrap(), Some(next), "changed by {own}");
    }
    assert_eq!(first.version(), 1);
}

#[tokio::test]
async fn copies_are_not_used_while_invalidations_are_missing() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    store.stop_invalidations();
    let before = store.loads();
    for _ in 0..3 {
        assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(store.loads(), before + 3);
    // A record that is loaded while no invalidations arrive may be out of date when its reply arrives.
    store.hold_replies().await;
    let held = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.wait_until_stored().await;
    store.resume_invalidations();
    store.release_replies();
    assert_eq!(held.await.unwrap(), Some(first.clone()));
    let before = store.loads();
    for _ in 0..3 {
        assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(store.loads(), before + 1);
}

#[tokio::test]
async fn a_load_from_before_an_outage_leaves_no_copy() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    store.hold_replies().await;
    let held = tokio::spawn({
        let near = near.clone();
        async move { near.load(&key(0)).await.unwrap() }
    });
    store.wait_until_stored().await;
    store.stop_invalidations();
    store.resume_invalidations();
    store.release_replies();
    assert_eq!(held.await.unwrap(), Some(first.clone()));
    let before = store.loads();
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    assert_eq!(store.loads(), before + 1);
}

#[tokio::test]
async fn a_cancelled_change_leaves_no_copy_of_the_old_record() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    // No invalidations arrive here: only the caller knows that the session may have changed.
    let near = Cached::builder(store.clone()).clock(time.clock()).within(BOUND * 1000);
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first));
    let next = record(&time.clock()).version(2).value("n", 2).build();
    store.hold_replies().await;
    let cancelled = tokio::spawn({
        let (near, next) = (near.clone(), next.clone());
        async move { near.update(&key(0), &next, &base(1)).await }
    });
    store.wait_until_stored().await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    store.release_replies();
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(next));
}

#[tokio::test]
async fn an_expired_copy_is_not_returned() {
    let time = ManualClock::default();
    let (store, first) = with_one(&time.clock()).await;
    let near = watching(&store, &time.clock()).await;
    assert_eq!(near.load(&key(0)).await.unwrap(), Some(first.clone()));
    time.set(first.expires());
    assert_eq!(near.load(&key(0)).await.unwrap(), None);
}

#[tokio::test]
async fn an_unknown_key_is_looked_up_every_time() {
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
async fn copies_stay_within_the_configured_bytes() {
    let time = ManualClock::default();
    let store = WatchedStore::new(time.clock());
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
    // At most 100 of them fit.
    assert!(store.loads() >= 1900, "{} loads", store.loads());
}

#[tokio::test]
async fn increments_through_stale_copies_are_all_counted() {
    let time = ManualClock::default();
    let store = WatchedStore::new(time.clock());
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
        // Each turn changes a key of its own, and one key atomically, on a copy that the other node has made stale.
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
