//! The whole contract on the oldest Redis that is supported and on Valkey; `tests/redis.rs` has it on Redis 7.0.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom::testkit::{Part, Store};
use cloakroom::{Cached, Clock, RedisProvider};
use servers::{Flavor, Redis, RedisCluster, RedisOptions, RedisSentinels};

/// One installation of each kind, for all tests of a release.
struct Release {
    server: LazyLock<Redis>,
    cluster: LazyLock<RedisCluster>,
    sentinels: LazyLock<RedisSentinels>,
}

static REDIS_6_2: Release = Release {
    server: LazyLock::new(|| Redis::with(RedisOptions::of(Flavor::Redis62))),
    cluster: LazyLock::new(|| RedisCluster::with(RedisOptions::of(Flavor::Redis62))),
    sentinels: LazyLock::new(|| RedisSentinels::with(RedisOptions::of(Flavor::Redis62))),
};

static VALKEY_9: Release = Release {
    server: LazyLock::new(|| Redis::with(RedisOptions::of(Flavor::Valkey9))),
    cluster: LazyLock::new(|| RedisCluster::with(RedisOptions::of(Flavor::Valkey9))),
    sentinels: LazyLock::new(|| RedisSentinels::with(RedisOptions::of(Flavor::Valkey9))),
};

impl Release {
    /// Two handles with connections of their own, as two processes have them.
    async fn server(&self, clock: Clock) -> Store {
        two_sides(&self.server.url(), &clock).await
    }

    async fn cluster(&self, clock: Clock) -> Store {
        let url = format!("redis+cluster://{}", self.cluster.addresses()[..2].join(","));
        two_sides(&url, &clock).await
    }

    async fn sentinels(&self, clock: Clock) -> Store {
        let hosts = self.sentinels.addresses().join(",");
        two_sides(&format!("redis+sentinel://{hosts}/{}", RedisSentinels::NAME), &clock).await
    }

    async fn near(&self, clock: Clock) -> Store {
        let provider = open(&self.server.url(), &clock, &prefix()).await;
        let cached = Cached::builder(provider).clock(clock).watching().await.unwrap();
        as_elsewhere(Store::new(cached).without(Part::Second, "the servers without a cache have it"))
    }
}

fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str, clock: &Clock, prefix: &str) -> RedisProvider {
    RedisProvider::builder(url).prefix(prefix).clock(clock.clone()).connect().await.unwrap()
}

async fn two_sides(url: &str, clock: &Clock) -> Store {
    let prefix = prefix();
    as_elsewhere(Store::new(open(url, clock, &prefix).await).with_second(open(url, clock, &prefix).await))
}

/// Leaves out what the tests on Redis 7.0 give.
fn as_elsewhere(store: Store) -> Store {
    let why = "tests/redis.rs has it on Redis 7.0";
    store.without(Part::Planting, why).without(Part::Full, why).without(Part::ReadOnly, why)
}

cloakroom::conformance!(
    #[ignore = "needs Redis 6.2: cargo xtask test"]
    redis_6_2_on_a_server,
    |clock| REDIS_6_2.server(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Redis 6.2: cargo xtask test"]
    redis_6_2_behind_a_near_cache,
    |clock| REDIS_6_2.near(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Redis 6.2: cargo xtask test"]
    redis_6_2_on_a_cluster,
    |clock| REDIS_6_2.cluster(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Redis 6.2: cargo xtask test"]
    redis_6_2_with_sentinels,
    |clock| REDIS_6_2.sentinels(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Valkey 9: cargo xtask test"]
    valkey_9_on_a_server,
    |clock| VALKEY_9.server(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Valkey 9: cargo xtask test"]
    valkey_9_behind_a_near_cache,
    |clock| VALKEY_9.near(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Valkey 9: cargo xtask test"]
    valkey_9_on_a_cluster,
    |clock| VALKEY_9.cluster(clock)
);

cloakroom::conformance!(
    #[ignore = "needs Valkey 9: cargo xtask test"]
    valkey_9_with_sentinels,
    |clock| VALKEY_9.sentinels(clock)
);
