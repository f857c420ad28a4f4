//! Our own providers go the same random way as a plain map, and answer the same at every step.

use std::collections::BTreeSet;

use cloakroom::testkit::model::Op;

#[test]
fn eight_bytes_reach_every_kind_of_step() {
    let kinds: BTreeSet<String> = (0..=255)
        .map(|kind| format!("{:?}", Op::from([kind, 0, 0, 0, 0, 0, 0, 0])))
        .map(|op| op.split([' ', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds.len(), 11, "{kinds:?}");
}
