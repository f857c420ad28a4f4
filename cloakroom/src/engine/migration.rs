//! The move of another library's sessions to this manager's store, each when it is first used.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::deadlines::Deadlines;
use super::ids::{COLLISIONS, Candidates, Ids, repeats_itself};
use super::presented::Presented;
use super::revocation::Revocation;
use super::storage::Storage;
use super::stored::{By, Stored};
use super::tombstones::Tombstones;
use super::within::within;
use crate::clock::Millis;
use crate::codec::{Buffer, Codec, Limits};
use crate::config::Config;
use crate::cookie::CookieWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{About, EventKind};
use crate::id::{Keying, Named, StoreKey};
use crate::migration::{MigrationSource, OldId, OldSession};
use crate::provider::{AnyProvider, Created, Provider};
use crate::record::{Meta, Record};
use crate::sync::Mutex;

/// The largest number of old records that wait for another attempt to delete them. Their claims protect those beyond.
const MOST_UNDELETED: usize = 10_000;

/// Moves sessions from a former store, if the manager has one.
pub(crate) struct Migration {
    source: Option<MigrationSource>,
    storage: Storage,
    ids: Arc<Ids>,
    keying: Keying,
    deadlines: Deadlines,
    tombstones: Tombstones,
    revocation: Arc<Revocation>,
    codec: Codec,
    limits: Limits,
    /// The deadline of work that a request can do without: a part of its own.
    patience: Duration,
    /// Moved sessions whose old records could not be deleted.
    undeleted: Mutex<Vec<OldId>>,
}

/// The future of a step of a move. It has no type of its own, since the futures of applications would contain that.
type MoveStep<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The outcome of an attempt to move the session of an id.
pub(crate) enum MoveOutcome {
    /// The session was moved; or it could not be stored here, and is read in the former store ([`By::Unmoved`]).
    Session(Stored),
    /// Another request has moved it, or is about to. Look the id up again.
    ByAnother,
    /// There is no former store, its record cannot be read, or several of the request's ids have a session there.
    None,
}

/// A session of the former store as this manager would have written it.
struct OldCopy {
    record: Record,
    /// The last deadline that the session had in the former store.
    deadline: Millis,
}

impl Migration {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the engine")]
    pub(crate) fn new(
        source: Option<MigrationSource>,
        storage: Storage,
        ids: Arc<Ids>,
        keying: Keying,
        deadlines: Deadlines,
        tombstones: Tombstones,
        revocation: Arc<Revocation>,
        config: &Config,
    ) -> Self {
        Migration {
            source,
            storage,
            ids,
            keying,
            deadlines,
            tombstones,
            revocation,
            codec: config.codec,
            limits: config.limits,
            patience: (config.deadline / 4).min(Duration::from_secs(1)),
            undeleted: Mutex::new(Vec::new()),
        }
    }

    /// Returns true if sessions are moved here from a former store.
    pub(crate) fn is_on(&self) -> bool {
        self.source.is_some()
    }

