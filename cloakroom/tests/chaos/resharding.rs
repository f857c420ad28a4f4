//! A cluster whose slots move from node to node under load.

use std::time::Duration;

use servers::{Flavor, RedisCluster, RedisOptions};
use tokio::task::block_in_place;

use crate::history::Allowed;
use crate::visitors::Load;
use crate::{node, pass};

/// How long a slot has keys on both sides: a fraction of what a call may take.
const BETWEEN: Duration = Duration::from_millis(200);

async fn slots_move_under_load(flavor: Flavor) {
    let cluster = block_in_place(|| RedisCluster::with(RedisOptions::of(flavor)));
    let url = format!("redis+cluster://{}", cluster.addresses()[..2].join(","));
    let load = Load::start(vec![node(&url).await, node(&url).await]);
    pass(500).await;
    let mut moved = 0;
    for partition in (0..64).step_by(6) {
        // The tag of a partition's keys.
        let slot = cluster.slot_of(&format!("cloakroom:{{{partition}}}:keys"));
        block_in_place(|| {
            for to in [1, 2] {
                cluster.move_slot(slot, to, BETWEEN);
                moved += 1;
            }
        });
    }
    pass(300).await;
    let verdict = load.end(Allowed::default()).await;
    servers::tell(format_args!("{flavor:?}, {moved} slots moved under load: {verdict}"));
    verdict.assert_clean();
    assert_eq!(verdict.errors, 0, "a slot that moves is waited for");
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
