//! A cluster's primary that stops, is replaced by its replica, and goes on.

use std::time::{Duration, Instant};

use servers::{Flavor, RedisCluster, RedisOptions};
use tokio::task::block_in_place;

use crate::history::Allowed;
use crate::visitors::Load;
use crate::{node, pass};

/// The time for which the stopped primary may have acknowledged changes and not yet passed them on.
const IN_FLIGHT: Duration = Duration::from_millis(150);
/// Until the others have told a primary that goes on what it is now, it serves as before.
const UNTOLD: Duration = Duration::from_millis(500);

async fn a_stopped_primary_is_left(flavor: Flavor, quiet: bool) {
    let cluster = block_in_place(|| RedisCluster::with(RedisOptions::of(flavor)));
    let url = format!("redis+cluster://{}", cluster.addresses()[..2].join(","));
    let load = Load::start(vec![node(&url).await, node(&url).await]);
    pass(500).await;
    if quiet {
        load.hush().await;
    }
    let stopped = Instant::now();
    cluster.node(0).pause();
    let in_flight = (stopped - IN_FLIGHT, Instant::now());
    block_in_place(|| cluster.await_failover_of(0));
    load.join(node(&url).await);
    cluster.node(0).resume();
    let resumed = Instant::now();
    load.wake();
    let recovery = load.recovery().await;
    pass(2500).await;
    let lost = vec![in_flight, (resumed, resumed + UNTOLD)];
    let verdict = load.end(Allowed { lost, unseen: UNTOLD }).await;
    servers::tell(format_args!(
        "{flavor:?}, a cluster's primary resumed: {verdict}; recovery: {recovery:.0?}"
    ));
    verdict.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clusters_resumed_primary_is_left() {
    a_stopped_primary_is_left(Flavor::Redis70, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clusters_primary_resumed_in_quiet_is_left() {
    a_stopped_primary_is_left(Flavor::Redis70, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_resumed_primary_of_a_6_2_cluster_is_left() {
    a_stopped_primary_is_left(Flavor::Redis62, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_resumed_primary_of_a_valkey_cluster_is_left() {
    a_stopped_primary_is_left(Flavor::Valkey9, true).await;
}
