//! Random sequences of calls, compared with a plain map.

use cloakroom::PostgresProvider;
use cloakroom::testkit::model::Op;
use proptest::prelude::*;

use crate::random::{self, ops};
use crate::server::{a_table, plain};

fn goes_as_the_model_does(url: &str, ops: &[Op]) {
    random::goes_as_the_model_does(ops, async |clock| {
        PostgresProvider::builder(url).table(&a_table()).clock(clock).connect().await.unwrap()
    });
}

proptest! {
    // Few cases, since each step is a dozen statements.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[ignore = "needs postgres: cargo xtask test"]
    fn the_provider_matches_the_model_on_tcp(ops in ops(80)) {
        goes_as_the_model_does(&plain(), &ops);
    }
}
