//! The whole contract on the oldest supported Redis and on Valkey. `tests/redis.rs` runs it on Redis 7.0.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom::testkit::{Part, Store};
use cloakroom::{Cached, Clock, RedisProvider};
use servers::{Flavor, Redis, RedisCluster, RedisOptions, RedisSentinels};

/// One installation of each kind, shared by all tests of a release.
struct Release {
    server: LazyLock<Redis>,
    cluster: LazyLock<RedisCluster>,
    sentinels: LazyLock<RedisSentinels>,
}

impl Release {
    /// Returns a store with two handles that share no connections, like two processes.
    async fn server(&self, clock: Clock) -> Store {
        two_handles(&self.server.url(), &clock).await
    }

    async fn cluster(&self, clock: Clock) -> Store {
        let url = format!("redis+cluster://{}", self.cluster.addresses()[..2].join(","));
        two_handles(&url, &clock).await
    }

    async fn sentinels(&self, clock: Clock) -> Store {
        let hosts = self.sentinels.addresses().join(",");
        two_handles(&format!("redis+sentinel://{hosts}/{}", RedisSentinels::NAME), &clock).await
    }

    async fn near_cache(&self, clock: Clock) -> Store {
        let provider = open(&self.server.url(), &clock, &prefix()).await;
        let cached = Cached::builder(provider).clock(clock).watching().await.unwrap();
        without_repeated_parts(Store::new(cached).without(Part::Second, "on_a_server covers it"))
    }
}

fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str, clock: &Clock, prefix: &str) -> RedisProvider {
    RedisProvider::builder(url).prefix(prefix).clock(clock.clone()).connect().await.unwrap()
}

async fn two_handles(url: &str, clock: &Clock) -> Store {
    let prefix = prefix();
    without_repeated_parts(
        Store::new(open(url, clock, &prefix).await).with_second(open(url, clock, &prefix).await),
    )
}

/// Leaves out the parts of the contract that the tests on Redis 7.0 cover.
fn without_repeated_parts(store: Store) -> Store {
    let why = "tests/redis.rs covers it on Redis 7.0";
    store.without(Part::Planting, why).without(Part::Full, why).without(Part::ReadOnly, why)
}

/// Runs the whole contract on each kind of installation of each release.
macro_rules! releases {
    ($($release:ident: $flavor:ident, $ignored:literal;)*) => {
        $(mod $release {
            use super::*;

            static RELEASE: Release = Release {
                server: LazyLock::new(|| Redis::with(RedisOptions::of(Flavor::$flavor))),
                cluster: LazyLock::new(|| RedisCluster::with(RedisOptions::of(Flavor::$flavor))),
                sentinels: LazyLock::new(|| RedisSentinels::with(RedisOptions::of(Flavor::$flavor))),
            };

            cloakroom::conformance!(#[ignore = $ignored] on_a_server, |clock| RELEASE.server(clock));
            cloakroom::conformance!(#[ignore = $ignored] behind_a_near_cache, |clock| RELEASE.near_cache(clock));
            cloakroom::conformance!(#[ignore = $ignored] on_a_cluster, |clock| RELEASE.cluster(clock));
            cloakroom::conformance!(#[ignore = $ignored] with_sentinels, |clock| RELEASE.sentinels(clock));
        })*
    };
}

releases! {
    redis_6_2: Redis62, "needs Redis 6.2: cargo xtask test";
    valkey_9: Valkey9, "needs Valkey 9: cargo xtask test";
}
