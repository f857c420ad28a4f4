//! Where an id leads: to a live session, to the mark of one that has ended, or nowhere.

use smallvec::SmallVec;

use super::{By, Engine, Former, Found, Stored};
use crate::clock::Millis;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{About, EventKind};
use crate::id::{Named, SessionId, StoreKey};
use crate::provider::{Provider, Updated};
use crate::record::{Mark, Record};

/// How often one that ends a session follows it to another id, or loses a race against those who change it, before it
/// stops asking for the version.
const PURSUIT: usize = 64;

/// How many rotations may lie between an id in its grace and the session: more only where ids rotate faster than requests end.
const HOPS: usize = 16;

/// What one id leads to.
pub(crate) enum Reached {
    Nobody,
    /// The id was replaced, or its session was ended, so recently that requests may still be under way with it.
    Ended(Former),
    Session(Stored),
}

impl Engine {
    /// What the names of a request lead to.
    pub(crate) async fn find(&self, names: SmallVec<[Named; 1]>) -> Result<Found> {
        #[cfg(feature = "beego")]
        let presented = self.former.is_some().then(|| names.clone());
        let found = self.find_among(names.into_iter()).await?;
        #[cfg(feature = "beego")]
        if let (Found::Nobody, Some(presented)) = (&found, presented) {
            return self.adopt(&presented).await;
        }
        Ok(found)
    }

    /// The one session among several names that is alive. Two are as good as none: an attacker who can plant a cookie must
    /// not choose.
    pub(crate) async fn find_among(&self, names: impl Iterator<Item = Named>) -> Result<Found> {
        let mut alive: Vec<Stored> = Vec::new();
        let mut ended: Option<Former> = None;
        for name in names {
            let found = match self.look_up(name).await? {
                Reached::Nobody => continue,
                Reached::Ended(former) => {
                    ended = Some(former.or(ended));
                    continue;
                }
                Reached::Session(found) => found,
            };
            // An id in its grace and its successor name the same session; the successor is the one to use. So do two sealed
            // records of one session; the newer is.
            let newer = |same: &Stored| same.by != By::Own || found.record.version() > same.record.version();
            match alive.iter_mut().find(|one| one.name.key() == found.name.key()) {
                Some(same) if newer(same) => *same = found,
                Some(_) => {}
                None => alive.push(found),
            }
        }
        if alive.len() > 1 {
            self.events.report(EventKind::Duplicate, alive.len() as u64);
            return Ok(Found::Contested(alive.into_iter().map(|stored| stored.name.key().clone()).collect()));
        }
        let nobody = ended.map_or(Found::Nobody, Found::Ended);
        Ok(alive.pop().map_or(nobody, Found::One))
    }

    /// The live session of `id`, if there is one.
    pub(crate) async fn find_id(&self, id: &SessionId) -> Result<Option<Stored>> {
        match self.look_up(self.name_of(id)).await? {
            Reached::Session(stored) => Ok(Some(stored)),
            Reached::Nobody | Reached::Ended(_) => Ok(None),
        }
    }

    /// The live session that the `name` of an arriving request reaches, or the one to which a tombstone leads while the grace
    /// of its rotation lasts.
    pub(crate) async fn look_up(&self, name: Named) -> Result<Reached> {
        self.look(name, true).await
    }

    /// What has become of a session that was reached before. Routine rotation does not part it from who holds it, however long
    /// ago that was.
    pub(crate) async fn look_again(&self, former: &Stored) -> Result<Reached> {
        #[cfg(feature = "beego")]
        if former.by == By::Unmoved {
            return self.look_for_unmoved(&former.name).await;
        }
        let name = self.name_again(former)?;
        Ok(match self.look(name, false).await? {
            // The key is the session's own by now, and the id still the one that was rotated away.
            Reached::Session(found) if former.by == By::Grace => {
                Reached::Session(Stored { by: By::Grace, ..found })
            }
            reached => reached,
        })
    }

    async fn look(&self, name: Named, arriving: bool) -> Result<Reached> {
        let Some(record) = self.load(name.key()).await? else {
            return self.look_for_plain(name, arriving).await;
        };
        match record.mark() {
            None => Ok(Reached::Session(self.stored(name, record))),
            Some(mark) => self.follow(name, record, mark, arriving).await,
        }
    }

