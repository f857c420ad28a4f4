//! Records that are loaded from the store and checked.

use std::sync::Arc;

use super::ids::Ids;
use super::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::{Named, StoreKey};
use crate::provider::Provider;
use crate::record::Record;

/// Loads records, and reports those that are missing or cannot be read.
#[derive(Debug)]
pub(crate) struct Records {
    storage: Storage,
    ids: Arc<Ids>,
}

impl Records {
    pub(super) fn new(storage: Storage, ids: Arc<Ids>) -> Self {
        Records { storage, ids }
    }

    /// Loads the record under `key`: a session with data that this build can read, or a tombstone.
    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let loaded = self.load_any(key).await?;
        if let Some(record) = loaded.as_ref().filter(|record| !record.is_tombstone()) {
            record.check_readable()?;
        }
        Ok(loaded)
    }

    /// Loads the record under `key` for a caller that does not read its data. So a session can be ended that a newer release wrote.
    pub(super) async fn load_any(&self, key: &StoreKey) -> Result<Option<Record>> {
        let loaded = match self.storage.provider.load(key).await {
            Ok(Some(record)) if record.is_sealed() && !record.is_sealed_anew() => {
                Err(Error::new(ErrorKind::Corrupt, Sealed))
            }
            Ok(Some(record)) if self.ids.is_foreign(&record) => Ok(None),
            found => found,
        };
        loaded.map_err(|error| self.report_corrupt(error, key))
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
