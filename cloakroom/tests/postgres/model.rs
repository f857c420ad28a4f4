//! Random sequences of calls, compared with a plain map.

use cloakroom::testkit::model::{self, Op};
use cloakroom::{ManualClock, PostgresProvider};
use proptest::prelude::*;

use crate::server::{a_table, plain};

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(any::<[u8; Op::BYTES]>().prop_map(Op::from), 1..80)
}

fn goes_as_the_model_does(url: &str, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let time = ManualClock::default();
        let builder = PostgresProvider::builder(url).table(&a_table());
        let provider = builder.clock(time.clock()).connect().await.unwrap();
        model::check(provider, &time, ops).await;
    });
}

proptest! {
    // Few cases, since each step is a dozen statements.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[ignore = "needs postgres: cargo xtask test"]
    fn the_provider_matches_the_model_on_tcp(ops in ops()) {
        goes_as_the_model_does(&plain(), &ops);
    }
}
