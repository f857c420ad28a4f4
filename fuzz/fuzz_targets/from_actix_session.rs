//! Any cookie and any stored bytes as a session of actix-session: a session, none, or an error, and never a panic.
#![no_main]

use cloakroom::migration::{ActixSessions, CookieKey, OldId, OldSessions};
use cloakroom_fuzz::{Anything, at_once, read_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str, &[u8])| {
    let (signed, cookie, record) = input;
    let key = CookieKey::from_bytes(&[7; 64]).expect("64 bytes");
    let old = ActixSessions::new(Anything(record.to_vec()), key);
    read_all(&if signed { old.clone().signed() } else { old.clone() }, "id", cookie);
    let _ = at_once(OldSessions::load(&old, &OldId::new("any")));
});
