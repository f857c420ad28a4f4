//! A cluster whose slots are moved from node to node under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use servers::{Flavor, RedisCluster, RedisOptions};
use tokio::task::block_in_place;

use crate::history::Tolerance;
use crate::visitors::{Load, VISITORS};
use crate::{node, wait_ms};

/// The time for which a slot has keys on both nodes: a fraction of the time that a call may take.
const BETWEEN: Duration = Duration::from_millis(200);
/// Half of the time that a call may take. A new id on a cluster needs two slots.
const CALL: Duration = Duration::from_millis(500);

async fn slots_move_under_load(flavor: Flavor) {
    let cluster = block_in_place(|| RedisCluster::with(RedisOptions::of(flavor)));
    let url = format!("redis+cluster://{}", cluster.addresses()[..2].join(","));
    let load = Load::start(vec![node(&url).await, node(&url).await]);
    wait_ms(500).await;
    let mut took = Vec::new();
    for partition in (0..64).step_by(6) {
        // The tag of a partition's keys.
        let slot = cluster.slot_of(&format!("cloakroom:{{{partition}}}:keys"));
        for to in [1, 2] {
            let start = Instant::now();
            block_in_place(|| cluster.move_slot(slot, to, BETWEEN));
            took.push(start.elapsed());
            wait_ms(150).await;
        }
    }
    wait_ms(300).await;
    let history = Arc::clone(&load.history);
    let verdict = load.end(Tolerance::default()).await;
    servers::tell(format_args!("{flavor:?}, {} slots moved under load: {verdict}", took.len()));
    verdict.assert_clean();
    // On a busy machine a move may take longer than a call may.
    let slow = took.iter().filter(|took| **took > CALL).count();
    let moving = ["TRYAGAIN", "MOVED", "ASK", "CLUSTERDOWN", "being renamed to another slot"];
    let errors = history.errors();
    let refused: Vec<_> =
        errors.iter().filter(|error| moving.iter().any(|code| error.contains(code))).collect();
    assert!(
        refused.len() <= slow * VISITORS,
        "{slow} moves were slow, and these calls were refused: {refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn live_resharding_loses_and_refuses_nothing() {
    slots_move_under_load(Flavor::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn live_resharding_of_redis_6_2_loses_and_refuses_nothing() {
    slots_move_under_load(Flavor::Redis62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn live_resharding_of_valkey_9_loses_and_refuses_nothing() {
    slots_move_under_load(Flavor::Valkey9).await;
}
