//! Records that are loaded from the store and checked.

use std::sync::Arc;

use super::ids::Ids;
use super::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::{Named, StoreKey};
use crate::provider::Provider;
use crate::record::Record;

/// The outcome of [`Records::load_at_once`].
pub(crate) enum LoadedAtOnce {
    /// A session that this build can read.
    Session(Record),
    /// A tombstone, a session that needs further checks, or no record.
    Other(Option<Record>),
}

/// Loads records, and reports those that are missing or cannot be read.
#[derive(Debug)]
pub(crate) struct Records {
    storage: Storage,
    ids: Arc<Ids>,
}

impl Records {
    pub(crate) fn new(storage: Storage, ids: Arc<Ids>) -> Self {
        Records { storage, ids }
    }

    /// Loads the record under `key`: a session with data that this build can read, or a tombstone.
    pub(crate) async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let loaded = self.readable(self.storage.provider.load(key).await);
        loaded.map_err(|error| self.report_corrupt(error, key))
    }

    /// Does what [`load`](Self::load) does on a provider that never waits. Returns `None` if the provider may wait. The caller reports a record
    /// that cannot be read.
    #[inline]
    pub(crate) fn load_at_once(&self, key: &StoreKey) -> Option<Result<LoadedAtOnce>> {
        Some(match self.storage.provider.load_at_once(key)? {
            // Most records need no further check.
            Ok(Some(record)) if record.is_plain() && !self.ids.is_foreign(&record) => {
                Ok(LoadedAtOnce::Session(record))
            }
            loaded => self.readable(loaded).map(LoadedAtOnce::Other),
        })
    }

    /// Loads the record under `key` for a caller that does not read its data. So a session can be ended that a newer release wrote.
    pub(crate) async fn load_any(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.own(self.storage.provider.load(key).await).map_err(|error| self.report_corrupt(error, key))
    }

    /// Checks that this build can read a loaded session.
    fn readable(&self, loaded: Result<Option<Record>>) -> Result<Option<Record>> {
        let loaded = self.own(loaded)?;
        if let Some(record) = loaded.as_ref().filter(|record| !record.is_tombstone()) {
            record.check_readable()?;
        }
        Ok(loaded)
    }

    /// Refuses a record that is still sealed, and leaves out one of another namespace.
    fn own(&self, loaded: Result<Option<Record>>) -> Result<Option<Record>> {
        match loaded? {
            Some(record) if record.is_sealed() && !record.is_sealed_anew() => {
                Err(Error::new(ErrorKind::Corrupt, Sealed))
            }
            Some(record) if self.ids.is_foreign(&record) => Ok(None),
            found => Ok(found),
        }
    }

    /// Reports that the store has no record under the key of `name`, which is no error.
    #[cold]
    pub(crate) fn report_unknown(&self, name: &Named) -> Result<()> {
        self.storage.events.report(EventKind::UnknownId, name.key());
        Ok(())
    }

    /// Reports `error` if it says that the record under `key` cannot be read. Returns the error.
    #[cold]
    pub(crate) fn report_corrupt(&self, error: Error, key: &StoreKey) -> Error {
        if error.kind() == ErrorKind::Corrupt {
            self.storage.events.report(EventKind::Corrupt, key);
        }
        error
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the record is sealed, and this manager has no keys; give it the key ring that sealed it")]
struct Sealed;
