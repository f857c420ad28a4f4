//! Random sequences of calls on a provider, compared with a plain map.

use cloakroom::testkit::Store;
use cloakroom::testkit::model::{self, Op};
use cloakroom::{Clock, ManualClock};
use proptest::prelude::*;

/// Returns sequences of fewer than `end` calls.
pub(crate) fn ops(end: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(any::<[u8; Op::BYTES]>().prop_map(Op::from), 1..end)
}

/// Runs the calls on the store that `open` returns, and compares each answer with the model's.
pub(crate) fn goes_as_the_model_does<S: Into<Store>>(ops: &[Op], open: impl AsyncFnOnce(Clock) -> S) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let time = ManualClock::default();
        model::check(open(time.clock()).await, &time, ops).await;
    });
}
