//! Any bytes as a session of Go's: refused, or one whose every key answers, within memory in proportion to the bytes.
#![no_main]

use cloakroom::{ErrorKind, config::Codec, go::GoSession};
use cloakroom_fuzz::within;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// A value takes 32 bytes here and may take one in a gob; a list that grows has its former place too for a moment.
const BYTES_A_BYTE: usize = 192;

fuzz_target!(|data: &[u8]| {
    for codec in [Codec::GOB, Codec::SCS] {
        let session = match within(BYTES_A_BYTE * data.len() + 1024, || GoSession::read(codec, data)) {
            Ok(session) => session,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                continue;
            }
        };
        for key in session.keys().expect("it was read") {
            // Not every value is one that JSON can say: bytes, say, or a map with structs for keys.
            match session.get::<Value>(&key) {
                Ok(found) => assert!(found.is_some(), "a key that is listed is there"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Value),
            }
        }
    }
});