    /// Returns true if the former store has a cookie of its own, whose ids are no ids of this manager.
    pub(crate) fn has_own_cookie(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.reader().is_some())
    }

    /// Returns the provider in another library's layout that sessions are moved from.
    pub(crate) fn layout(&self) -> Option<&AnyProvider> {
        self.source.as_ref()?.layout()
    }

    /// Returns the sessions that a request names by the former library's cookie, each under the key of its claim. Reports the values that
    /// are none.
    pub(crate) fn presented(&self, presented: &Presented) -> Vec<Named> {
        let reader = self.source.as_ref().and_then(MigrationSource::reader);
        let (Some(reader), Some(visit)) = (reader, presented.visit()) else { return Vec::new() };
        let found = reader.find(visit);
        let events = &self.storage.events;
        for value in found.malformed() {
            events.report(EventKind::MalformedId, events.hash_of_token(value));
        }
        if found.ids().len() > Candidates::MOST {
            events.report(EventKind::Duplicate, found.ids().len() as u64);
            return Vec::new();
        }
        found.ids().iter().map(|id| self.claimed(id)).collect()
    }

    /// Returns `id` with the key under which this store keeps the claim on it.
    ///
    /// The key is derived from a hash, since an old id may be longer than a key, and has characters that no key has. No id of this manager
    /// has the form of that hash and its prefix.
    fn claimed(&self, id: &OldId) -> Named {
        let digest = Sha256::new().chain_update(b"cloakroom/old-id/1\0").chain_update(id.as_str()).finalize();
        let text = format!("moved-{}", BASE64URL_NOPAD.encode(&digest));
        Named::apart(id.as_str().as_bytes(), self.keying.named(text.as_bytes()).key().clone())
    }

    /// Moves the session that one of `names` has in the former store, after this store had none. It gets a new id, which its client is
    /// still to be told.
    ///
    /// A session that this store does not take now is read in the former store.
    pub(crate) fn adopt<'a>(&'a self, names: &'a [Named]) -> MoveStep<'a, Result<MoveOutcome>> {
        Box::pin(self.adopt_one_of(names))
    }

    async fn adopt_one_of(&self, names: &[Named]) -> Result<MoveOutcome> {
        let Some(source) = &self.source else { return Ok(MoveOutcome::None) };
        let (mut found, mut unreadable) = (Vec::new(), false);
        for name in names {
            match self.load(source, name).await {
                Ok(Some(copy)) => found.push((name, copy)),
                Ok(None) => {}
                Err(error) if self.leaves_anonymous(&error) => {
                    tracing::warn!(%error, "a session of the former store cannot be read; its visitor is anonymous");
                    self.storage.events.report(EventKind::Corrupt, name.key());
                    unreadable = true;
                }
                Err(error) => return Err(error),
            }
        }
        let [(name, copy)] = &found[..] else {
            if found.is_empty() {
                // Another request may have moved it between the lookup here and the one there.
                return Ok(if unreadable { MoveOutcome::None } else { MoveOutcome::ByAnother });
            }
            self.storage.events.report(EventKind::Duplicate, found.len() as u64);
            return Ok(MoveOutcome::None);
        };
        match self.store(name, copy).await {
            Ok(moved) => Ok(moved),
            Err(error) => {
                tracing::warn!(%error, "a session could not be moved from the former store; it is read there");
                let (name, record) = ((*name).clone(), copy.record.clone());
                Ok(MoveOutcome::Session(Stored { name, record, by: By::Unmoved }))
            }
        }
    }

    /// Moves the session of `name`, which a request has read in the former store, so that it can be changed.
    pub(crate) fn move_now<'a>(&'a self, name: &'a Named) -> MoveStep<'a, Result<MoveOutcome>> {
        Box::pin(async move {
            let Some(source) = &self.source else { return Ok(MoveOutcome::None) };
            match self.load(source, name).await? {
                Some(copy) => self.store(name, &copy).await,
                None => Ok(MoveOutcome::ByAnother),
            }
        })
    }

    /// Ends the session of `name` in the former store, and here if it was moved: a move that seemed to fail may have been stored. Returns
    /// false if it is in neither store.
    ///
    /// This store blocks the old id for as long as a copy of the old session could be presented. So a former store that fails cannot bring
    /// the session back.
    pub(crate) fn end<'a>(&'a self, name: &'a Named) -> MoveStep<'a, Result<bool>> {
        Box::pin(self.end_both(name))
    }

    async fn end_both(&self, name: &Named) -> Result<bool> {
        let Some(source) = &self.source else { return Ok(false) };
        let loaded = within(self.patience, self.load(source, name)).await.0;
        let deleted = match &loaded {
            // A cookie without a signature can name any key of the old store. Only what was read as a session is deleted.
            Ok(None) => Ok(false),
            Err(error) if self.leaves_anonymous(error) => Ok(false),
            _ => within(self.patience, delete(source, name)).await.0,
        };
        let now = self.storage.now();
        let until = match (&loaded, &deleted) {
            (Ok(Some(copy)), _) => copy.deadline,
            (Ok(None), _) | (_, Ok(true)) => now,
            (Err(_), _) => now.after(CookieWriter::LONGEST),
        };
        let had_one = matches!(loaded, Ok(Some(_)) | Err(_)) || matches!(deleted, Ok(true));
        match within(self.patience, self.block(name, until, had_one)).await.0 {
            Ok(ended) => {
                if let Err(error) = &deleted {
                    self.retry_later(name, error);
                }
                Ok(ended)
            }
            // This store most likely takes no tombstone, just as it took no session.
            Err(error) if matches!(deleted, Ok(true)) => {
                tracing::warn!(%error, "no tombstone could be stored for an ended session that could not be moved");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Stores a tombstone under `name` until a time, where a request that moves the session would store its claim. Ends the session if it
    /// was moved. `had_one` says whether the former store had a session.
    async fn block(&self, name: &Named, until: Millis, had_one: bool) -> Result<bool> {
        if had_one
            && let Some(tombstone) = self.tombstones.of_blocked(until, self.storage.now())
            && self.storage.provider.create(name.key(), &tombstone).await? == Created::Done
        {
            return Ok(true);
        }
        Ok(self.revocation.end_presented(name.key()).await? || had_one)
    }

    /// Stores `copy` under a new id, and claims the old id for it.
    ///
    /// The claim is a tombstone under the old id, so only one of several concurrent requests moves the session. It outlives the record
    /// in the former store: a copy that is left there cannot bring the session back.
    async fn store(&self, name: &Named, copy: &OldCopy) -> Result<MoveOutcome> {
        let moved = self.create(&copy.record).await?;
        let now = self.storage.now();
        let claim = self.tombstones.of_moved(name, &copy.record, &moved.name, copy.deadline, now);
        // After an error here the claim may be stored or not. The copy stays: a claim without its session would end the session.
        match self.storage.provider.create(name.key(), &claim).await? {
            Created::Done => {
                let about = About { former: Some(name.key()), ..About::from(&moved) };
                self.storage.events.report(EventKind::Moved, about);
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
    pub(crate) fn follow<'a>(
        &'a self,
        name: &'a Named,
        claim: &'a Record,
        successor: &'a StoreKey,
        record: Record,
    ) -> MoveStep<'a, Stored> {
        Box::pin(async move {
            self.clear(name).await;
            match self.tombstones.successor(name, claim, successor) {
                Some(name) => Stored { name, record, by: By::Moved },
                None => Stored { name: name.to(successor.clone()), record, by: By::Grace },
            }
        })
    }

    /// Deletes the record of `name` in the former store. If that fails, each request that still presents `name` tries again, and so does
    /// garbage collection.
    async fn clear(&self, name: &Named) {
        let Some(source) = &self.source else { return };
        if let Err(error) = within(self.patience, delete(source, name)).await.0 {
            self.retry_later(name, &error);
        }
    }

    fn retry_later(&self, name: &Named, error: &Error) {
        tracing::warn!(%error, "a moved session could not be deleted from the former store; it is tried again");
        let id = old_id(name);
        let mut undeleted = self.undeleted.lock();
        if undeleted.len() < MOST_UNDELETED && !undeleted.contains(&id) {
            undeleted.push(id);
        }
    }

    /// Deletes the records of moved sessions that could not be deleted before.
    pub(crate) fn delete_again(&self) -> MoveStep<'_, ()> {
        Box::pin(async move {
            let Some(source) = &self.source else { return };
            let known = self.undeleted.lock().len();
            for _ in 0..known {
                let Some(id) = self.undeleted.lock().first().cloned() else { return };
                let name = match source.reader() {
                    Some(_) => self.claimed(&id),
                    None => Keying::Clear.named(id.as_str().as_bytes()),
                };
                if let Err(error) = within(self.patience, delete(source, &name)).await.0 {
                    // The others would wait for the same store. The next round tries again.
                    tracing::warn!(%error, "moved sessions could not be deleted from the former store; they are tried again");
                    return;
                }
                self.undeleted.lock().retain(|other| *other != id);
            }
        })
    }

    /// Returns true if `error` concerns one session of a reader and not the former store: its visitor is anonymous. A provider in another
    /// library's layout puts such a record aside and answers with the error once.
    fn leaves_anonymous(&self, error: &Error) -> bool {
        let of_session = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Value | ErrorKind::TooLarge);
        of_session && self.has_own_cookie()
    }

    /// Returns a copy of the session that `name` has in the former store.
    async fn load(&self, source: &MigrationSource, name: &Named) -> Result<Option<OldCopy>> {
        let now = self.storage.now();
        if let Some(reader) = source.reader() {
            let found = reader.load(&old_id(name)).await?;
            let alive = found.filter(|session| session.deadline() > now);
            return alive.map(|session| self.copy_of(&session, now)).transpose();
        }
        let Some(provider) = source.layout() else { return Ok(None) };
        let Some(record) = provider.load(Keying::Clear.named(name.id_bytes()).key()).await? else {
            return Ok(None);
        };
        record.check_readable()?;
        let mut data = Buffer::new();
        record.codec().convert(record.data(), self.codec, &mut data)?;
        let meta = Meta::new(self.deadlines.times_of_new(now, None), None);
        let copy = Record::new(&meta, self.codec, &data);
        Ok(Some(OldCopy { record: copy, deadline: record.deadline() }))
    }

    /// Returns a copy of `session` with this manager's times, and with those that the session has of its own.
    fn copy_of(&self, session: &OldSession, now: Millis) -> Result<OldCopy> {
        let mut times = self.deadlines.times_of_new(now, session.authenticated(now));
        times.idle_deadline = self.deadlines.idle_deadline(session.lifetime(), times.authenticated, now);
        times.absolute_deadline = self.deadlines.absolute_deadline(session.lifetime(), now);
        times.absolute_deadline = times.absolute_deadline.min(session.ends_by().unwrap_or(Millis::NEVER));
        let record = session.record(times, self.codec, &self.limits)?;
        Ok(OldCopy { record, deadline: session.blocked_until() })
    }

    async fn create(&self, record: &Record) -> Result<Stored> {
        let record = self.ids.marked(record.clone());
        for _ in 0..=COLLISIONS {
            let name = self.ids.new_name()?;
            if self.storage.provider.create(name.key(), &record).await? == Created::Done {
                return Ok(Stored { name, record, by: By::Moved });
            }
        }
        Err(repeats_itself())
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Returns the id that the client presents for `name`.
fn old_id(name: &Named) -> OldId {
    OldId::new(String::from_utf8_lossy(name.id_bytes()))
}

/// Deletes the session of `name` in the former store. Returns true if it was there.
async fn delete(source: &MigrationSource, name: &Named) -> Result<bool> {
    if let Some(reader) = source.reader() {
        return reader.delete(&old_id(name)).await;
    }
    match source.layout() {
        Some(provider) => provider.delete(Keying::Clear.named(name.id_bytes()).key()).await,
        None => Ok(false),
    }
}
