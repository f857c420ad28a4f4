//! Any cookie and any stored bytes as a session of tower-sessions: a session, none, or an error, and never a panic.
#![no_main]

use cloakroom::migration::{CookieKey, TowerSessions};
use cloakroom_fuzz::{Anything, read_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &str, &[u8])| {
    let (signed, cookie, record) = input;
    let old = TowerSessions::new(Anything(record.to_vec())).axum_login(|_| async { Ok(true) });
    let key = CookieKey::from_bytes(&[7; 64]).expect("64 bytes");
    let read = if signed { old.clone().signed(key) } else { old.clone().private(key) };
    read_all(&read, "id", cookie);
    read_all(&old, "id", cookie);
    // An id that any record can stand under.
    read_all(&old, "id", "EA8ODQwLCgkIBwYFBAMCAQ");
});
