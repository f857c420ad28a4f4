//! A primary under sentinels that stops, is replaced, and resumes as a primary, like a virtual machine that was migrated.

use std::time::{Duration, Instant};

use cloakroom::{ErrorKind, Manager};
use http::HeaderMap;
use servers::{Flavor, RedisOptions, RedisSentinels};
use tokio::task::block_in_place;

use crate::history::Tolerance;
use crate::visitors::{Load, PATIENCE};
use crate::{near_cache_node, node, wait_ms};

/// The time before the stop in which the primary may have acknowledged changes without replicating them.
const IN_FLIGHT: Duration = Duration::from_millis(150);
/// A near cache notices within this time that invalidations have stopped.
const HEARTBEATS: Duration = Duration::from_millis(2500);
/// Sentinels reconfigure a former primary after about eight seconds. Recovery must be faster than that.
const RECOVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Default)]
struct Failover {
    flavor: Flavor,
    min_replicas: bool,
    near: bool,
    /// The visitors pause while the primary is stopped, so that no call notices a failed connection.
    quiet: bool,
}

impl Failover {
    fn group(self) -> RedisSentinels {
        let mut options = RedisOptions::of(self.flavor);
        if self.min_replicas {
            let settings = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
            options.settings.extend(settings.map(str::to_owned));
        }
        RedisSentinels::with(options)
    }

    async fn node(self, url: &str) -> Manager {
        if self.near { near_cache_node(url).await } else { node(url).await }
    }

    async fn run(self) {
        let group = block_in_place(|| self.group());
        let url = format!("redis+sentinel://{}/{}", group.addresses().join(","), RedisSentinels::NAME);
        let load = Load::start(vec![self.node(&url).await, self.node(&url).await]);
        wait_ms(500).await;
        if self.quiet {
            load.pause().await;
        }
        let primary = group.primary().expect("the sentinels know one");
        let stopped = Instant::now();
        group.node(primary).pause();
        let in_flight = (stopped - IN_FLIGHT, Instant::now());
        block_in_place(|| group.await_failover_of(primary));
        load.join(self.node(&url).await);
        group.node(primary).resume();
        load.resume();
        let recovery = load.recovery().await;
        wait_ms(2500).await;
        let unseen = if self.near { HEARTBEATS } else { Duration::ZERO };
        let verdict = load.end(Tolerance { lost: vec![in_flight], unseen }).await;
        servers::tell(format_args!("stopped and resumed: {verdict}; recovery: {recovery:.0?}"));
        verdict.assert_clean();
        assert!(recovery < RECOVERY, "the processes wrote to the former primary for {recovery:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_stopped_under_load_and_resumed_is_not_used() {
    Failover::default().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_stopped_without_load_is_not_used() {
    Failover { quiet: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_resumed_primary_without_replicas_is_not_used() {
    Failover { quiet: true, min_replicas: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn near_caches_do_not_use_a_resumed_primary() {
    Failover { near: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn near_caches_do_not_use_a_primary_stopped_without_load() {
    Failover { near: true, quiet: true, min_replicas: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_resumed_primary_of_redis_6_2_is_not_used() {
    Failover { flavor: Flavor::Redis62, quiet: true, min_replicas: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_resumed_primary_of_valkey_9_is_not_used() {
    Failover { flavor: Flavor::Valkey9, quiet: true, ..Failover::default() }.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_without_its_replicas_accepts_no_change() {
    let group = block_in_place(|| Failover { min_replicas: true, ..Failover::default() }.group());
    let url = format!("redis+sentinel://{}/{}", group.addresses().join(","), RedisSentinels::NAME);
    let node = node(&url).await;
    let load = Load::start(vec![node.clone()]);
    wait_ms(500).await;
    for replica in [1, 2] {
        group.node(replica).pause();
    }
    // It refuses changes after a second without its replicas. What it acknowledges before that would be lost with it.
    let start = Instant::now();
    while begin(&node).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "a primary without replicas still accepts changes");
        wait_ms(20).await;
    }
    for _ in 0..20 {
        assert_eq!(begin(&node).await.unwrap_err().kind(), ErrorKind::Unavailable);
        node.start(&HeaderMap::new()).await.expect("reads are served");
    }
    for replica in [1, 2] {
        group.node(replica).resume();
    }
    load.recovery().await;
    wait_ms(500).await;
    let verdict = load.end(Tolerance::default()).await;
    servers::tell(format_args!("without replicas for a while: {verdict}"));
    verdict.assert_clean();
}

async fn begin(node: &Manager) -> cloakroom::Result<()> {
    let session = node.start(&HeaderMap::new()).await?;
    session.set("n", 0)?;
    session.release(&mut HeaderMap::new()).await.map(drop)
}
