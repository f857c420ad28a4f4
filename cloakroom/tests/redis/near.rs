//! A near cache in front of Redis: kept right by what the server tells.

use std::time::{Duration, Instant};

use cloakroom::testkit::{base, record};
use cloakroom::{
    Cached, Clock, ErrorKind, Provider, RedisProvider,
    providers::{Created, Record, StoreKey, Updated},
};
use servers::{Proxy, Redis};

use super::fixtures::{cluster_url, prefix, server_url};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn watching(clock: Clock) -> Cached<RedisProvider> {
    let provider = RedisProvider::builder(server_url()).prefix(prefix()).clock(clock.clone()).connect();
    Cached::builder(provider.await.unwrap()).clock(clock).watching().await.unwrap()
}

async fn near(url: &str) -> Cached<RedisProvider> {
    Cached::builder(RedisProvider::connect(url).await.unwrap()).watching().await.unwrap()
}

fn key() -> StoreKey {
    "aa".parse().unwrap()
}

async fn create(provider: &impl Provider) -> Record {
    let record = record(&Clock::system()).principal("alice").value("n", 1).build();
    assert_eq!(provider.create(&key(), &record).await.unwrap(), Created::Done);
    record
}

/// Loads until `wanted` says that this is what it waited for.
async fn until(
    provider: &impl Provider,
    what: &str,
    wanted: impl Fn(cloakroom::Result<Option<Record>>) -> bool,
) {
    let start = Instant::now();
    while !wanted(provider.load(&key()).await) {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many GETs the server has seen.
pub(crate) fn gets(redis: &Redis) -> u64 {
    let stats: String = redis.ask(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn reads_of_a_session_in_use_ask_the_server_nothing() {
    let redis = Redis::start();
    let (here, there) = (near(&redis.url()).await, near(&redis.url()).await);
    let first = create(&there).await;
    until(&here, "the new session", |loaded| loaded.unwrap().as_ref() == Some(&first)).await;
    let before = gets(&redis);
    for _ in 0..1000 {
        assert_eq!(here.load(&key()).await.unwrap(), Some(first.clone()));
    }
    assert_eq!(gets(&redis), before);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn what_one_node_changes_or_ends_the_other_sees_without_asking_again() {
    let redis = Redis::start();
    let (here, there) = (near(&redis.url()).await, near(&redis.url()).await);
    let first = create(&there).await;
    until(&here, "the new session", |loaded| loaded.unwrap().as_ref() == Some(&first)).await;
    let second = record(&Clock::system()).principal("alice").version(2).value("n", 2).build();
    assert_eq!(there.update(&key(), &second, &base(1)).await.unwrap(), Updated::Done);
    until(&here, "the change", |loaded| loaded.unwrap().as_ref() == Some(&second)).await;
    assert!(there.delete(&key()).await.unwrap());
    until(&here, "the end", |loaded| loaded.unwrap().is_none()).await;
    create(&there).await;
    until(&here, "another beginning", |loaded| loaded.unwrap().is_some()).await;
    let _: String = redis.ask(&["FLUSHALL"]);
    until(&here, "that all is gone", |loaded| loaded.unwrap().is_none()).await;
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn with_the_server_gone_no_copy_is_used_and_with_it_back_they_are() {
    let mut redis = Redis::start();
    let here = near(&redis.url()).await;
    let first = create(&here).await;
    until(&here, "the new session", |loaded| loaded.unwrap().as_ref() == Some(&first)).await;
    redis.kill();
    until(&here, "an error", |loaded| loaded.is_err()).await;
    redis.restart();
    until(&here, "the server", |loaded| loaded.is_ok_and(|found| found.is_none())).await;
    let again = create(&here).await;
    let start = Instant::now();
    loop {
        // News may come a little after the server itself.
        let before = gets(&redis);
        for _ in 0..10 {
            assert_eq!(here.load(&key()).await.unwrap(), Some(again.clone()));
        }
        if gets(&redis) == before {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "copies are not used again");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_that_dies_without_a_word_is_noticed() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.address());
    let url = format!("redis://127.0.0.1:{}/", proxy.port());
    let here = near(&url).await;
    let first = create(&here).await;
    until(&here, "the new session", |loaded| loaded.unwrap().as_ref() == Some(&first)).await;
    proxy.blackhole();
    // Changed where this node cannot hear of it.
    assert!(RedisProvider::connect(redis.url()).await.unwrap().delete(&key()).await.unwrap());
    until(&here, "that nothing is heard", |loaded| !loaded.is_ok_and(|found| found.is_some())).await;
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_cluster_is_refused_with_what_to_do() {
    let provider = RedisProvider::connect(cluster_url()).await.unwrap();
    let error = Cached::builder(provider).watching().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("within("), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_will_not_tell_of_changes_is_an_error_and_no_near_cache_without_news() {
    let redis = Redis::start();
    redis.ask::<()>(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client|tracking"]);
    let url = redis.url().replace("redis://", "redis://app:secret@");
    let provider = RedisProvider::connect(url).await.unwrap();
    create(&provider).await;
    let refused = Cached::builder(provider).watching().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("NOPERM"), "{refused}");
}
