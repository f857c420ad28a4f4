//! Any cookie and any stored bytes as a session of axum_session: a session, none, or an error, and never a panic.
#![no_main]

use cloakroom::migration::{AxumSessions, CookieKey};
use cloakroom_fuzz::{Anything, read_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str, &[u8])| {
    let (encrypted, cookie, record) = input;
    let key = CookieKey::from_bytes(&[7; 64]).expect("64 bytes");
    let old = AxumSessions::redis(Anything(record.to_vec()));
    read_all(&old.clone().signed(key.clone()), "session", cookie);
    read_all(&if encrypted { old.database_key(key) } else { old }, "session", "an-id");
});
