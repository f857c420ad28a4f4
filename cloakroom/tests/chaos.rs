//! Failovers, moves and faults of Redis and MariaDB under load. A history of what every visitor was told decides whether anything that
//! was acknowledged is lost, anything that had ended lives, or any session went back.

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

/// A process over the Redis at `url`.
async fn node(url: &str) -> Manager {
    let provider = RedisProvider::connect(url).await.unwrap();
    Manager::builder(provider).build().unwrap()
}

/// A process with a near cache.
async fn near(url: &str) -> Manager {
    let provider = RedisProvider::connect(url).await.unwrap();
    Manager::builder(Cached::builder(provider).watching().await.unwrap()).build().unwrap()
}

/// Lets the visitors have their way for a while.
async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
