//! The cases of the contract for a store that refuses changes: a full server, and one without the replicas that it requires.

use std::sync::Arc;

use cloakroom::testkit::{Part, Store, conformance};
use cloakroom::{Clock, RedisProvider};
use servers::Redis;

/// Returns a store on a server of its own.
async fn refusing(clock: Clock) -> Store {
    let redis = Arc::new(Redis::start());
    let provider = RedisProvider::builder(redis.url()).clock(clock).connect().await.unwrap();
    let switch = |setting: &'static str| {
        let redis = Arc::clone(&redis);
        move |on: bool| {
            redis.ask::<()>(&["CONFIG", "SET", setting, if on { "1" } else { "0" }]);
            std::future::ready(())
        }
    };
    let store =
        Store::new(provider).with_full(switch("maxmemory")).with_read_only(switch("min-replicas-to-write"));
    store.without(Part::Planting, "on_a_server covers it").keep(redis)
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_full_server_reads_and_deletes() {
    conformance::run("a_full_store_reads_and_deletes", refusing);
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_read_only_server_reads_and_changes_nothing() {
    conformance::run("a_read_only_store_reads_and_changes_nothing", refusing);
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_server_that_refuses_changes_answers_pages_that_read() {
    conformance::run("a_store_that_refuses_changes_answers_pages_that_read", refusing);
}

#[test]
#[ignore = "needs redis-server: cargo xtask test"]
fn a_full_server_logs_out() {
    conformance::run("a_full_store_logs_out", refusing);
}
