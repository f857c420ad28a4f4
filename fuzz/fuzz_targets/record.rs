//! Any bytes as a stored record: an error, or a session on which every call works and writes a readable record.
#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cloakroom::{
    ErrorKind, Manager, ManualClock, Principal, Provider, Result, Session, SessionId,
    providers::{
        Capabilities, Collected, Created, Cursor, IndexEntry, Page, Record, Renamed, StoreKey, Touched,
        Updated,
    },
};
use cloakroom_fuzz::at_once;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let record = match Record::from_bytes(data) {
        Ok(record) => record,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Corrupt),
    };
    assert_eq!(record.as_bytes(), data);
    as_documented(&record);
    look_at(&record);
    if data[5] & 0x80 != 0 {
        // A sealed record has no session without its keys.
        return;
    }
    if !is_of_this_release(&record) {
        return is_left_alone(&record);
    }
    in_a_session(&record, |session| {
        session
            .set("fuzz", "new")
            .map(|()| assert_eq!(session.get::<String>("fuzz").unwrap().unwrap(), "new"))
    });
    in_a_session(&record, |session| session.clear());
    in_a_session(&record, |session| session.regenerate());
    in_a_session(&record, |session| session.authenticate(Principal::new("fuzz")?));
    in_a_session(&record, |session| session.destroy().and_then(|()| session.set("fuzz", "new")));
    in_a_session(&record, |_| Ok(()));
});

/// Compares the header with docs/format.md, read in the simplest way.
fn as_documented(record: &Record) {
    let bytes = record.as_bytes();
    let number = |at: usize, width: usize| {
        bytes[at..at + width].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    assert!(bytes.starts_with(b"CLKR") && bytes[4] != 0 && (bytes[4] > 1 || bytes[6..8] == [0, 0]));
    let (fields, data) = (number(64, 4), number(68, 4));
    assert!(fields <= 4096);
    assert_eq!(72 + fields + data, bytes.len() as u64);
    assert_eq!(record.data().len() as u64, data);
    assert_eq!(record.version(), number(8, 8));
    let latest = Duration::from_secs(253_402_300_799);
    let ends = Duration::from_millis(number(40, 8).min(number(48, 8))).min(latest);
    assert_eq!(record.expires(), SystemTime::UNIX_EPOCH + ends);
}

/// Returns true if this release must read the data, as docs/format.md says.
fn is_of_this_release(record: &Record) -> bool {
    let bytes = record.as_bytes();
    let mut fields = &bytes[72..bytes.len() - record.data().len()];
    let mut known = bytes[4] == 1 && matches!(bytes[5] & 0x7f, 1..=4);
    while let [tag, high, low, rest @ ..] = fields {
        known &= matches!(tag, 1..=7 | 128..);
        fields = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    known
}

/// Checks that a request for a record of a newer release gets an error and changes nothing.
fn is_left_alone(record: &Record) {
    let store = Everywhere(Arc::new(Mutex::new(record.clone())));
    let time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    let manager =
        Manager::builder(store.clone()).clock(time.clock()).build().expect("settings that go together");
    let id: SessionId = "A".repeat(43).parse().expect("the form of an id");
    match at_once(manager.session(&id)) {
        Ok(found) => assert!(found.is_none() && record.is_tombstone()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Incompatible),
    }
    assert_eq!(*store.record(), *record);
}

fn look_at(record: &Record) {
    let meta = record.meta();
    let _ =
        (meta.created(), meta.last_active(), meta.expires(), meta.absolute_deadline(), meta.authenticated());
    let _ = format!("{record:?}");
    assert_eq!(meta.principal(), record.principal().as_ref());
    assert_eq!((meta.version(), meta.expires()), (record.version(), record.expires()));
    assert!(record.as_bytes().ends_with(record.data()));

    let mut touched = record.clone();
    touched.touch(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!(readable(&touched), touched);
    assert_eq!((touched.version(), touched.data()), (record.version(), record.data()));
    assert_eq!(touched.is_tombstone(), record.is_tombstone());
    assert!(touched.expires() >= record.expires());
}

/// Runs a request on a store that has `record` under every key: `change`, and the commit.
fn in_a_session(record: &Record, change: impl FnOnce(&Session) -> Result<()>) {
    let store = Everywhere(Arc::new(Mutex::new(record.clone())));
    let time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    let builder = Manager::builder(store.clone()).clock(time.clock()).rotate_every(Duration::from_secs(3600));
    let manager = builder.build().expect("settings that go together");
    let id: SessionId = "A".repeat(43).parse().expect("the form of an id");
    let Some(session) = at_once(manager.session(&id)).expect("this store does not fail") else { return };
    let keys = session.keys().expect("what was checked when it was read");
    for key in keys.iter().map(String::as_str).chain(["absent"]) {
        let contained = session.contains(key).expect("checked data");
        assert_eq!(contained, keys.iter().any(|other| other == key));
        // JSON cannot express every value, such as bytes or a map with numbers as keys.
        if let Err(error) = session.get::<Value>(key) {
            assert_eq!(error.kind(), ErrorKind::Value);
        }
    }
    let _ =
        (session.principal(), session.created(), session.last_active(), session.expires(), session.handle());
    if let Err(error) = change(&session) {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
    let keys = || session.keys().expect("readable data").into_iter().collect::<BTreeSet<_>>();
    let before = keys();
    // The login of another user drops the data, which is visible only after the commit.
    let drops =
        record.principal().is_some_and(|former| session.principal().is_some_and(|user| user != former));
    match at_once(session.release(&mut HeaderMap::new())) {
        // The stored keys are those that the request saw.
        Ok(_) => assert_eq!(keys(), if drops { BTreeSet::new() } else { before }),
        Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}"),
    }
}

fn readable(record: &Record) -> Record {
    Record::from_bytes(record.as_bytes()).expect("the library reads what it writes")
}

/// A store that has the same record under every key, and checks that written records are readable.
#[derive(Clone)]
struct Everywhere(Arc<Mutex<Record>>);

impl Everywhere {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider for Everywhere {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("everywhere")
    }

    async fn create(&self, _: &StoreKey, record: &Record) -> Result<Created> {
        *self.record() = readable(record);
        Ok(Created::Done)
    }

    async fn load(&self, _: &StoreKey) -> Result<Option<Record>> {
        Ok(Some(self.record().clone()))
    }

    async fn update(&self, _: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let mut present = self.record();
        assert_eq!(present.version(), base.version());
        assert_ne!(record.version(), base.version(), "a change must increase the version");
        *present = readable(record);
        Ok(Updated::Done)
    }

    async fn touch(&self, _: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.record().touch(at);
        Ok(Touched::Done)
    }

    async fn rename(
        &self,
        _: &StoreKey,
        _: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let mut present = self.record();
        assert_eq!(present.version(), expected);
        assert!(tombstone.is_none_or(|tombstone| readable(tombstone).is_tombstone()));
        *present = readable(record);
        Ok(Renamed::Done)
    }

    async fn delete(&self, _: &StoreKey) -> Result<bool> {
        Ok(true)
    }

    async fn count(&self) -> Result<u64> {
        Ok(1)
    }

    async fn delete_expired(&self, _: usize) -> Result<Collected> {
        Ok(Collected::default())
    }

    async fn scan(&self, _: Option<Cursor>, _: usize) -> Result<Page> {
        Ok(Page::default())
    }

    async fn indexed(&self, _: &IndexEntry, _: Option<Cursor>, _: usize) -> Result<Page> {
        Ok(Page::default())
    }
}
