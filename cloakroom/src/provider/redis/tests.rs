//! What only the inside can do: a move that dies between its steps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::sync::Arc;
use std::time::Duration;

use servers::RedisCluster;

use super::script::Answer;
use super::store::Store;
use super::store::moves::Move;
use super::{RedisProvider, settings};
use crate::clock::Clock;
use crate::id::StoreKey;
use crate::provider::{Created, Provider, Renamed, Updated};
use crate::record::Record;
use crate::testkit::{base, record};

/// How far a move comes before its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    Noted,
    Copied,
    Ended,
}

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn sample(version: u64) -> Record {
    record(&Clock::system()).principal("alice").version(version).value("n", version).build()
}

async fn on(cluster: &RedisCluster, prefix: &str) -> RedisProvider {
    let url = format!("redis+cluster://{}", cluster.addresses().join(","));
    let builder = RedisProvider::builder(url).prefix(prefix);
    // A note's time is three calls: what a dead one has left is free after 750 ms.
    builder
        .call_timeout(Duration::from_millis(250))
        .connect_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap()
}

/// The version of what is under a key.
async fn version(provider: &RedisProvider, name: &str) -> Option<u64> {
    provider.load(&key(name)).await.unwrap().map(|record| record.version())
}

fn a_move(store: &Arc<Store>) -> Move {
    Move {
        store: Arc::clone(store),
        old: key("old"),
        new: key("new"),
        record: sample(2),
        tombstone: None,
        expected: 1,
        token: *b"a token of sixty",
    }
}

async fn dies(store: &Arc<Store>, when: Dies) {
    let step = a_move(store);
    assert_eq!(step.begin().await.unwrap(), Answer::Done);
    if when != Dies::Noted {
        assert_eq!(step.make().await.unwrap(), Answer::Done);
    }
    if when == Dies::Ended {
        assert_eq!(step.end().await.unwrap(), Answer::Done);
    }
}

/// Asks until the dead one's time is over.
async fn patiently<T, E: std::fmt::Debug>(mut call: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = std::time::Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(30), "{error:?}"),
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_move_that_dies_neither_loses_a_session_nor_makes_two() {
    let cluster = RedisCluster::start();
    for when in [Dies::Noted, Dies::Copied] {
        for change in ["update", "delete", "rename"] {
            let provider = on(&cluster, &format!("{when:?}-{change}")).await;
            assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
            dies(&provider.0, when).await;
            assert_eq!(version(&provider, "old").await, Some(1), "it is where it was");
            match change {
                "update" => {
                    let updated =
                        patiently(async || provider.update(&key("old"), &sample(2), &base(1)).await).await;
                    assert_eq!(updated, Updated::Done);
                }
                "delete" => assert!(patiently(async || provider.delete(&key("old")).await).await),
                _ => {
                    let renamed =
                        async || provider.rename(&key("old"), &key("other"), &sample(2), 1, None).await;
                    assert_eq!(patiently(renamed).await, Renamed::Done);
                }
            }
            assert_eq!(version(&provider, "new").await, None, "{when:?}, {change}: there are two");
            let left = u64::from(change != "delete");
            assert_eq!(provider.count().await.unwrap(), left, "{when:?}, {change}");
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_move_that_was_taken_back_can_no_longer_end_the_session() {
    let cluster = RedisCluster::start();
    let provider = on(&cluster, "slow").await;
    assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
    let step = a_move(&provider.0);
    assert_eq!(step.begin().await.unwrap(), Answer::Done);
    assert_eq!(step.make().await.unwrap(), Answer::Done);
    // It is so slow that somebody takes it for dead.
    let updated = patiently(async || provider.update(&key("old"), &sample(2), &base(1)).await).await;
    assert_eq!(updated, Updated::Done);
    assert_eq!(step.end().await.unwrap(), Answer::Gone);
    assert_eq!(version(&provider, "old").await, Some(2));
    assert_eq!(version(&provider, "new").await, None);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_move_that_dies_when_decided_leaves_the_new_session() {
    let cluster = RedisCluster::start();
    let provider = on(&cluster, "decided").await;
    assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
    dies(&provider.0, Dies::Ended).await;
    assert_eq!(version(&provider, "old").await, None);
    assert_eq!(version(&provider, "new").await, Some(2));
    assert_eq!(provider.update(&key("new"), &sample(3), &base(2)).await.unwrap(), Updated::Done);
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn the_partitions_of_a_cluster_are_spread_over_its_primaries() {
    let cluster = RedisCluster::start();
    let provider = on(&cluster, settings::RedisSettings::DEFAULT_PREFIX).await;
    for n in 0..300 {
        assert_eq!(provider.create(&key(&format!("session-{n}")), &sample(1)).await.unwrap(), Created::Done);
    }
    assert_eq!(provider.count().await.unwrap(), 300);
    for node in 0..3 {
        let keys = cluster.node(node).ask::<i64>(&["EVAL", "return #redis.call('KEYS', '*:session:*')", "0"]);
        assert!((50..=150).contains(&keys), "primary {node} has {keys} of 300");
    }
}
