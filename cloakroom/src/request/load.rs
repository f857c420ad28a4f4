//! The drivers of the lookup: one polls the store once, the other awaits it.

use std::time::Duration;

use smallvec::SmallVec;

use super::exchange::Exchange;
use super::guards::Turn;
use super::lookup::{Found, LookupKind, Merge, Moved, Reached, Reused, Trail, TrailStep};
use super::state::{Phase, State, too_late};
use crate::engine::{By, Candidates, Engine, LoadedAtOnce, MoveOutcome, Presented, Stored, within};
use crate::error::{ErrorKind, Result};
use crate::event::EventKind;
use crate::id::{Named, SessionId};
use crate::sync::MutexGuard;

impl Exchange {
    /// Loads the session. True if there is one.
    pub(crate) async fn load(&self) -> Result<bool> {
        match self.load_at_once() {
            Some(loaded) => loaded,
            // Boxed, since it is large, and so would be every future that loads a session.
            None => Box::pin(self.load_waiting()).await,
        }
    }

    /// [`load`](Self::load) if one call of a provider that never waits is enough; `None` where it takes more.
    pub(crate) fn load_at_once(&self) -> Option<Result<bool>> {
        let mut state = self.state();
        if state.is_loaded() {
            return Some(Ok(state.stored.is_some()));
        }
        if let Err(error) = state.note_asked() {
            return Some(Err(error));
        }
        let engine = &self.engine;
        if state.turns.taken || !engine.provider.is_at_once() {
            return None;
        }
        let mut name = engine.ids.only_candidate(&self.presented);
        if name.is_none() && !self.presented.is_blank() {
            let candidates = engine.ids.candidates(&self.presented, &engine.events);
            if !candidates.are_plain() {
                return None;
            }
            name = candidates.first;
        }
        if let Some(name) = name {
            return self.load_name_at_once(state, name);
        }
        if engine.migration.has_own_cookie() && self.presented.visit().is_some() {
            return None;
        }
        state.phase = Phase::Loaded;
        Some(Ok(false))
    }

    /// Loads the only id of a request with one call. `None` if more has to be done: another record, an event, or a store to migrate from.
    ///
    /// The phase is still `Asked` then, and nothing else has changed, so the waiting driver may begin again.
    #[inline]
    fn load_name_at_once(&self, mut state: MutexGuard<'_, State>, name: Named) -> Option<Result<bool>> {
        let engine = &self.engine;
        let record = match engine.records.load_at_once(name.key())? {
            // Most lookups end here. The trail decides the others.
            Ok(LoadedAtOnce::Session(record)) => {
                state.stored.get_or_insert_with(|| engine.ids.stored(name, record));
                state.phase = Phase::Loaded;
                return Some(Ok(true));
            }
            Ok(LoadedAtOnce::Other(record)) => record,
            Err(error) => {
                drop(state);
                return Some(Err(engine.records.report_corrupt(error, name.key())));
            }
        };
        match Trail::new(name, LookupKind::Arriving).loaded(record, engine) {
            TrailStep::Missing { name, .. } if !engine.migration.is_on() => {
                state.phase = Phase::Loaded;
                drop(state);
                Some(engine.records.report_unknown(&name).map(|()| false))
            }
            _ => None,
        }
    }

    /// [`load`](Self::load) by awaiting the provider, where [`load_at_once`](Self::load_at_once) does not do.
    pub(crate) async fn load_waiting(&self) -> Result<bool> {
        let mut limit = self.engine.config.deadline;
        let (turn, former) = loop {
            match self.begin_to_load()? {
                Start::Loaded(has_session) => return Ok(has_session),
                Start::MyTurn(turn, waited) => break (turn, waited),
                Start::OthersTurn => {
                    let (turn, waited) = Turn::wait(self, limit).await?;
                    limit = limit.saturating_sub(waited);
                    drop(turn);
                }
            }
        };
        // A request that asks again after a failure does not get another deadline.
        let (found, waited) = self.find(limit.saturating_sub(former)).await;
        let mut state = self.state();
        state.waited = former + waited;
        let found = found?;
        if state.phase != Phase::Asked {
            return Err(too_late("load"));
        }
        match found {
            Found::Nobody => {}
            Found::Ended(former) => state.rare().ended = Some(former),
            Found::One(stored) => state.found(stored),
            Found::Contested(keys) => state.rare().contested = keys,
        }
        state.phase = Phase::Loaded;
        let has_session = state.stored.is_some();
        drop(state);
        drop(turn);
        Ok(has_session)
    }

