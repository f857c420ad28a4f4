//! The move of another library's sessions to this manager's store, each when it is first used.

use std::sync::Arc;
use std::time::Duration;

use super::deadlines::Deadlines;
use super::ids::{COLLISIONS, Ids, repeats_itself};
use super::revocation::Revocation;
use super::storage::Storage;
use super::stored::{By, Stored};
use super::tombstones::Tombstones;
use super::within::within;
use crate::codec::{Buffer, Codec};
use crate::config::Config;
use crate::error::Result;
use crate::event::EventKind;
use crate::id::{Keying, Named, StoreKey};
use crate::provider::{AnyProvider, Created, Provider};
use crate::record::{Meta, Record};

/// Moves sessions from a former store, if the manager has one.
#[derive(Debug)]
pub(crate) struct Migration {
    former: Option<AnyProvider>,
    storage: Storage,
    ids: Arc<Ids>,
    deadlines: Deadlines,
    tombstones: Tombstones,
    revocation: Arc<Revocation>,
    codec: Codec,
    /// The deadline of work that a request can do without: a part of its own.
    patience: Duration,
}

/// The outcome of an attempt to move the session of an id.
pub(crate) enum MoveOutcome {
    /// The session was moved; or it could not be stored here, and is read in the former store ([`By::Unmoved`]).
    Session(Stored),
    /// Another request has moved it, or is about to. Look the id up again.
    ByAnother,
    /// There is no former store, or several of the request's ids have a session there.
    None,
}

impl Migration {
    pub(crate) fn new(
        former: Option<AnyProvider>,
        storage: Storage,
        ids: Arc<Ids>,
        deadlines: Deadlines,
        tombstones: Tombstones,
        revocation: Arc<Revocation>,
        config: &Config,
    ) -> Self {
        let (codec, patience) = (config.codec, (config.deadline / 4).min(Duration::from_secs(1)));
        Migration { former, storage, ids, deadlines, tombstones, revocation, codec, patience }
    }

    /// Moves the session that one of `names` has in the former store, after this store had none. It gets a new id, which its client is
    /// still to be told.
    ///
    /// A session that this store does not take now is read in the former store.
    pub(crate) async fn adopt(&self, names: &[Named]) -> Result<MoveOutcome> {
        let Some(former) = &self.former else { return Ok(MoveOutcome::None) };
        let mut found = Vec::new();
        for name in names {
            if let Some(record) = former.load(&old_key(name)).await? {
                found.push((name, record));
            }
        }
        let [(name, record)] = &found[..] else {
            if found.is_empty() {
                // Another request may have moved it between the lookup here and the one there.
                return Ok(MoveOutcome::ByAnother);
            }
            self.storage.events.report(EventKind::Duplicate, found.len() as u64);
            return Ok(MoveOutcome::None);
        };
        let copy = self.copy_of(record)?;
        match self.store(name, record, &copy).await {
            Ok(moved) => Ok(moved),
            Err(error) => {
                tracing::warn!(%error, "a session could not be moved from the former store; it is read there");
                Ok(MoveOutcome::Session(Stored { name: (*name).clone(), record: copy, by: By::Unmoved }))
            }
        }
    }

    /// Moves the session of `name`, which a request has read in the former store, so that it can be changed.
    pub(crate) async fn move_now(&self, name: &Named) -> Result<MoveOutcome> {
        let Some(former) = &self.former else { return Ok(MoveOutcome::None) };
        match former.load(&old_key(name)).await? {
            Some(record) => self.store(name, &record, &self.copy_of(&record)?).await,
            None => Ok(MoveOutcome::ByAnother),
        }
    }

    /// Ends the session of `name` in the former store, of which `record` is a copy. Also ends it here, since a move that seemed to fail
    /// may have been stored. Returns false if it is in neither store.
    pub(crate) async fn end(&self, name: &Named, record: &Record) -> Result<bool> {
        let Some(former) = &self.former else { return Ok(false) };
        let deleted = former.delete(&old_key(name)).await?;
        match within(self.patience, self.end_moved(name, record)).await.0 {
            Ok(ended) => Ok(deleted || ended),
            // This store most likely takes no tombstone, just as it took no session.
            Err(error) if deleted => {
                tracing::warn!(%error, "no tombstone could be stored for an ended session that could not be moved");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Stores a tombstone under `name`, where a request that moves the session would store its claim. Ends the session if it was moved.
    async fn end_moved(&self, name: &Named, record: &Record) -> Result<bool> {
        if let Some(tombstone) = self.tombstones.of_end(record, self.storage.now())
            && self.storage.provider.create(name.key(), &tombstone).await? == Created::Done
        {
            return Ok(false);
        }
        self.revocation.end(name.key()).await
    }

    /// Stores `copy` under a new id, and claims the old id for it.
    ///
    /// The claim is a tombstone under the old id, so only one of several concurrent requests moves the session. It outlives the record
    /// in the former store: a copy that is left there cannot bring the session back.
    async fn store(&self, name: &Named, record: &Record, copy: &Record) -> Result<MoveOutcome> {
        let moved = self.create(copy).await?;
        let now = self.storage.now();
        let claim = self.tombstones.of_moved(name, copy, &moved.name, record.deadline(), now);
        // After an error here the claim may be stored or not. The copy stays: a claim without its session would end the session.
        match self.storage.provider.create(name.key(), &claim).await? {
            Created::Done => {
                tracing::debug!("a session of another library's was moved");
                self.clear(name).await;
                Ok(MoveOutcome::Session(moved))
            }
            Created::Taken => {
                self.storage.provider.delete(moved.name.key()).await?;
                Ok(MoveOutcome::ByAnother)
            }
        }
    }

    /// Returns the session in `record`, which `claim` under the id `name` leads to. The client still presents `name` and is told the new
    /// id.
    pub(crate) async fn follow(
        &self,
        name: &Named,
        claim: &Record,
        successor: &StoreKey,
        record: Record,
    ) -> Stored {
        self.clear(name).await;
        match self.tombstones.successor(name, claim, successor) {
            Some(name) => Stored { name, record, by: By::Moved },
            None => Stored { name: name.to(successor.clone()), record, by: By::Grace },
        }
    }

    /// Deletes the record of `name` in the former store. If that fails, each request that still presents `name` tries again.
    async fn clear(&self, name: &Named) {
        let Some(former) = &self.former else { return };
        if let Err(error) = within(self.patience, former.delete(&old_key(name))).await.0 {
            tracing::warn!(%error, "a moved session could not be deleted from the former store; its next request tries again");
        }
    }

    /// Returns a copy of `record` as this manager would have written it.
    fn copy_of(&self, record: &Record) -> Result<Record> {
        record.check_readable()?;
        let times = self.deadlines.times_of_new(self.storage.now(), None);
        let mut data = Buffer::new();
        record.codec().convert(record.data(), self.codec, &mut data)?;
        Ok(Record::new(&Meta::new(times, None), self.codec, &data))
    }

    async fn create(&self, record: &Record) -> Result<Stored> {
        for _ in 0..=COLLISIONS {
            let name = self.ids.new_name()?;
            if self.storage.provider.create(name.key(), record).await? == Created::Done {
                return Ok(Stored { name, record: record.clone(), by: By::Moved });
            }
        }
        Err(repeats_itself())
    }
}

/// Returns the key of `name` in the former store, where keys are ids.
fn old_key(name: &Named) -> StoreKey {
    Keying::Clear.named(name.id_bytes()).key().clone()
}
