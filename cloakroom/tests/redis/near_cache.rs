//! A near cache in front of Redis, kept up to date by the server's invalidations.

use std::time::{Duration, Instant};

use cloakroom::testkit::{base, record};
use cloakroom::{
    Cached, Clock, ErrorKind, Provider, RedisProvider,
    providers::{Created, Record, StoreKey, Updated},
};
use servers::{Proxy, Redis};

use super::fixtures::{cluster_url, prefix, server_url};

/// Longer than any wait here takes on a busy machine.
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

/// Loads until `wanted` returns true.
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

/// Returns the number of GETs that the server has run.
pub(crate) fn gets(redis: &Redis) -> u64 {
    let stats: String = redis.ask(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn reads_of_a_cached_session_send_no_command() {
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
async fn a_change_on_one_node_is_seen_on_the_other() {
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
    until(&here, "the session created again", |loaded| loaded.unwrap().is_some()).await;
    let _: String = redis.ask(&["FLUSHALL"]);
    until(&here, "the end of all sessions", |loaded| loaded.unwrap().is_none()).await;
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn copies_are_used_again_only_once_the_server_is_back() {
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
        // Invalidations may resume a little after the server answers.
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
async fn a_silently_dead_connection_ends_the_use_of_copies() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.address());
    let url = format!("redis://127.0.0.1:{}/", proxy.port());
    let here = near(&url).await;
    let first = create(&here).await;
    until(&here, "the new session", |loaded| loaded.unwrap().as_ref() == Some(&first)).await;
    proxy.blackhole();
    // The invalidation of this change cannot reach the node.
    assert!(RedisProvider::connect(redis.url()).await.unwrap().delete(&key()).await.unwrap());
    until(&here, "the end of the copies", |loaded| !loaded.is_ok_and(|found| found.is_some())).await;
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_watching_cache_on_a_cluster_is_refused_with_advice() {
    let provider = RedisProvider::connect(cluster_url()).await.unwrap();
    let error = Cached::builder(provider).watching().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("within("), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_refuses_client_tracking_is_an_error() {
    let redis = Redis::start();
    redis.ask::<()>(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client|tracking"]);
    let url = redis.url().replace("redis://", "redis://app:secret@");
    let provider = RedisProvider::connect(url).await.unwrap();
    create(&provider).await;
    let refused = Cached::builder(provider).watching().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("NOPERM"), "{refused}");
}
