//! Any bytes as a Go session: an error, or a session whose every key is readable, with memory proportional to the input.
#![no_main]

use cloakroom::{ErrorKind, config::Codec, go::GoSession};
use cloakroom_fuzz::within;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The allowed bytes of memory per byte of input. A value takes 32 bytes, and may take one in a gob; a growing list exists twice.
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
            // JSON cannot express every value, such as bytes or a map with structs as keys.
            match session.get::<Value>(&key) {
                Ok(found) => assert!(found.is_some(), "a listed key has a value"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Value),
            }
        }
    }
});
