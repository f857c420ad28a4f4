//! Random sequences of calls, compared with a plain map.

use cloakroom::testkit::model::{self, Op};
use cloakroom::{ManualClock, SqliteProvider};
use proptest::prelude::*;

use crate::folder::DataFolder;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_provider_matches_the_model(
        ops in proptest::collection::vec(any::<[u8; Op::BYTES]>().prop_map(Op::from), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (folder, time) = (DataFolder::new(), ManualClock::default());
            let provider = SqliteProvider::builder(folder.path()).clock(time.clock()).connect().await.unwrap();
            model::check(provider, &time, &ops).await;
        });
    }
}
