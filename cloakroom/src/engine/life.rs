//! Where an id leads: to a live session, to the mark of one that has ended, or nowhere.

use smallvec::SmallVec;

use super::Engine;
#[cfg(feature = "beego")]
use super::migration::MoveOutcome;
use super::revocation::MOST_CONFLICTS;
use super::stored::{By, Stored};
use super::succession::{Former, Login};
use super::tombstones::MOST_ROTATIONS;
use crate::clock::Millis;
use crate::error::Result;
use crate::event::EventKind;
use crate::id::{Named, SessionId, StoreKey};
use crate::record::{Mark, Record};

/// What one id leads to.
pub(crate) enum Reached {
    Nobody,
    /// The id was replaced, or its session was ended, so recently that requests may still be under way with it.
    Ended(Former),
    Session(Stored),
}

/// The outcome of the lookup of a request's ids.
pub(crate) enum Found {
    Nobody,
    /// No session any more: see [`Reached::Ended`].
    Ended(Former),
    One(Stored),
    /// Several sessions. None of them is used, but a logout ends them all.
    Contested(Vec<StoreKey>),
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
        match self.look_up(self.ids.name_of(id)).await? {
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
        let name = self.ids.name_again(former)?;
        Ok(match self.look(name, false).await? {
            // The key is the session's own by now, and the id still the one that was rotated away.
            Reached::Session(found) if former.by == By::Grace => {
                Reached::Session(Stored { by: By::Grace, ..found })
            }
            reached => reached,
        })
    }

    async fn look(&self, name: Named, arriving: bool) -> Result<Reached> {
        let Some(record) = self.records.load(name.key()).await? else {
            if let Some(stored) = self.plain_ids.adopt(&name).await? {
                return Ok(Reached::Session(stored));
            }
            if arriving {
                self.events.report(EventKind::UnknownId, name.key());
            }
            return Ok(Reached::Nobody);
        };
        match record.mark() {
            None => Ok(Reached::Session(self.ids.stored(name, record))),
            Some(mark) => self.follow(name, record, mark, arriving).await,
        }
    }

    /// Follows the `tombstone` under the key of `name` to the session, as long as rotations alone lie between the two.
    async fn follow(&self, name: Named, tombstone: Record, mark: Mark, arriving: bool) -> Result<Reached> {
        let (mut next, mut at) = (mark, tombstone.times().last_active);
        for hop in 0..MOST_ROTATIONS {
            let Mark::Rotated { successor, until } = next else {
                let former = self.tombstones.former(&name, &tombstone, next, at);
                return Ok(Reached::Ended(if hop == 0 { former } else { former.without_successor() }));
            };
            if arriving && self.now() >= until {
                return self.reused(&name, &tombstone, successor, until).await;
            }
            let Some(record) = self.records.load(&successor).await? else {
                return Ok(Reached::Ended(Former::Ended));
            };
            match record.mark() {
                None => {
                    #[cfg(feature = "beego")]
                    if hop == 0 && tombstone.successor_id().is_some() {
                        let moved = self.migration.follow(&name, &tombstone, &successor, record).await;
                        return Ok(Reached::Session(moved));
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
            self.users.end_all_of_session(&successor).await?;
        }
        Ok(Reached::Ended(self.tombstones.former(name, tombstone, Mark::Rotated { successor, until }, until)))
    }

    /// True if nothing but routine rotation lies between `key` and a live session. Where a login does, a holder of an earlier id
    /// may have planted that id, and must not end the user's sessions by it.
    async fn is_only_rotated(&self, key: &StoreKey) -> Result<bool> {
        let mut key = key.clone();
        for _ in 0..MOST_CONFLICTS {
            let Some(record) = self.records.load(&key).await? else { return Ok(false) };
            match record.mark() {
                None => return Ok(true),
                Some(Mark::Rotated { successor, .. }) => key = successor,
                Some(Mark::Replaced { .. } | Mark::Ended) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Moves the session of `name` from the former store, so that it can be changed.
    #[cfg(feature = "beego")]
    pub(crate) async fn move_now(&self, name: &Named) -> Result<Found> {
        let moved = self.migration.move_now(name).await?;
        self.found_by(moved, std::slice::from_ref(name)).await
    }

    /// Looks up a session again that a request has read in the former store.
    #[cfg(feature = "beego")]
    async fn look_for_unmoved(&self, name: &Named) -> Result<Reached> {
        Ok(match self.adopt(std::slice::from_ref(name)).await? {
            Found::One(stored) => Reached::Session(stored),
            Found::Ended(former) => Reached::Ended(former),
            Found::Nobody | Found::Contested(_) => Reached::Nobody,
        })
    }

    /// Moves the session that one of `names` has in the former store.
    #[cfg(feature = "beego")]
    async fn adopt(&self, names: &[Named]) -> Result<Found> {
        let moved = self.migration.adopt(names).await?;
        self.found_by(moved, names).await
    }

    #[cfg(feature = "beego")]
    async fn found_by(&self, moved: MoveOutcome, names: &[Named]) -> Result<Found> {
        match moved {
            MoveOutcome::Session(stored) => Ok(Found::One(stored)),
            MoveOutcome::ByAnother => self.find_among(names.iter().cloned()).await,
            MoveOutcome::None => Ok(Found::Nobody),
        }
    }

    /// Returns the session that a login may join in place of the one whose id it came with.
    pub(crate) async fn joinable(&self, former: &Former, login: &Login<'_>) -> Result<Option<Stored>> {
        let Former::Replaced { successor: Some(successor), .. } = former else { return Ok(None) };
        let Some(record) = self.records.load(successor.key()).await? else { return Ok(None) };
        let fits = login.may_join(&record, &self.deadlines, self.now());
        Ok(fits.then(|| self.ids.stored(successor.clone(), record)))
    }
}
