//! Sessions whose keys are still their plain ids, from before ids were hashed. They are accepted for a configured time.

use std::sync::Arc;

use super::ids::Ids;
use super::records::Records;
use super::storage::Storage;
use super::stored::{By, Stored};
use crate::clock::Millis;
use crate::config::Config;
use crate::error::Result;
use crate::id::Named;
use crate::provider::{Provider, Renamed};

/// The number of conflicts after which the move to the hashed key is left to the next request.
const TRIES: usize = 8;

/// Finds sessions under their plain ids, and moves them to their hashed keys.
#[derive(Debug)]
pub(crate) struct PlainIds {
    accepted_until: Option<Millis>,
    storage: Storage,
    records: Arc<Records>,
    ids: Arc<Ids>,
}

impl PlainIds {
    pub(crate) fn new(config: &Config, storage: Storage, records: Arc<Records>, ids: Arc<Ids>) -> Self {
        PlainIds { accepted_until: config.plain_ids_until, storage, records, ids }
    }

    /// Returns the session of `name` if it is still under its plain id. Nothing was found under its hashed key.
    ///
    /// The session is moved before it is used, so from its first request on the store no longer contains its id.
    pub(crate) async fn adopt(&self, name: &Named) -> Result<Option<Stored>> {
        let accepted = self.accepted_until.is_some_and(|until| self.storage.now() < until);
        let Some((plain, name)) = accepted.then(|| self.ids.plain_key(name)).flatten() else {
            return Ok(None);
        };
        for _ in 0..TRIES {
            let found = self.records.load(&plain).await?.filter(|record| !record.is_tombstone());
            let Some(record) = found else { break };
            let moved =
                self.storage.provider.rename(&plain, name.key(), &record, record.version(), None).await;
            match moved {
                // A store that refuses writes can still be read. The next request tries the move again.
                Err(error) => {
                    tracing::warn!(%error, "a session could not be moved from its plain id to the hash");
                    return Ok(Some(Stored { name: name.to(plain), record, by: By::Own }));
                }
                Ok(Renamed::Done) => return Ok(Some(Stored { name, record, by: By::Own })),
                Ok(Renamed::Stale) => {}
                Ok(Renamed::Gone | Renamed::Taken) => break,
            }
        }
        // Another request may have moved it since the first lookup.
        let record = self.records.load(name.key()).await?.filter(|record| !record.is_tombstone());
        Ok(record.map(|record| Stored { name, record, by: By::Own }))
    }
}
