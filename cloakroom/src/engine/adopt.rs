//! Sessions of another library's that are moved to this manager's store, each when it is first used.

use std::time::Duration;

use super::{By, COLLISIONS, Engine, Found, Reached, Stored, repeats_itself, within};
use crate::codec::Buffer;
use crate::error::Result;
use crate::event::EventKind;
use crate::id::{Keying, Named, StoreKey};
use crate::provider::{Created, Provider};
use crate::record::{Mark, Meta, Record};

impl Engine {
    /// The session that one of `names`, by which nobody was found here, has in the former store, as one of this manager's: under a new
    /// id, which its client is still to be told.
    ///
    /// A session that this store does not take now is read where it is.
    pub(crate) async fn adopt(&self, names: &[Named]) -> Result<Found> {
        let Some(former) = &self.former else { return Ok(Found::Nobody) };
        let mut found = Vec::new();
        for name in names {
            if let Some(record) = former.load(&old_key(name)).await? {
                found.push((name, record));
            }
        }
        let [(name, record)] = &found[..] else {
            if found.is_empty() {
                // Another request may have moved it between the look here and the one there.
                return self.find_among(names.iter().cloned()).await;
            }
            self.events.report(EventKind::Duplicate, found.len() as u64);
            return Ok(Found::Nobody);
        };
        let copy = self.copy_of(record)?;
        match self.move_here(name, record, &copy).await {
            Ok(found) => Ok(found),
            Err(error) => {
                tracing::warn!(%error, "a session could not be moved from the former store; it is read there");
                Ok(Found::One(Stored { name: (*name).clone(), record: copy, by: By::Unmoved }))
            }
        }
    }

    /// Moves the session of `name`, which could not be moved before, so that it can be changed.
    pub(crate) async fn move_now(&self, name: &Named) -> Result<Found> {
        let Some(former) = &self.former else { return Ok(Found::Nobody) };
        let Some(record) = former.load(&old_key(name)).await? else {
            return self.find_among(std::iter::once(name.clone())).await;
        };
        self.move_here(name, &record, &self.copy_of(&record)?).await
    }

    /// Ends the session of `name`, which `record` is a copy of, in the former store, and here where a move was stored though it seemed
    /// to fail; false if it is in neither.
    pub(crate) async fn end_unmoved(&self, name: &Named, record: &Record) -> Result<bool> {
        let Some(former) = &self.former else { return Ok(false) };
        let deleted = former.delete(&old_key(name)).await?;
        match within(self.patience(), self.end_moves(name, record)).await.0 {
            Ok(ended) => Ok(deleted || ended),
            // A store that takes no claim either, most likely.
            Err(error) if deleted => {
                tracing::warn!(%error, "the end of a session that could not be moved could not be marked");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a mark of its end where another request would claim the session of `name` that it is moving, and ends what was moved.
    async fn end_moves(&self, name: &Named, record: &Record) -> Result<bool> {
        if self.provider.capabilities().tombstones {
            let now = self.now();
            let mark = record.tombstone(&Mark::Ended, now, now.after(self.config.longest_request));
            if self.provider.create(name.key(), &mark).await? == Created::Done {
                return Ok(false);
            }
        }
        self.end(name.key()).await
    }

    /// Finds out what has become of a session that a request read in the former store.
    pub(super) async fn look_for_unmoved(&self, name: &Named) -> Result<Reached> {
        Ok(match self.adopt(std::slice::from_ref(name)).await? {
            Found::One(stored) => Reached::Session(stored),
            Found::Ended(former) => Reached::Ended(former),
            Found::Nobody | Found::Contested(_) => Reached::Nobody,
        })
    }

    /// Stores `copy` under a new id, and claims the old one for it.
    ///
    /// The claim is a tombstone under the old id, so that of several requests at once one alone moves the session. It outlives the
    /// record in the former store: a copy that was left there cannot bring the session back.
    async fn move_here(&self, name: &Named, record: &Record, copy: &Record) -> Result<Found> {
        let moved = self.take_over(copy).await?;
        let now = self.now();
        let until = record.deadline().max(now.after(self.config.rotation_grace));
        let mark = Mark::Rotated { successor: moved.name.key().clone(), until };
        let forgotten = until.after(self.config.longest_request.max(self.config.idle_timeout));
        let claim = self.claiming(copy.tombstone(&mark, now, forgotten), name, &moved.name);
        // If this fails, the claim may or may not be stored: the copy stays, since a claim without its session would end the session.
        match self.provider.create(name.key(), &claim).await? {
            Created::Done => {
                tracing::debug!("a session of another library's was moved");
                self.clear_former(name).await;
                Ok(Found::One(moved))
            }
            Created::Taken => {
                self.provider.delete(moved.name.key()).await?;
                self.find_among(std::iter::once(name.clone())).await
            }
        }
    }

    /// The session that was moved to `successor` from the id `name`, which its client still presents: it is told the new id.
    pub(super) async fn moved(
        &self,
        name: &Named,
        claim: &Record,
        successor: &StoreKey,
        record: Record,
    ) -> Stored {
        self.clear_former(name).await;
        match self.successor(name, claim, successor) {
            Some(name) => Stored { name, record, by: By::Moved },
            None => Stored { name: name.to(successor.clone()), record, by: By::Grace },
        }
    }

    /// Deletes what the former store has under `name`, and tries again with each request that still presents it.
    async fn clear_former(&self, name: &Named) {
        let Some(former) = &self.former else { return };
        if let Err(error) = within(self.patience(), former.delete(&old_key(name))).await.0 {
            tracing::warn!(%error, "a moved session could not be deleted from the former store; its next request tries again");
        }
    }

    /// How long a request waits for the store that it can do without: a part of its own time.
    fn patience(&self) -> Duration {
        (self.config.deadline / 4).min(Duration::from_secs(1))
    }

    /// A copy of `record` as this manager would have made it.
    fn copy_of(&self, record: &Record) -> Result<Record> {
        record.check_readable()?;
        let times = self.times_of_new(self.now(), None);
        let mut data = Buffer::new();
        record.codec().convert(record.data(), self.config.codec, &mut data)?;
        Ok(Record::new(&Meta::new(times, None), self.config.codec, &data))
    }

    async fn take_over(&self, record: &Record) -> Result<Stored> {
        for _ in 0..=COLLISIONS {
            let name = self.new_name()?;
            if self.provider.create(name.key(), record).await? == Created::Done {
                return Ok(Stored { name, record: record.clone(), by: By::Moved });
            }
        }
        Err(repeats_itself())
    }
}

/// The key of `name` in the former store, whose keys are the ids.
fn old_key(name: &Named) -> StoreKey {
    Keying::Clear.named(name.id_bytes()).key().clone()
}
