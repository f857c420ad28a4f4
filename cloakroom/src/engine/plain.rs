//! Sessions that are still stored under their plain ids, from before they were hashed: found for a time, and moved.

use super::{By, Engine, Reached, Stored};
use crate::error::Result;
use crate::event::EventKind;
use crate::id::Named;
use crate::provider::{Provider, Renamed};

/// Others may change the session while it is moved; whoever loses this often tries again with the next request.
const TRIES: usize = 8;

impl Engine {
    /// Where nothing is under the key of `name`: the session that is still under its plain id, or nobody.
    pub(super) async fn look_for_plain(&self, name: Named, arriving: bool) -> Result<Reached> {
        let key = arriving.then(|| name.key().clone());
        let found = self.adopt_plain(name).await?;
        if let (Reached::Nobody, Some(key)) = (&found, key) {
            self.events.report(EventKind::UnknownId, &key);
        }
        Ok(found)
    }

    /// The session of `name`, which is not stored under its hashed key, if it is under its plain id and still may be.
    ///
    /// It is moved before it is used: from the first request on the store holds its id no more.
    async fn adopt_plain(&self, name: Named) -> Result<Reached> {
        let accepted = self.config.plain_ids_until.is_some_and(|until| self.now() < until);
        let Some(plain) = accepted.then(|| self.keying.plain_key(&name)).flatten() else {
            return Ok(Reached::Nobody);
        };
        // A request that could not move it has served it from its plain key.
        let name = self.keying.named(name.id_bytes());
        for _ in 0..TRIES {
            let found = self.load(&plain).await?.filter(|record| !record.is_tombstone());
            let Some(record) = found else { break };
            let moved = self.provider.rename(&plain, name.key(), &record, record.version(), None).await;
            match moved {
                // A store that takes no writes now can still be read; the next request tries the move again.
                Err(error) => {
                    tracing::warn!(%error, "a session could not be moved from its plain id to the hash");
                    return Ok(Reached::Session(Stored { name: name.to(plain), record, by: By::Own }));
                }
                Ok(Renamed::Done) => return Ok(Reached::Session(Stored { name, record, by: By::Own })),
                Ok(Renamed::Stale) => {}
                Ok(Renamed::Gone | Renamed::Taken) => break,
            }
        }
        // Another request may have moved it since this one looked.
        let record = self.load(name.key()).await?.filter(|record| !record.is_tombstone());
        Ok(record.map_or(Reached::Nobody, |record| Reached::Session(Stored { name, record, by: By::Own })))
    }
}
