//! The provider contract in its simplest form: a map.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::id::StoreKey;
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::{Meta, Record};

/// A model of the provider contract. Expired records stay in the map until they are collected, but no method returns them.
#[derive(Clone, PartialEq)]
pub(crate) struct Model {
    now: SystemTime,
    records: BTreeMap<StoreKey, Record>,
}

impl Model {
    pub(crate) fn new(now: SystemTime) -> Self {
        Model { now, records: BTreeMap::new() }
    }

    pub(crate) fn set_time(&mut self, now: SystemTime) {
        self.now = now;
    }

    /// Returns the version under `key`, also of an expired record.
    pub(crate) fn version(&self, key: &StoreKey) -> Option<u64> {
        self.records.get(key).map(Record::version)
    }

    pub(crate) fn load(&self, key: &StoreKey) -> Option<&Record> {
        self.records.get(key).filter(|record| !record.is_expired(self.now))
    }

    pub(crate) fn session(&self, key: &StoreKey) -> Option<&Record> {
        self.load(key).filter(|record| !record.is_tombstone())
    }

    pub(crate) fn create(&mut self, key: &StoreKey, record: &Record) -> Created {
        if self.load(key).is_some() {
            return Created::Taken;
        }
        self.records.insert(key.clone(), record.clone());
        Created::Done
    }

    pub(crate) fn update(&mut self, key: &StoreKey, record: &Record, expected: u64) -> Updated {
        match self.session(key) {
            None => Updated::Gone,
            Some(present) if present.version() != expected => Updated::Stale,
            Some(_) => {
                self.records.insert(key.clone(), record.clone());
                Updated::Done
            }
        }
    }

    pub(crate) fn touch(&mut self, key: &StoreKey, at: SystemTime) -> Touched {
        match self.session(key).cloned() {
            None => Touched::Gone,
            Some(mut record) => {
                record.touch(at);
                self.records.insert(key.clone(), record);
                Touched::Done
            }
        }
    }

    /// Returns the answers that the contract allows. If a rename fails for several reasons, the store may report any of them.
    pub(crate) fn rename(&self, old: &StoreKey, new: &StoreKey, expected: u64) -> Vec<Renamed> {
        let mut fits = match self.session(old) {
            None => vec![Renamed::Gone],
            Some(present) if present.version() != expected => vec![Renamed::Stale],
            Some(_) => vec![],
        };
        if self.load(new).is_some() {
            fits.push(Renamed::Taken);
        }
        if fits.is_empty() {
            fits.push(Renamed::Done);
        }
        fits
    }

    pub(crate) fn moved(&mut self, old: &StoreKey, new: &StoreKey, record: &Record, mark: Option<Record>) {
        self.records.remove(old);
        self.records.extend(mark.map(|mark| (old.clone(), mark)));
        self.records.insert(new.clone(), record.clone());
    }

    pub(crate) fn delete(&mut self, key: &StoreKey) -> bool {
        let was_there = self.session(key).is_some();
        if was_there {
            self.records.remove(key);
        }
        was_there
    }

    pub(crate) fn live(&self, wanted: impl Fn(&Meta) -> bool) -> BTreeMap<StoreKey, Meta> {
        let sessions = self.records.iter().filter(|(key, _)| self.session(key).is_some());
        sessions.map(|(key, record)| (key.clone(), record.meta())).filter(|(_, meta)| wanted(meta)).collect()
    }

    pub(crate) fn expired(&self) -> usize {
        self.records.keys().filter(|key| self.load(key).is_none()).count()
    }

    pub(crate) fn collected(&mut self) {
        let now = self.now;
        self.records.retain(|_, record| !record.is_expired(now));
    }
}
