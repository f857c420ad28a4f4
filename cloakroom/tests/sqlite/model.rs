//! Random sequences of calls, compared with a plain map.

use cloakroom::SqliteProvider;
use proptest::prelude::*;

use crate::folder::DataFolder;
use crate::random::{goes_as_the_model_does, ops};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_provider_matches_the_model(ops in ops(80)) {
        let folder = DataFolder::new();
        goes_as_the_model_does(&ops, async |clock| {
            SqliteProvider::builder(folder.path()).clock(clock).connect().await.unwrap()
        });
    }
}
