//! Our own providers go the same random way as a plain map, and answer the same at every step.

use std::collections::BTreeSet;

use cloakroom::testkit::model::{self, Op};
use cloakroom::{FileProvider, ManualClock, MemoryProvider};
use proptest::prelude::*;

/// A random way of up to 80 steps.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(any::<[u8; Op::BYTES]>().prop_map(Op::from), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_memory_provider_does_as_the_model_does(ops in ops()) {
        let time = ManualClock::default();
        model::run(MemoryProvider::builder().clock(time.clock()).build(), &time, &ops);
    }
}

proptest! {
    // Each step is a dozen of system calls.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_file_provider_does_as_the_model_does(ops in ops()) {
        let time = ManualClock::default();
        let folder = tempfile::tempdir().unwrap();
        let provider = FileProvider::builder(folder.path()).clock(time.clock()).connect().unwrap();
        model::run((provider, folder), &time, &ops);
    }
}

#[test]
fn eight_bytes_reach_every_kind_of_step() {
    let kinds: BTreeSet<String> = (0..=255)
        .map(|kind| format!("{:?}", Op::from([kind, 0, 0, 0, 0, 0, 0, 0])))
        .map(|op| op.split([' ', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}