    fn begin_to_load(&self) -> Result<Start<'_>> {
        let mut state = self.state();
        if state.is_loaded() {
            return Ok(Start::Loaded(state.stored.is_some()));
        }
        state.note_asked()?;
        if !state.turns.try_take() {
            return Ok(Start::OthersTurn);
        }
        Ok(Start::MyTurn(Turn::taken(self), state.waited))
    }

    /// Looks up the ids of the request. Also returns the time that this waited.
    async fn find(&self, deadline: Duration) -> (Result<Found>, Duration) {
        let engine = &self.engine;
        let Candidates { first, others, malformed } = engine.ids.candidates(&self.presented, &engine.events);
        for token in malformed {
            engine.events.report(EventKind::MalformedId, token);
        }
        if first.is_none() && !others.is_empty() {
            engine.events.report(EventKind::Duplicate, others.len() as u64);
            let keys = others.iter().map(|name| name.key().clone()).collect();
            return (Ok(Found::Contested(keys)), Duration::ZERO);
        }
        let names = first.into_iter().chain(others).collect::<SmallVec<[_; 1]>>();
        if names.is_empty() && !engine.migration.has_own_cookie() {
            return (Ok(Found::Nobody), Duration::ZERO);
        }
        within(deadline, Box::pin(find(engine, &names, &self.presented))).await
    }

    /// Loads the session for a caller that only ends it. A newer release's session, which cannot be read, is ended by its key.
    pub(crate) async fn load_to_end(&self) -> Result<()> {
        match self.load().await {
            Err(error) if error.kind() == ErrorKind::Incompatible => {}
            loaded => return loaded.map(drop),
        }
        let deadline = self.engine.config.deadline.saturating_sub(self.state().waited);
        let (_turn, queued) = Turn::wait(self, deadline).await?;
        let Candidates { first, others, .. } =
            self.engine.ids.candidates(&self.presented, &self.engine.events);
        let keys = self.engine.revocation.keys_to_end(first.into_iter().chain(others));
        let (keys, waited) = within(deadline.saturating_sub(queued), Box::pin(keys)).await;
        let mut state = self.state();
        state.waited += waited;
        state.rare().contested = keys?;
        state.phase = Phase::Loaded;
        Ok(())
    }

    /// Reads the newest record; false if the session has ended. Pending changes are kept.
    pub(crate) async fn reload(&self) -> Result<bool> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = Turn::wait(self, deadline).await?;
        let Some(former) = self.stored(Stored::clone) else { return Ok(false) };
        let looked_up = look_again(&self.engine, &former);
        let reached = within(deadline.saturating_sub(waited), looked_up).await.0?;
        let Reached::Session(newest) = reached else { return Ok(false) };
        self.state().found(newest);
        Ok(true)
    }
}

/// The way in which a call to load begins. Of several calls in one request, one loads and the others wait for it.
enum Start<'a> {
    /// True if there is a session.
    Loaded(bool),
    /// With the time that this request has waited already.
    MyTurn(Turn<'a>, Duration),
    OthersTurn,
}

/// Looks up the session of a request's ids, here and in the former store.
async fn find(engine: &Engine, names: &[Named], presented: &Presented) -> Result<Found> {
    let found = find_here(engine, names, LookupKind::Arriving).await?;
    if !matches!(found, Found::Nobody) || !engine.migration.is_on() {
        return Ok(found);
    }
    if !engine.migration.has_own_cookie() {
        return adopt(engine, names).await;
    }
    let old = engine.migration.presented(presented);
    match find_here(engine, &old, LookupKind::Claim).await? {
        Found::Nobody if !old.is_empty() => adopt(engine, &old).await,
        found => Ok(found),
    }
}

/// Moves the session of `names` here from the former store.
async fn adopt(engine: &Engine, names: &[Named]) -> Result<Found> {
    let moved = engine.migration.adopt(names).await?;
    found_after(engine, moved, names).await
}

