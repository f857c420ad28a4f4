//! Any session of Go's, decoded, encoded and decoded again, and with a key set beside the others: the same each time.
#![no_main]

use cloakroom::{config::Codec, go::GoSession};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for codec in [Codec::GOB, Codec::SCS] {
        let Ok(session) = GoSession::read(codec, data) else { continue };
        let again = session.rewritten().expect("what was read is written");
        assert!(session.means(&again).expect("what was written is read"));
        // From here on there is nothing left that a writer does in its own way.
        assert_eq!(again.rewritten().expect("what was written is read"), again);

        let beside = again.set("fuzz", &("new", 1)).expect("a value within the limits");
        assert_eq!(beside.get::<(String, u8)>("fuzz").expect("what was set"), Some(("new".to_owned(), 1)));
        if !again.keys().expect("readable").contains(&"fuzz".to_owned()) {
            let without = beside.set("fuzz", &()).expect("a key that goes");
            assert_eq!(without, again, "what was not touched is as it was");
        }
    }
});
