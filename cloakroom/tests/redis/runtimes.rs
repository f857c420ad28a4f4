//! One provider that several tokio runtimes use. Some runtimes end, and some are no longer driven.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cloakroom::testkit::{base, record};
use cloakroom::{
    Cached, Clock, Provider, RedisProvider,
    providers::{Created, StoreKey, Updated},
};
use servers::Redis;
use tokio::runtime::{Builder, Runtime};

/// Longer than any wait here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Returns the runtime of the n-th test, like one that `#[tokio::test]` makes.
fn runtime(n: usize) -> Runtime {
    if n.is_multiple_of(2) { current_thread() } else { multi_thread() }
}

/// Creates a session, changes, reads and deletes it.
async fn visits(provider: &impl Provider, name: &str) {
    let key = key(name);
    let one = record(&Clock::system()).principal("alice").value("n", 1).build();
    assert_eq!(provider.create(&key, &one).await.unwrap(), Created::Done);
    assert_eq!(provider.load(&key).await.unwrap(), Some(one));
    let two = record(&Clock::system()).principal("alice").version(2).value("n", 2).build();
    assert_eq!(provider.update(&key, &two, &base(1)).await.unwrap(), Updated::Done);
    assert_eq!(provider.load(&key).await.unwrap(), Some(two));
    assert!(provider.delete(&key).await.unwrap());
    assert_eq!(provider.load(&key).await.unwrap(), None);
}

fn one_after_another(provider: &(impl Provider + Clone)) {
    for n in 0..8 {
        let (provider, runtime) = (provider.clone(), runtime(n));
        let test = thread::spawn(move || runtime.block_on(visits(&provider, &format!("after-{n}"))));
        test.join().unwrap();
    }
}

fn interleaved(provider: &(impl Provider + Clone)) {
    let tests = (0..16).map(|n| {
        let (provider, runtime) = (provider.clone(), runtime(n));
        thread::spawn(move || {
            for round in 0..=n % 5 {
                runtime.block_on(visits(&provider, &format!("beside-{n}-{round}")));
            }
        })
    });
    for test in tests.collect::<Vec<_>>() {
        test.join().unwrap();
    }
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn tests_with_runtimes_of_their_own_share_one_provider() {
    let redis = Redis::start();
    let provider = current_thread().block_on(RedisProvider::connect(redis.url())).unwrap();
    one_after_another(&provider);
    interleaved(&provider);
}

async fn near(redis: &Redis) -> Cached<RedisProvider> {
    Cached::builder(RedisProvider::connect(redis.url()).await.unwrap()).watching().await.unwrap()
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn tests_with_runtimes_of_their_own_share_a_near_cache() {
    let redis = Redis::start();
    let near = current_thread().block_on(near(&redis));
    one_after_another(&near);
    interleaved(&near);
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_runtime_that_ends_fails_no_call_of_another() {
    let redis = Redis::start();
    let (ending, staying) = (current_thread(), current_thread());
    let provider = ending.block_on(RedisProvider::builder(redis.url()).pool(1).connect()).unwrap();
    ending.block_on(visits(&provider, "first"));
    staying.block_on(visits(&provider, "second"));
    let (go, wait) = mpsc::channel::<()>();
    let ender = thread::spawn(move || {
        wait.recv().unwrap();
        drop(ending);
    });
    for n in 0..500 {
        if n == 100 {
            go.send(()).unwrap();
        }
        staying.block_on(visits(&provider, &format!("visit-{n}")));
    }
    ender.join().unwrap();
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_runtime_that_is_not_driven_delays_no_other() {
    let redis = Redis::start();
    let (still, living) = (current_thread(), current_thread());
    let provider = still.block_on(RedisProvider::builder(redis.url()).pool(1).connect()).unwrap();
    still.block_on(visits(&provider, "first"));
    // The first runtime is not driven any more, and its connections stay open.
    for n in 0..20 {
        living.block_on(visits(&provider, &format!("visit-{n}")));
    }
    still.block_on(visits(&provider, "last"));
}

/// Returns true if a copy is used: the server sees no read.
fn uses_copies(redis: &Redis, runtime: &Runtime, near: &Cached<RedisProvider>) -> bool {
    let before = super::near_cache::gets(redis);
    for _ in 0..3 {
        runtime.block_on(near.load(&key("aa"))).unwrap();
    }
    super::near_cache::gets(redis) == before
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Checks that copies stay fresh after the runtime `first`, which received the invalidations, has stopped doing so.
fn copies_outlive(first: Runtime, end: impl FnOnce(Runtime) -> Option<Runtime>) {
    let redis = Redis::start();
    let other = Arc::new(current_thread());
    let here = first.block_on(near(&redis));
    let there = other.block_on(RedisProvider::connect(redis.url())).unwrap();
    let old = record(&Clock::system()).principal("alice").value("n", 1).build();
    assert_eq!(first.block_on(here.create(&key("aa"), &old)).unwrap(), Created::Done);
    until("a copy", || uses_copies(&redis, &first, &here));
    let _first = end(first);
    let new = record(&Clock::system()).principal("alice").version(2).value("n", 2).build();
    assert_eq!(other.block_on(there.update(&key("aa"), &new, &base(1))).unwrap(), Updated::Done);
    until("the change", || other.block_on(here.load(&key("aa"))).unwrap().as_ref() == Some(&new));
    // Invalidations arrive on the other runtime now.
    until("a copy again", || uses_copies(&redis, &other, &here));
    assert!(other.block_on(there.delete(&key("aa"))).unwrap());
    until("the end", || other.block_on(here.load(&key("aa"))).unwrap().is_none());
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn copies_are_kept_fresh_when_the_first_runtime_has_ended() {
    copies_outlive(current_thread(), |ended| {
        drop(ended);
        None
    });
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn copies_are_kept_fresh_when_the_first_runtime_is_not_driven() {
    copies_outlive(current_thread(), Some);
}
