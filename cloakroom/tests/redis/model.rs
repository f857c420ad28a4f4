//! Random operations on the provider and on a plain map, which must give the same answers at every step.

use std::future::Future;

use cloakroom::testkit::Store;
use cloakroom::testkit::model::{self, Op};
use cloakroom::{Clock, ManualClock};
use proptest::prelude::*;

use super::fixtures::{cluster, single};

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(any::<[u8; Op::BYTES]>().prop_map(Op::from), 1..60)
}

fn walk<R: Future<Output = Store>>(ops: &[Op], factory: impl FnOnce(Clock) -> R) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let time = ManualClock::default();
        model::check(factory(time.clock()).await, &time, ops).await;
    });
}

proptest! {
    // Each step sends the server a dozen commands.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn a_server_agrees_with_the_model(ops in ops()) {
        walk(&ops, single);
    }

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn a_cluster_agrees_with_the_model(ops in ops()) {
        walk(&ops, cluster);
    }
}
