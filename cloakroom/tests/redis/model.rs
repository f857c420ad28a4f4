//! Random operations on the provider and on a plain map, which must give the same answers at every step.

use proptest::prelude::*;

use super::fixtures::{cluster, single};
use crate::random::{goes_as_the_model_does, ops};

proptest! {
    // Each step sends the server a dozen commands.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn a_server_agrees_with_the_model(ops in ops(60)) {
        goes_as_the_model_does(&ops, single);
    }

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn a_cluster_agrees_with_the_model(ops in ops(60)) {
        goes_as_the_model_does(&ops, cluster);
    }
}