/// Returns the session of `names` after an attempt to move it here.
async fn found_after(engine: &Engine, moved: MoveOutcome, names: &[Named]) -> Result<Found> {
    match moved {
        MoveOutcome::Session(stored) => Ok(Found::One(stored)),
        MoveOutcome::ByAnother if engine.migration.has_own_cookie() => {
            let found = find_here(engine, names, LookupKind::Claim).await?;
            if matches!(found, Found::Nobody) {
                names.iter().try_for_each(|name| engine.records.report_unknown(name))?;
            }
            Ok(found)
        }
        MoveOutcome::ByAnother => find_here(engine, names, LookupKind::Arriving).await,
        MoveOutcome::None => Ok(Found::Nobody),
    }
}

async fn find_here(engine: &Engine, names: &[Named], kind: LookupKind) -> Result<Found> {
    let mut merge = Merge::default();
    for name in names {
        merge.add(follow(engine, Trail::new(name.clone(), kind)).await?);
    }
    let found = merge.found();
    if let Found::Contested(keys) = &found {
        engine.events.report(EventKind::Duplicate, keys.len() as u64);
    }
    Ok(found)
}

/// Moves the session of `name`, which the request read in the former store, so that it can be changed.
pub(super) async fn move_here(engine: &Engine, name: &Named) -> Result<Option<Stored>> {
    let moved = engine.migration.move_now(name).await?;
    match found_after(engine, moved, std::slice::from_ref(name)).await? {
        Found::One(moved) => Ok(Some(moved)),
        Found::Nobody | Found::Ended(_) | Found::Contested(_) => Ok(None),
    }
}

/// Looks up the live session of `id`, for a caller that is no request.
pub(crate) async fn find_id(engine: &Engine, id: &SessionId) -> Result<Option<Stored>> {
    match follow(engine, Trail::new(engine.ids.name_of(id), LookupKind::Arriving)).await? {
        Reached::Session(stored) => Ok(Some(stored)),
        Reached::Nobody | Reached::Ended(_) => Ok(None),
    }
}

/// Looks up what has become of a session that was found before.
pub(crate) async fn look_again(engine: &Engine, former: &Stored) -> Result<Reached> {
    if former.by == By::Unmoved {
        return Ok(match adopt(engine, std::slice::from_ref(&former.name)).await? {
            Found::One(stored) => Reached::Session(stored),
            Found::Ended(former) => Reached::Ended(former),
            Found::Nobody | Found::Contested(_) => Reached::Nobody,
        });
    }
    let name = engine.ids.name_again(former)?;
    Ok(match follow(engine, Trail::new(name, LookupKind::Holder)).await? {
        // The session has its own key by now, and the client still has the id that was rotated away.
        Reached::Session(found) if former.by == By::Grace => {
            Reached::Session(Stored { by: By::Grace, ..found })
        }
        Reached::Nobody if former.record.expired_at(engine.now()) => {
            engine.events.report(EventKind::Expired, former);
            Reached::Nobody
        }
        reached => reached,
    })
}

/// Follows one id through the store.
async fn follow(engine: &Engine, trail: Trail) -> Result<Reached> {
    let mut next = TrailStep::Load(trail);
    loop {
        next = match next {
            TrailStep::Load(trail) => {
                let record = engine.records.load(trail.key()).await?;
                trail.loaded(record, engine)
            }
            TrailStep::Reached(reached) => return Ok(reached),
            // The former store may have it. No native session has such a key.
            TrailStep::Missing { kind: LookupKind::Claim, .. } => return Ok(Reached::Nobody),
            TrailStep::Missing { name, kind } => {
                if let Some(stored) = engine.plain_ids.adopt(&name).await? {
                    return Ok(Reached::Session(stored));
                }
                if kind == LookupKind::Arriving {
                    engine.events.report(EventKind::UnknownId, name.key());
                }
                return Ok(Reached::Nobody);
            }
            TrailStep::Reused(reused) => {
                let Reused { name, successor, former } = *reused;
                engine.events.report(EventKind::Reuse, name.key());
                if engine.config.end_user_on_reuse && engine.revocation.is_only_rotated(&successor).await? {
                    engine.users.end_all_of_session(&successor).await?;
                }
                return Ok(Reached::Ended(former));
            }
            TrailStep::Moved(moved) => {
                let Moved { name, tombstone, successor, record } = *moved;
                return Ok(Reached::Session(
                    engine.migration.follow(&name, &tombstone, &successor, record).await,
                ));
            }
        };
    }
}
