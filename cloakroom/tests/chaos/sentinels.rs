//! A primary that stops, is replaced, and goes on as if nothing had happened: a virtual machine that was moved.

use std::time::{Duration, Instant};

use cloakroom::{ErrorKind, Manager};
use http::HeaderMap;
use servers::{Flavor, RedisOptions, RedisSentinels};
use tokio::task::block_in_place;

use crate::history::Allowed;
use crate::visitors::{Load, PATIENCE};
use crate::{near, node, pass};

/// The time for which a primary that is stopped may have acknowledged changes and not yet passed them on.
const IN_FLIGHT: Duration = Duration::from_millis(150);
/// A near cache whose news have ended notices within this.
const HEARTBEATS: Duration = Duration::from_millis(2500);
/// Sentinels tell a former primary what it is after some eight seconds. Nobody may need that.
const RECOVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Default)]
struct Scene {
    flavor: Flavor,
    min_replicas: bool,
    near: bool,
    /// Nobody comes while the primary stands still, so that no connection is seen to fail.
    quiet: bool,
}

impl Scene {
    fn group(self) -> RedisSentinels {
        let mut options = RedisOptions::of(self.flavor);
        if self.min_replicas {
            let settings = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
            options.settings.extend(settings.map(str::to_owned));
        }
        RedisSentinels::with(options)
    }

    async fn node(self, url: &str) -> Manager {
        if self.near { near(url).await } else { node(url).await }
    }

    async fn play(self) {
        let group = block_in_place(|| self.group());
        let url = format!("redis+sentinel://{}/{}", group.addresses().join(","), RedisSentinels::NAME);
        let load = Load::start(vec![self.node(&url).await, self.node(&url).await]);
        pass(500).await;
        if self.quiet {
            load.hush().await;
        }
        let primary = group.primary().expect("the sentinels know one");
        let stopped = Instant::now();
        group.node(primary).pause();
        let in_flight = (stopped - IN_FLIGHT, Instant::now());
        block_in_place(|| group.await_failover_of(primary));
        load.join(self.node(&url).await);
        group.node(primary).resume();
        load.wake();
        let recovery = load.recovery().await;
        pass(2500).await;
        let unseen = if self.near { HEARTBEATS } else { Duration::ZERO };
        let verdict = load.end(Allowed { lost: vec![in_flight], unseen }).await;
        servers::tell(format_args!("stopped and resumed: {verdict}; recovery: {recovery:.0?}"));
        verdict.assert_clean();
        assert!(recovery < RECOVERY, "the processes wrote to the former primary for {recovery:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_stopped_under_load_and_resumed_is_left() {
    Scene::default().play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_stopped_in_quiet_and_resumed_is_left() {
    Scene { quiet: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_resumed_primary_without_replicas_is_left() {
    Scene { quiet: true, min_replicas: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn near_caches_leave_a_resumed_primary() {
    Scene { near: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn near_caches_leave_a_primary_resumed_in_quiet() {
    Scene { near: true, quiet: true, min_replicas: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_resumed_primary_of_redis_6_2_is_left() {
    Scene { flavor: Flavor::Redis62, quiet: true, min_replicas: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_resumed_primary_of_valkey_9_is_left() {
    Scene { flavor: Flavor::Valkey9, quiet: true, ..Scene::default() }.play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_cut_off_from_its_replicas_takes_no_change() {
    let group = block_in_place(|| Scene { min_replicas: true, ..Scene::default() }.group());
    let url = format!("redis+sentinel://{}/{}", group.addresses().join(","), RedisSentinels::NAME);
    let node = node(&url).await;
    let load = Load::start(vec![node.clone()]);
    pass(500).await;
    for replica in [1, 2] {
        group.node(replica).pause();
    }
    // After a second without a word of theirs it refuses; until then what it acknowledges would be lost with it.
    let start = Instant::now();
    while begin(&node).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "a primary without replicas goes on taking changes");
        pass(20).await;
    }
    for _ in 0..20 {
        assert_eq!(begin(&node).await.unwrap_err().kind(), ErrorKind::Unavailable);
        node.start(&HeaderMap::new()).await.expect("reads are served");
    }
    for replica in [1, 2] {
        group.node(replica).resume();
    }
    load.recovery().await;
    pass(500).await;
    let verdict = load.end(Allowed::default()).await;
    servers::tell(format_args!("without replicas for a while: {verdict}"));
    verdict.assert_clean();
}

async fn begin(node: &Manager) -> cloakroom::Result<()> {
    let session = node.start(&HeaderMap::new()).await?;
    session.set("n", 0)?;
    session.release(&mut HeaderMap::new()).await.map(drop)
}
