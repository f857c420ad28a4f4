//! The provider keeps the whole contract: every case of the suite, and the model test.

use cloakroom::ManualClock;
use cloakroom::testkit::model::{self, Op};
use custom_provider::OwnProvider;
use proptest::prelude::*;

cloakroom::conformance!(own, |clock| async move { OwnProvider::new(clock) });

proptest! {
    #[test]
    fn the_provider_does_as_the_model_does(steps in proptest::collection::vec(any::<[u8; Op::BYTES]>(), 1..80)) {
        let ops: Vec<Op> = steps.into_iter().map(Op::from).collect();
        let time = ManualClock::default();
        model::run(OwnProvider::new(time.clock()), &time, &ops);
    }
}
