//! A primary of a cluster that stops, is replaced by its replica, and resumes.

use std::time::{Duration, Instant};

use servers::{Flavor, RedisCluster, RedisOptions};
use tokio::task::block_in_place;

use crate::history::Tolerance;
use crate::visitors::Load;
use crate::{node, wait_ms};

/// The time before the stop in which the primary may have acknowledged changes without replicating them.
const IN_FLIGHT: Duration = Duration::from_millis(150);
/// The time for which a resumed primary serves as before, until the other nodes tell it that it was replaced.
const UNTOLD: Duration = Duration::from_millis(500);

async fn a_resumed_primary_is_not_used(flavor: Flavor, quiet: bool) {
    let cluster = block_in_place(|| RedisCluster::with(RedisOptions::of(flavor)));
    let url = format!("redis+cluster://{}", cluster.addresses()[..2].join(","));
    let load = Load::start(vec![node(&url).await, node(&url).await]);
    wait_ms(500).await;
    if quiet {
        load.pause().await;
    }
    let stopped = Instant::now();
    cluster.node(0).pause();
    let in_flight = (stopped - IN_FLIGHT, Instant::now());
    block_in_place(|| cluster.await_failover_of(0));
    load.join(node(&url).await);
    cluster.node(0).resume();
    let resumed = Instant::now();
    load.resume();
    let recovery = load.recovery().await;
    wait_ms(2500).await;
    let lost = vec![in_flight, (resumed, resumed + UNTOLD)];
    let verdict = load.end(Tolerance { lost, unseen: UNTOLD }).await;
    servers::tell(format_args!(
        "{flavor:?}, a cluster's primary resumed: {verdict}; recovery: {recovery:.0?}"
    ));
    verdict.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clusters_resumed_primary_is_not_used() {
    a_resumed_primary_is_not_used(Flavor::Redis70, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clusters_primary_resumed_without_load_is_not_used() {
    a_resumed_primary_is_not_used(Flavor::Redis70, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_resumed_primary_of_a_6_2_cluster_is_not_used() {
    a_resumed_primary_is_not_used(Flavor::Redis62, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_resumed_primary_of_a_valkey_cluster_is_not_used() {
    a_resumed_primary_is_not_used(Flavor::Valkey9, true).await;
}
