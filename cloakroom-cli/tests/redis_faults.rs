//! Injects faults into Redis under load. Asserts what requests get in the meantime, how soon all succeed again, that
//! nothing acknowledged is lost, no logout is undone, and nobody gets another visitor's session.
//!
//! `CLOAKROOM_FAULT_ROUNDS` sets the number of faults on Redis 7.0, 102 by default. Redis 6.2 and Valkey 9 get a
//! quarter of it:
//! `cargo xtask faults redis --rounds 2000`

#![cfg(all(unix, feature = "redis"))]

#[path = "redis_faults/failover.rs"]
mod failover;
#[path = "faults/lateness.rs"]
mod lateness;
#[path = "faults/load.rs"]
mod load;
mod support;
#[path = "faults/visitor.rs"]
mod visitor;

use std::time::Duration;

use load::{Load, faults, rounds_or};
use servers::{Flavor, Proxy, Redis, RedisOptions};

async fn run_faults(flavor: Flavor) {
    let rounds = if flavor == Flavor::Redis70 { rounds_or(102) } else { rounds_or(102).div_ceil(4) };
    let mut redis = Redis::with(RedisOptions { durable: true, ..RedisOptions::of(flavor) });
    let proxy = Proxy::before(redis.address());
    let load = Load::start("redis", &redis.url_at(proxy.port()));
    let within = |_| Duration::from_secs(1);
    faults(&format!("{flavor:?}"), &mut redis, &proxy, load, rounds, within).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn redis_7_0_under_faults_lose_nothing() {
    run_faults(Flavor::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn redis_6_2_under_faults_lose_nothing() {
    run_faults(Flavor::Redis62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn valkey_9_under_faults_lose_nothing() {
    run_faults(Flavor::Valkey9).await;
}
