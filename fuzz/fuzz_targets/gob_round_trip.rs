//! Any Go session, decoded and encoded again, and with another key set and deleted: the same session each time.
#![no_main]

use cloakroom::{config::Codec, go::GoSession};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for codec in [Codec::GOB, Codec::SCS] {
        let Ok(session) = GoSession::read(codec, data) else { continue };
        let again = session.rewritten().expect("a session that was read can be written");
        assert!(session.means(&again).expect("a session that was written can be read"));
        // Encoding is stable from here on.
        assert_eq!(again.rewritten().expect("a session that was written can be read"), again);

        let beside = again.set("fuzz", &("new", 1)).expect("a value within the limits");
        assert_eq!(beside.get::<(String, u8)>("fuzz").expect("what was set"), Some(("new".to_owned(), 1)));
        if !again.keys().expect("readable").contains(&"fuzz".to_owned()) {
            let without = beside.set("fuzz", &()).expect("a deletion");
            assert_eq!(without, again, "other keys are unchanged");
        }
    }
});
