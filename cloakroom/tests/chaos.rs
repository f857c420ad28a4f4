//! Failovers, resharding and faults of Redis and MariaDB under load. A history of every reply decides whether an acknowledged
//! change was lost, an ended session was revived, or a session went back to an earlier state.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "chaos/cluster.rs"]
mod cluster;
#[path = "chaos/full.rs"]
mod full;
#[path = "chaos/history.rs"]
mod history;
#[path = "chaos/resharding.rs"]
mod resharding;
#[path = "chaos/sentinels.rs"]
mod sentinels;
#[path = "chaos/stalls.rs"]
mod stalls;
mod support;
#[path = "chaos/swapped.rs"]
mod swapped;
#[path = "chaos/visitors.rs"]
mod visitors;
#[path = "chaos/waits.rs"]
mod waits;

use std::time::Duration;

use cloakroom::{Cached, Manager, RedisProvider};

/// Returns a manager on the Redis at `url`, which stands for a process.
async fn node(url: &str) -> Manager {
    let provider = RedisProvider::connect(url).await.unwrap();
    Manager::builder(provider).build().unwrap()
}

/// Returns a manager with a near cache.
async fn near_cache_node(url: &str) -> Manager {
    let provider = RedisProvider::connect(url).await.unwrap();
    Manager::builder(Cached::builder(provider).watching().await.unwrap()).build().unwrap()
}

/// Lets the visitors work for a while.
async fn wait_ms(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