    /// The record under `key`: a session whose data this build can read, or a tombstone.
    pub(super) async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let loaded = self.load_any(key).await?;
        if let Some(record) = loaded.as_ref().filter(|record| !record.is_tombstone()) {
            record.check_readable()?;
        }
        Ok(loaded)
    }

    /// [`load`](Self::load) for a caller that does not read the data: a newer release's session can be ended.
    async fn load_any(&self, key: &StoreKey) -> Result<Option<Record>> {
        let loaded = match self.provider.load(key).await {
            Ok(Some(record)) if record.is_sealed() && !record.is_sealed_anew() => {
                Err(Error::new(ErrorKind::Corrupt, Sealed))
            }
            Ok(Some(record)) if self.is_foreign(&record) => Ok(None),
            found => found,
        };
        loaded.map_err(|error| self.report_corrupt(error, key))
    }

    /// `record`, which is new, with the mark of this manager's namespace where its key does not tell it.
    pub(crate) fn marked(&self, record: Record) -> Record {
        match &self.namespace {
            Some(mark) => record.with_namespace(mark),
            None => record,
        }
    }

    fn is_foreign(&self, record: &Record) -> bool {
        self.namespace.as_ref().is_some_and(|mark| record.is_of_another_namespace(mark))
    }

    /// The keys by which a logout ends the sessions of `names`, whose data this build need not be able to read.
    pub(crate) async fn keys_to_end(&self, names: impl Iterator<Item = Named>) -> Result<Vec<StoreKey>> {
        let mut keys = Vec::new();
        for name in names {
            let own_id = match &self.tokens {
                None => None,
                Some(_) => self.load_any(name.key()).await?.and_then(|record| record.own_id()),
            };
            keys.push(own_id.map_or_else(|| name.key().clone(), |id| self.name_of(&id).key().clone()));
        }
        Ok(keys)
    }

    /// Follows the `tombstone` under the key of `name` to the session, as long as rotations alone lie between the two.
    async fn follow(&self, name: Named, tombstone: Record, mark: Mark, arriving: bool) -> Result<Reached> {
        let (mut next, mut at) = (mark, tombstone.times().last_active);
        for hop in 0..HOPS {
            let Mark::Rotated { successor, until } = next else {
                let former = self.former(&name, &tombstone, next, at);
                return Ok(Reached::Ended(if hop == 0 { former } else { former.without_successor() }));
            };
            if arriving && self.now() >= until {
                return self.reused(&name, &tombstone, successor, until).await;
            }
            let Some(record) = self.load(&successor).await? else {
                return Ok(Reached::Ended(Former::Ended));
            };
            match record.mark() {
                None => {
                    #[cfg(feature = "beego")]
                    if hop == 0 && tombstone.successor_id().is_some() {
                        return Ok(Reached::Session(self.moved(&name, &tombstone, &successor, record).await));
                    }
                    let name = name.to(successor);
                    return Ok(Reached::Session(Stored { name, record, by: By::Grace }));
                }
                Some(mark) => (next, at) = (mark, record.times().last_active),
            }
        }
        Ok(Reached::Ended(Former::Ended))
    }

    /// A rotated id has come after its grace: either a client never saw the new one, or somebody has stolen the old one.
    async fn reused(
        &self,
        name: &Named,
        tombstone: &Record,
        successor: StoreKey,
        until: Millis,
    ) -> Result<Reached> {
        self.events.report(EventKind::Reuse, name.key());
        if self.config.end_user_on_reuse && self.is_only_rotated(&successor).await? {
            self.end_all_of(&successor).await?;
        }
        Ok(Reached::Ended(self.former(name, tombstone, Mark::Rotated { successor, until }, until)))
    }

    /// True if nothing but routine rotation lies between `key` and a live session. Where a login does, a holder of an earlier id
    /// may have planted that id, and must not end the user's sessions by it.
    async fn is_only_rotated(&self, key: &StoreKey) -> Result<bool> {
        let mut key = key.clone();
        for _ in 0..PURSUIT {
            let Some(record) = self.load(&key).await? else { return Ok(false) };
            match record.mark() {
                None => return Ok(true),
                Some(Mark::Rotated { successor, .. }) => key = successor,
                Some(Mark::Replaced { .. } | Mark::Ended) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Ends every session of the user whose session is, or has gone on from, `key`; that session alone where nobody has logged in.
    async fn end_all_of(&self, key: &StoreKey) -> Result<()> {
        let Some((key, record)) = self.present(key).await? else { return Ok(()) };
        match record.principal().filter(|_| self.provider.capabilities().lists) {
            Some(principal) => {
                self.end_sessions(&principal, |_| true).await?;
            }
            None => {
                self.end(&key).await?;
            }
        }
        Ok(())
    }

    /// The live session under `key`, or the one that has gone on from it to another id.
    pub(super) async fn present(&self, key: &StoreKey) -> Result<Option<(StoreKey, Record)>> {
        let mut key = key.clone();
        for _ in 0..PURSUIT {
            let Some(record) = self.load_any(&key).await? else { return Ok(None) };
            match record.mark() {
                None => return Ok(Some((key, record))),
                Some(mark) => match mark.successor() {
                    Some(successor) => key = successor,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// Ends the session under `key`, or the one that has gone on from it to another id; false if there is none.
    ///
    /// Needs no more than the store can still do: where it refuses a tombstone, or cannot load the session, the record is deleted.
    pub(crate) async fn end(&self, key: &StoreKey) -> Result<bool> {
        if self.tokens.is_some() {
            return self.provider.delete(key).await;
        }
        let mut latest = key.clone();
        for _ in 0..PURSUIT {
            let (present, record) = match self.present(&latest).await {
                Ok(Some(found)) => found,
                // A sealed record that no key of the ring opens is loaded as none, and would live again with its key.
                Ok(None) => return self.provider.delete(&latest).await,
                // A record that cannot be read, or a store that cannot load, must not keep a user from ending a session.
                Err(error) => return self.delete_or(&latest, error).await,
            };
            match self.bury(&present, &record).await? {
                Updated::Done => {
                    let about = About { record: Some(&record), ..About::from(&present) };
                    self.events.report(EventKind::Destroyed, about);
                    return Ok(true);
                }
                // Changed, renamed or ended by another meanwhile: what is there now?
                Updated::Stale | Updated::Gone => latest = present,
            }
        }
        // Somebody changes it without a pause. That must not keep it alive.
        let deleted = self.provider.delete(&latest).await?;
        if deleted {
            self.events.report(EventKind::Destroyed, &latest);
        }
        Ok(deleted)
    }

    /// Ends the session that a request names by `key`: itself, or the one that leads there while the grace of its rotation lasts. A later
    /// login stays, since whoever holds an id of before it may have planted that id.
    pub(crate) async fn end_named(&self, key: &StoreKey) -> Result<bool> {
        let mut key = key.clone();
        for _ in 0..HOPS {
            let Ok(Some(record)) = self.load_any(&key).await else { return self.end(&key).await };
            match record.mark() {
                None => {
                    // Where the token is the record, the session's own key is in it.
                    let own = self.tokens.as_ref().and_then(|_| record.own_id());
                    return self.end(&own.map_or(key, |id| self.name_of(&id).key().clone())).await;
                }
                Some(Mark::Rotated { successor, until }) if self.now() < until => key = successor,
                Some(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Deletes the record under `key` though `error` came before; the error stands where there was nothing to delete.
    async fn delete_or(&self, key: &StoreKey, error: Error) -> Result<bool> {
        match self.provider.delete(key).await {
            Ok(true) => {
                self.events.report(EventKind::Destroyed, key);
                Ok(true)
            }
            // Put aside since it was found unreadable: nothing is there any more.
            Ok(false) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible) => Ok(false),
            Ok(false) | Err(_) => Err(error),
        }
    }

    /// Puts a tombstone in the place of `record`, where the store holds such and takes one; else deletes it.
    pub(crate) async fn bury(&self, key: &StoreKey, record: &Record) -> Result<Updated> {
        let mut refused = None;
        if self.provider.capabilities().tombstones {
            let now = self.now();
            let tombstone = record.tombstone(&Mark::Ended, now, now.after(self.config.longest_request));
            match self.provider.update(key, &tombstone, record.version()).await {
                Err(error) => refused = Some(error),
                answer => return answer,
            }
        }
        match (self.provider.delete(key).await, refused) {
            (Ok(true), Some(error)) => {
                tracing::warn!(%error, "the store took no mark of a session's end; its record was deleted");
                Ok(Updated::Done)
            }
            (Ok(true), None) => Ok(Updated::Done),
            (Ok(false), _) => Ok(Updated::Gone),
            (Err(error), refused) => Err(refused.unwrap_or(error)),
        }
    }

    /// The tombstone of the id `old`, which is replaced by that of `successor`: routine rotation `in_passing` leaves it a grace. None
    /// where the store holds none.
    pub(crate) fn forwarding(
        &self,
        old: &Named,
        record: &Record,
        successor: &Named,
        in_passing: bool,
    ) -> Option<Record> {
        if !self.provider.capabilities().tombstones {
            return None;
        }
        let (now, key) = (self.now(), successor.key().clone());
        let Config { longest_request, rotation_grace, idle_timeout, .. } = self.config;
        if in_passing {
            let until = now.after(rotation_grace);
            // A thief who comes within the idle timeout is noticed.
            let forgotten = until.after(longest_request.max(idle_timeout));
            return Some(record.tombstone(&Mark::Rotated { successor: key, until }, now, forgotten));
        }
        let tombstone = record.tombstone(&Mark::Replaced { successor: key }, now, now.after(longest_request));
        Some(self.telling(tombstone, old, successor))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the record is sealed, and this manager has no keys; give it the ring that sealed it")]
struct Sealed;
