//! Random sequences of calls, compared with a plain map.

use cloakroom::MySqlProvider;
use cloakroom::testkit::model::Op;
use proptest::prelude::*;

use crate::random::{self, ops};
use crate::server::{a_table, over_socket, over_tls, plain};

fn goes_as_the_model_does(dsn: &str, ops: &[Op]) {
    random::goes_as_the_model_does(ops, async |clock| {
        MySqlProvider::builder(dsn).table(&a_table()).clock(clock).connect().await.unwrap()
    });
}

proptest! {
    // Few cases, since each step is a dozen statements.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    #[ignore = "needs mariadbd: cargo xtask test"]
    fn the_provider_matches_the_model_on_tcp(ops in ops(80)) {
        goes_as_the_model_does(&plain(), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    #[ignore = "needs mariadbd: cargo xtask test"]
    fn the_provider_matches_the_model_on_tls(ops in ops(80)) {
        goes_as_the_model_does(&over_tls(), &ops);
    }

    #[test]
    #[ignore = "needs mariadbd: cargo xtask test"]
    fn the_provider_matches_the_model_on_a_socket(ops in ops(80)) {
        goes_as_the_model_does(&over_socket(), &ops);
    }
}
