//! The calls of a thread to a store, and a plain map that answers the same calls one after the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use cloakroom::testkit::base;
use cloakroom::{
    MemoryProvider, Provider,
    providers::{Collected, Created, IndexEntry, Record, Renamed, StoreKey, Touched, Updated},
};

use crate::visitor::{alice, principal};

/// A call to the store.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create(&'static str, Record),
    Load(&'static str),
    Update(&'static str, Record),
    Touch(&'static str, SystemTime),
    Rename(&'static str, &'static str, Record, Option<Record>),
    Delete(&'static str),
    Collect,
    /// The sessions of alice.
    List,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Created(Created),
    Loaded(Option<Record>),
    Updated(Updated),
    Touched(Touched),
    Renamed(Renamed),
    Deleted(bool),
    Collected(Collected),
    Listed(Vec<StoreKey>),
}

/// The version that every change expects.
pub(crate) const SEEN: u64 = 1;

pub(crate) fn key(name: &str) -> StoreKey {
    name.parse().unwrap()
}

/// Returns the result of a future that is never pending.
pub(crate) fn tried<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the memory provider waits"),
    }
}

pub(crate) fn now<T>(answer: impl Future<Output = cloakroom::Result<T>>) -> T {
    tried(answer).unwrap()
}

impl Call {
    pub(crate) fn ask(&self, store: &MemoryProvider) -> Answer {
        match self {
            Call::Create(at, record) => Answer::Created(now(store.create(&key(at), record))),
            Call::Load(at) => Answer::Loaded(now(store.load(&key(at)))),
            Call::Update(at, record) => Answer::Updated(now(store.update(&key(at), record, &base(SEEN)))),
            Call::Touch(at, time) => Answer::Touched(now(store.touch(&key(at), *time))),
            Call::Rename(old, new, record, tombstone) => {
                let (old, new) = (key(old), key(new));
                let renamed = store.rename(&old, &new, record, SEEN, tombstone.as_ref());
                Answer::Renamed(now(renamed))
            }
            Call::Delete(at) => Answer::Deleted(now(store.delete(&key(at)))),
            Call::Collect => Answer::Collected(now(store.delete_expired(100))),
            Call::List => Answer::Listed(listed(store, "alice")),
        }
    }
}

/// Returns the keys of a user's sessions, sorted. A session that is listed twice is in the list twice.
pub(crate) fn listed(store: &MemoryProvider, user: &str) -> Vec<StoreKey> {
    let all = now(store.indexed(&IndexEntry::from(&principal(user)), None, 100)).entries;
    let mut keys: Vec<_> = all.into_iter().map(|listed| listed.key).collect();
    keys.sort();
    keys
}

/// A store without threads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    records: BTreeMap<StoreKey, Record>,
    now: SystemTime,
}

impl Model {
    pub(crate) fn new(now: SystemTime) -> Self {
        Model { records: BTreeMap::new(), now }
    }

    /// Returns the record under `at`, unless it has expired.
    pub(crate) fn live(&self, at: &str) -> Option<&Record> {
        self.records.get(&key(at)).filter(|record| !record.is_expired(self.now))
    }

    fn session(&self, at: &str) -> Option<&Record> {
        self.live(at).filter(|record| !record.is_tombstone())
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = (&StoreKey, &Record)> {
        self.records.iter().filter(|(_, record)| !record.is_expired(self.now) && !record.is_tombstone())
    }

    pub(crate) fn of(&self, user: &str) -> Vec<StoreKey> {
        let theirs = self.sessions().filter(|(_, record)| record.principal() == Some(principal(user)));
        theirs.map(|(key, _)| key.clone()).collect()
    }

    fn put(&mut self, at: &str, record: &Record) {
        self.records.insert(key(at), record.clone());
    }

    pub(crate) fn ask(&mut self, call: &Call) -> Answer {
        match call {
            Call::Create(at, record) => Answer::Created(match self.live(at) {
                Some(_) => Created::Taken,
                None => {
                    self.put(at, record);
                    Created::Done
                }
            }),
            Call::Load(at) => Answer::Loaded(self.live(at).cloned()),
            Call::Update(at, record) => Answer::Updated(match self.session(at) {
                None => Updated::Gone,
                Some(found) if found.version() != SEEN => Updated::Stale,
                Some(_) => {
                    self.put(at, record);
                    Updated::Done
                }
            }),
            Call::Touch(at, time) => Answer::Touched(match self.session(at).cloned() {
                None => Touched::Gone,
                Some(mut record) => {
                    record.touch(*time);
                    self.put(at, &record);
                    Touched::Done
                }
            }),
            Call::Rename(old, new, record, tombstone) => {
                Answer::Renamed(self.rename(old, new, record, tombstone.as_ref()))
            }
            Call::Delete(at) => {
                let found = self.session(at).is_some();
                if found {
                    self.records.remove(&key(at));
                }
                Answer::Deleted(found)
            }
            Call::Collect => {
                let before = self.records.len();
                self.records.retain(|_, record| !record.is_expired(self.now));
                Answer::Collected(Collected { removed: before - self.records.len(), more: false })
            }
            Call::List => Answer::Listed(self.of(alice().as_str())),
        }
    }

    fn rename(&mut self, old: &str, new: &str, record: &Record, tombstone: Option<&Record>) -> Renamed {
        match self.session(old) {
            None => return Renamed::Gone,
            Some(found) if found.version() != SEEN => return Renamed::Stale,
            Some(_) if self.live(new).is_some() => return Renamed::Taken,
            Some(_) => {}
        }
        self.records.remove(&key(old));
        if let Some(tombstone) = tombstone {
            self.put(old, tombstone);
        }
        self.put(new, record);
        Renamed::Done
    }
}

/// Returns the deadline that a touch sets.
pub(crate) fn later(now: SystemTime) -> SystemTime {
    now + Duration::from_secs(600)
}
