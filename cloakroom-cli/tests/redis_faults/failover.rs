//! Kills a primary under load, on a cluster and with sentinels. Replication is asynchronous, so the last acknowledged
//! writes may be lost with the primary, as Redis's documentation says. The test prints how many. It asserts that
//! service resumes and that nobody gets another visitor's session.

use std::time::{Duration, Instant};

use servers::{RedisCluster, RedisOptions, RedisSentinels};

use crate::load::Load;

fn durable() -> RedisOptions {
    RedisOptions { durable: true, ..RedisOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_cluster_whose_primary_is_killed_under_load_serves_again() {
    let mut cluster = RedisCluster::with(durable());
    let load = Load::start("redis_cluster", &format!("redis://{}", cluster.addresses().join(",")));
    for node in [0, 1] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        cluster.node_mut(node).kill();
        tokio::task::block_in_place(|| cluster.await_failover_of(node));
        let chosen = start.elapsed();
        let recovery = load.recovery().await;
        tokio::task::block_in_place(|| cluster.node_mut(node).restart());
        servers::tell(format_args!(
            "a cluster's primary was killed: its replica took over after {} ms, all served {} ms later",
            chosen.as_millis(),
            recovery.as_millis()
        ));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let counts = load.end().await;
    servers::tell(format_args!("cluster, 2 failovers: {counts}"));
    counts.assert_none_late_or_foreign();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_group_whose_primary_is_killed_under_load_serves_again() {
    let mut group = RedisSentinels::with(durable());
    let load =
        Load::start("redis_sentinel", &format!("redis+sentinel://{}/mymaster", group.addresses().join(",")));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| group.await_replicas());
        let primary = group.primary().expect("the sentinels know one");
        let start = Instant::now();
        group.node_mut(primary).kill();
        tokio::task::block_in_place(|| group.await_failover_of(primary));
        let chosen = start.elapsed();
        let recovery = load.recovery().await;
        tokio::task::block_in_place(|| group.node_mut(primary).restart());
        servers::tell(format_args!(
            "a group's primary was killed: another was chosen after {} ms, all served {} ms later",
            chosen.as_millis(),
            recovery.as_millis()
        ));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let counts = load.end().await;
    servers::tell(format_args!("sentinels, 2 failovers: {counts}"));
    counts.assert_none_late_or_foreign();
}
