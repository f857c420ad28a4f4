//! Tests of renames that stop between two steps, which needs private functions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::sync::Arc;
use std::time::Duration;

use servers::RedisCluster;

use super::script::ScriptOutcome;
use super::store::RedisStore;
use super::store::moves::Move;
use super::{RedisProvider, settings};
use crate::clock::Clock;
use crate::id::StoreKey;
use crate::provider::{Created, Provider, Renamed, Updated};
use crate::record::Record;
use crate::testkit::{base, record};

/// The last step of a move before its process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopsAfter {
    Lock,
    Create,
    End,
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
    // A lock lasts for three calls, so a dead process blocks a session for 750 ms.
    builder
        .call_timeout(Duration::from_millis(250))
        .connect_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap()
}

/// Returns the version of the record under a key.
async fn version(provider: &RedisProvider, name: &str) -> Option<u64> {
    provider.load(&key(name)).await.unwrap().map(|record| record.version())
}

fn a_move(store: &Arc<RedisStore>) -> Move {
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

async fn start_move(store: &Arc<RedisStore>, when: StopsAfter) {
    let step = a_move(store);
    assert_eq!(step.lock_old().await.unwrap(), ScriptOutcome::Done);
    if when != StopsAfter::Lock {
        assert_eq!(step.create_new().await.unwrap(), ScriptOutcome::Done);
    }
    if when == StopsAfter::End {
        assert_eq!(step.end_old().await.unwrap(), ScriptOutcome::Done);
    }
}

/// Repeats a call until the lock of the dead process has expired.
async fn repeatedly<T, E: std::fmt::Debug>(mut call: impl AsyncFnMut() -> Result<T, E>) -> T {
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
async fn an_unfinished_rename_neither_loses_nor_doubles_a_session() {
    let cluster = RedisCluster::start();
    for when in [StopsAfter::Lock, StopsAfter::Create] {
        for change in ["update", "delete", "rename"] {
            let provider = on(&cluster, &format!("{when:?}-{change}")).await;
            assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
            start_move(&provider.0, when).await;
            assert_eq!(version(&provider, "old").await, Some(1), "the old session is unchanged");
            match change {
                "update" => {
                    let updated =
                        repeatedly(async || provider.update(&key("old"), &sample(2), &base(1)).await).await;
                    assert_eq!(updated, Updated::Done);
                }
                "delete" => assert!(repeatedly(async || provider.delete(&key("old")).await).await),
                _ => {
                    let renamed =
                        async || provider.rename(&key("old"), &key("other"), &sample(2), 1, None).await;
                    assert_eq!(repeatedly(renamed).await, Renamed::Done);
                }
            }
            assert_eq!(version(&provider, "new").await, None, "{when:?}, {change}: there are two sessions");
            let left = u64::from(change != "delete");
            assert_eq!(provider.count().await.unwrap(), left, "{when:?}, {change}");
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn an_undone_rename_can_no_longer_end_the_session() {
    let cluster = RedisCluster::start();
    let provider = on(&cluster, "slow").await;
    assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
    let step = a_move(&provider.0);
    assert_eq!(step.lock_old().await.unwrap(), ScriptOutcome::Done);
    assert_eq!(step.create_new().await.unwrap(), ScriptOutcome::Done);
    // The move is so slow that another process treats it as dead.
    let updated = repeatedly(async || provider.update(&key("old"), &sample(2), &base(1)).await).await;
    assert_eq!(updated, Updated::Done);
    assert_eq!(step.end_old().await.unwrap(), ScriptOutcome::Gone);
    assert_eq!(version(&provider, "old").await, Some(2));
    assert_eq!(version(&provider, "new").await, None);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_rename_stopped_after_its_last_step_leaves_the_new_session() {
    let cluster = RedisCluster::start();
    let provider = on(&cluster, "decided").await;
    assert_eq!(provider.create(&key("old"), &sample(1)).await.unwrap(), Created::Done);
    start_move(&provider.0, StopsAfter::End).await;
    assert_eq!(version(&provider, "old").await, None);
    assert_eq!(version(&provider, "new").await, Some(2));
    assert_eq!(provider.update(&key("new"), &sample(3), &base(2)).await.unwrap(), Updated::Done);
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clusters_sessions_are_spread_over_its_primaries() {
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
