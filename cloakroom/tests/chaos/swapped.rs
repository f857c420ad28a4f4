//! A primary that is replaced behind one address, as by a managed service, a load balancer or a virtual address.

use std::time::Duration;

use http::HeaderMap;
use servers::{Flavor, Proxy, Redis, RedisOptions, until};
use tokio::task::{JoinSet, block_in_place};

use crate::history::Tolerance;
use crate::visitors::{Load, PATIENCE, VISITORS};
use crate::{node, wait_ms};

/// A primary, its replica, and the address that leads to one of them.
struct Pair {
    primary: Redis,
    replica: Redis,
    proxy: Proxy,
}

impl Pair {
    fn start(flavor: Flavor) -> Pair {
        let primary = Redis::with(RedisOptions::of(flavor));
        let replica = Redis::with(RedisOptions::of(flavor));
        let proxy = Proxy::before(primary.address());
        let pair = Pair { primary, replica, proxy };
        follow(&pair.replica, &pair.primary);
        pair
    }

    fn url(&self) -> String {
        self.primary.url_at(self.proxy.port())
    }

    /// Makes the replica the primary, once it has everything.
    fn promote(&self) {
        until(PATIENCE, "the replica has everything", || {
            let info = self.primary.ask::<String>(&["INFO", "replication"]);
            let offset =
                |name: &str| info.lines().find_map(|line| line.split_once(name)?.1.split(',').next());
            (offset("offset=").is_some() && offset("offset=") == offset("master_repl_offset:")).then_some(())
        });
        self.replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
        self.proxy.lead_to(self.replica.address());
    }
}

fn follow(replica: &Redis, primary: &Redis) {
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.address().port().to_string()]);
    until(PATIENCE, "the replica follows", || {
        let info = replica.ask::<String>(&["INFO", "replication"]);
        info.contains("master_link_status:up").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn nothing_is_lost_if_the_address_moves_and_connections_end() {
    let pair = block_in_place(|| Pair::start(Flavor::default()));
    let load = Load::start(vec![node(&pair.url()).await, node(&pair.url()).await]);
    wait_ms(500).await;
    load.pause().await;
    block_in_place(|| pair.promote());
    pair.proxy.cut();
    pair.proxy.heal();
    load.resume();
    wait_ms(1500).await;
    load.recovery().await;
    let verdict = load.end(Tolerance::default()).await;
    servers::tell(format_args!("the address moved, connections ended: {verdict}"));
    verdict.assert_clean();
}

/// Connections stay with the former primary, which now follows the new one and takes no writes.
async fn a_demoted_primary_is_not_used(flavor: Flavor) {
    let pair = block_in_place(|| Pair::start(flavor));
    let load = Load::start(vec![node(&pair.url()).await, node(&pair.url()).await]);
    wait_ms(500).await;
    load.pause().await;
    block_in_place(|| {
        pair.promote();
        follow(&pair.primary, &pair.replica);
    });
    let before = load.history.errors().len();
    load.resume();
    let recovery = load.recovery().await;
    wait_ms(1500).await;
    let failed = load.history.errors().split_off(before);
    // A replica is behind by as long as replication takes.
    let verdict = load.end(Tolerance { unseen: Duration::from_millis(500), ..Tolerance::default() }).await;
    servers::tell(format_args!(
        "{flavor:?}, the former primary follows: {verdict}; recovery: {recovery:.0?}"
    ));
    verdict.assert_clean();
    // A refused write is sent to the new primary. The outcome of the writes that were in flight beside it is unknown.
    assert!(failed.len() <= VISITORS, "errors after the first refusal: {failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_demoted_primary_of_redis_7_0_is_not_used() {
    a_demoted_primary_is_not_used(Flavor::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_demoted_primary_of_redis_6_2_is_not_used() {
    a_demoted_primary_is_not_used(Flavor::Redis62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_demoted_primary_of_valkey_9_is_not_used() {
    a_demoted_primary_is_not_used(Flavor::Valkey9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_to_the_new_primary_closes_the_old_ones() {
    let pair = block_in_place(|| Pair::start(Flavor::default()));
    let here = node(&pair.url()).await;
    let load = Load::start(vec![here.clone()]);
    wait_ms(500).await;
    load.pause().await;
    // The former primary goes on as a primary. This process only finds out when it opens another connection for a crowd.
    block_in_place(|| pair.promote());
    let reaches_new =
        || pair.replica.ask::<String>(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count() > 1;
    until_crowded(&here, reaches_new).await;
    load.join(node(&pair.url()).await);
    load.resume();
    wait_ms(1500).await;
    let verdict = load.end(Tolerance::default()).await;
    servers::tell(format_args!("two primaries behind one address: {verdict}"));
    verdict.assert_clean();
}

/// Sends many requests at once, until `done` returns true.
async fn until_crowded(node: &cloakroom::Manager, done: impl Fn() -> bool) {
    let cookie = "__Host-id=".to_owned() + &"A".repeat(43);
    let headers = HeaderMap::from_iter([(http::header::COOKIE, cookie.try_into().unwrap())]);
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "no second connection is opened");
        let mut crowd = JoinSet::new();
        for _ in 0..300 {
            let (node, headers) = (node.clone(), headers.clone());
            crowd.spawn(async move { node.start(&headers).await.map(drop) });
        }
        crowd.join_all().await;
    }
}
