//! The commit: compare versions, swap, and replay on the newest record where another request was first.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::Released;
use super::changes::Changes;
use super::guards::{InFlight, Releasing};
use super::load::Again;
use super::plan::Step;
use super::state::{Due, Phase, Shared, State, released};
use crate::clock::Millis;
use crate::codec::{Change, Codec};
#[cfg(feature = "beego")]
use crate::engine::Found;
use crate::engine::{By, COLLISIONS, Stored, repeats_itself, within};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{About, EventKind};
#[cfg(feature = "beego")]
use crate::id::Named;
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::record::{Record, Times};
use crate::sync::sleep;

/// Lost races before a commit gives up. Within a process a loser queues, so only other processes can take its turn.
const TRIES: u32 = 64;

/// Logins for the last place of a user that withdraw in favour of one another before one gives up. Within a process they queue.
const CROWDED: u32 = 8;

/// How a step went.
enum Took {
    Done(Released),
    /// The old session has ended; what else was asked is of a new one.
    Ended,
    /// Another request was first.
    Lost,
    /// A fresh id was taken already.
    Collided,
    /// The user has too many sessions: this one, or one that another process has begun at the same time.
    Crowded,
    /// The session is not there any more.
    Gone,
    /// Nothing was stored, but the record in the state is another: plan anew.
    Again,
}

impl Shared {
    pub(super) async fn save(&self) -> Result<()> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = self.turn(deadline).await?;
        if !self.state().is_open() {
            return Err(released("save"));
        }
        let saved = self.commit(deadline.saturating_sub(waited)).await?;
        self.state().delivered();
        match saved {
            Released::Gone { lost_write: true } => Err(Error::new(ErrorKind::Gone, CommitError::Gone)),
            _ => Ok(()),
        }
    }

    pub(super) async fn release(&self, headers: &mut HeaderMap) -> Result<Released> {
        match self.release_at_once(headers) {
            Some(done) => Ok(done),
            None => self.release_waiting(headers).await,
        }
    }

    /// What [`release_at_once`](Self::release_at_once) leaves.
    pub(crate) async fn release_waiting(&self, headers: &mut HeaderMap) -> Result<Released> {
        let deadline = self.engine.config.deadline.saturating_sub(self.state().waited);
        let (_turn, waited) = self.turn(deadline).await?;
        {
            let mut state = self.state();
            match state.phase {
                Phase::Released(outcome) => return Ok(outcome),
                Phase::Closed => return Ok(Released::Unchanged),
                _ => state.phase = Phase::Releasing,
            }
        }
        let budget = deadline.saturating_sub(waited);
        let _releasing = Releasing(self);
        match self.commit(budget).await {
            Ok(outcome) => self.finish(&mut self.state(), outcome, headers).map(|()| outcome),
            Err(error) => {
                match error.kind() {
                    ErrorKind::Refused => self.tell(&self.state(), headers)?,
                    _ => self.engine.responses.set_vary(headers),
                }
                Err(error)
            }
        }
    }

    /// Ends the request and tells the client. Only a token that is to be sealed can fail.
    #[inline]
    pub(super) fn finish(&self, state: &mut State, outcome: Released, headers: &mut HeaderMap) -> Result<()> {
        match outcome {
            // What was stored and perhaps due earlier in the request is dead as well.
            Released::Gone { .. } => self.engine.responses.set_vary(headers),
            _ => self.tell(state, headers)?,
        }
        if let Some(kept) = state.form_secret() {
            self.tell_form_secret(kept, headers);
        }
        state.phase = Phase::Released(outcome);
        state.delivered();
        Ok(())
    }

    #[inline]
    fn tell(&self, state: &State, headers: &mut HeaderMap) -> Result<()> {
        self.engine.responses.set_vary(headers);
        match (state.cookie, &state.stored) {
            (Due::HandOut, Some(stored)) => {
                self.engine.collection.record_session();
                self.engine.responses.set_token(headers, stored)?;
                if state.plain_http {
                    self.engine.responses.warn_of_plain_http();
                }
            }
            (Due::TakeBack, _) => self.engine.responses.remove_token(headers),
            _ => {}
        }
        Ok(())
    }

    /// Stores what is pending within `budget`. It is this one's turn.
    async fn commit(&self, budget: Duration) -> Result<Released> {
        let mut in_flight = {
            let mut state = self.state();
            state.in_flight = state.changes.take();
            InFlight { shared: self, keep: true }
        };
        let outcome = within(budget, self.replay(|| Ok(()))).await.0;
        match &outcome {
            Ok(_) => in_flight.landed(),
            // A store that notes no use, or gives no new id in passing, has still served this request.
            Err(error) if self.only_read() => {
                tracing::warn!(%error, "the use of a session could not be noted");
                in_flight.landed();
                return Ok(Released::Unchanged);
            }
            // What came with a login that was refused must not reach the session as it was before.
            Err(error) => in_flight.keep = error.kind() != ErrorKind::Refused,
        }
        outcome
    }

    /// True if nothing that the request asked for is in flight.
    fn only_read(&self) -> bool {
        self.state().in_flight.as_ref().is_none_or(|changes| changes.is_empty())
    }

    /// Does step after step until what is in flight is stored, or never can be. `prepare` comes before each, on the newest
    /// record.
    async fn replay(&self, mut prepare: impl FnMut() -> Result<()> + Send) -> Result<Released> {
        let (mut tries, mut collisions, mut crowded, mut followed) = (0, 0, 0, false);
        let mut queue = None;
        let (mut ended, mut joined, mut tried, mut admitted) = (false, false, false, false);
        loop {
            prepare()?;
            let step = self.plan_in_flight(!tried)?;
            if let Step::Join { former } = step {
                (tried, joined) = (true, self.join(&former).await?);
                continue;
            }
            let took = match self.take(step, &mut admitted).await {
                Ok(took) => took,
                Err(error) => self.join_instead(error, &mut joined).await?,
            };
            match took {
                Took::Done(Released::Unchanged) if ended => return Ok(Released::Destroyed),
                // The client is told the id of the session that it joined, whatever else was stored.
                Took::Done(_) if joined => return Ok(Released::Regenerated),
                Took::Done(outcome) => return Ok(outcome),
                Took::Again => {}
                Took::Ended => ended = true,
                Took::Collided if collisions < COLLISIONS => collisions += 1,
                Took::Collided => return Err(repeats_itself()),
                Took::Crowded if crowded == CROWDED => {
                    return Err(Error::new(ErrorKind::Refused, CommitError::Crowded));
                }
                Took::Crowded => {
                    crowded += 1;
                    sleep(pause(crowded)).await;
                }
                Took::Lost if tries == TRIES => {
                    self.report_stored(EventKind::Conflict);
                    return Err(Error::new(ErrorKind::Conflict, CommitError::Conflict));
                }
                Took::Lost => {
                    tries += 1;
                    let Some(key) = self.stored(|stored| stored.name.key().clone()) else { continue };
                    match &queue {
                        None => queue = Some(self.engine.commits.lock(key.as_bytes()).await),
                        Some(_) => sleep(pause(tries)).await,
                    }
                    match self.look_again().await? {
                        Again::Alive => {}
                        Again::Dead(Some(former)) if !joined && self.join(&former).await? => joined = true,
                        Again::Dead(_) => return Ok(self.gone(joined)),
                    }
                }
                Took::Gone => match self.look_again().await? {
                    // It may only have been rotated away, in which case the old id still leads to it for a while.
                    Again::Alive if !followed => followed = true,
                    Again::Dead(Some(former)) if !joined && self.join(&former).await? => joined = true,
                    _ => return Ok(self.gone(joined)),
                },
            }
        }
    }

    /// A login that was refused may join a session instead: the place may be taken by the very one that its double click has begun.
    #[cold]
    async fn join_instead(&self, error: Error, joined: &mut bool) -> Result<Took> {
        if error.kind() == ErrorKind::Refused && !*joined && self.join_if_replaced().await? {
            *joined = true;
            return Ok(Took::Again);
        }
        Err(error)
    }

    #[cold]
    fn report_stored(&self, kind: EventKind) {
        if let Some(stored) = self.stored(Stored::clone) {
            self.engine.events.report(kind, &stored);
        }
    }

    /// The session is gone; with it a login that had `joined` it.
    fn gone(&self, joined: bool) -> Released {
        let state = self.state();
        let lost = state.in_flight.as_ref().is_some_and(|changes| changes.would_be_lost());
        Released::Gone { lost_write: lost || joined }
    }

    /// The step for the changes in flight, on the record as it was last seen. A login under a replaced id `may_join` another first.
    fn plan_in_flight(&self, may_join: bool) -> Result<Step> {
        let state = self.state();
        let Some(changes) = state.in_flight.as_deref() else { return self.plan(&state, &Changes::default()) };
        match state.ended() {
            Some(former) if may_join && changes.principal.is_some() => {
                Ok(Step::Join { former: former.clone() })
            }
            _ => self.plan(&state, changes),
        }
    }

    /// Does `step`. A commit is `admitted` at most once, however often its step is planned anew.
    async fn take(&self, step: Step, admitted: &mut bool) -> Result<Took> {
        let provider = &self.engine.provider;
        Ok(match step {
            Step::Nothing => Took::Done(Released::Unchanged),
            Step::Touch { key, at } => match provider.touch(&key, at.into()).await? {
                Touched::Done => self.touched(at),
                Touched::Gone => Took::Gone,
            },
            Step::Create { new } => {
                if new.record.times().authenticated.is_none() && !*admitted {
                    self.engine.admission.admit(self.presented.visit()).await?;
                    *admitted = true;
                }
                let login = self.login();
                let _turn = self.engine.user_limit.admit(login.as_ref(), None).await?;
                match provider.create(new.name.key(), &new.record).await? {
                    Created::Done => self.begin(new, login, None).await?,
                    Created::Taken => Took::Collided,
                }
            }
            Step::Update { key, record, base } => match provider.update(&key, &record, &base).await? {
                Updated::Done => {
                    // The request may have changed nothing itself, and only carried new deadlines to the store.
                    let only_read = self.only_read();
                    let saved = self.updated(&mut self.state(), record);
                    Took::Done(if only_read { Released::Touched } else { saved })
                }
                Updated::Stale => Took::Lost,
                Updated::Gone => Took::Gone,
            },
            Step::Rename { old, expected, new, tombstone } => {
                let login = self.login();
                let _turn = self.engine.user_limit.admit(login.as_ref(), Some(&old)).await?;
                let renamed =
                    provider.rename(&old, new.name.key(), &new.record, expected, tombstone.as_ref()).await?;
                match renamed {
                    Renamed::Done => self.begin(new, login, Some(&old)).await?,
                    Renamed::Taken => Took::Collided,
                    Renamed::Stale => Took::Lost,
                    Renamed::Gone => Took::Gone,
                }
            }
            Step::Destroy { key, record } => self.destroy(&key, &record).await?,
            Step::DestroyAll { keys } => self.destroy_all(&keys).await?,
            #[cfg(feature = "beego")]
            Step::Move { name } => self.take_from_former(&name).await?,
            #[cfg(feature = "beego")]
            Step::DestroyUnmoved { name, record } => self.destroy_unmoved(&name, &record).await?,
            Step::Join { .. } | Step::Gone => Took::Gone,
        })
    }

    /// Moves a session from the former store.
    #[cfg(feature = "beego")]
    async fn take_from_former(&self, name: &Named) -> Result<Took> {
        Ok(match self.engine.move_now(name).await? {
            Found::One(moved) => {
                self.state().reached(moved);
                Took::Again
            }
            Found::Nobody | Found::Ended(_) | Found::Contested(_) => Took::Gone,
        })
    }

    /// Ends a session that is still in the former store.
    #[cfg(feature = "beego")]
    async fn destroy_unmoved(&self, name: &Named, record: &Record) -> Result<Took> {
        if !self.engine.migration.end(name, record).await? {
            return Ok(Took::Gone);
        }
        self.report_stored(EventKind::Destroyed);
        Ok(self.ended())
    }

    async fn destroy_all(&self, keys: &[StoreKey]) -> Result<Took> {
        let mut ended = false;
        for key in keys {
            ended |= self.engine.revocation.end_presented(key).await?;
        }
        Ok(if ended { self.ended() } else { Took::Gone })
    }

    async fn destroy(&self, key: &StoreKey, record: &Record) -> Result<Took> {
        if self.engine.revocation.write_tombstone(key, record).await? == Updated::Done {
            self.report_stored(EventKind::Destroyed);
            return Ok(self.ended());
        }
        // Changed or renamed meanwhile: a logout ends what has become of the session.
        Ok(if self.engine.revocation.end(key).await? { self.ended() } else { Took::Gone })
    }

    fn touched(&self, at: Millis) -> Took {
        let mut state = self.state();
        if let Some(stored) = &mut state.stored {
            stored.record.touch_at(at);
        }
        self.renew_cookie(&mut state);
        Took::Done(Released::Touched)
    }

    pub(super) fn updated(&self, state: &mut State, record: Record) -> Released {
        if let Some(stored) = &mut state.stored {
            // A cookie that was to outlive the browser is replaced where the session no longer is.
            if stored.by != By::Grace
                && state.cookie == Due::Nothing
                && self.engine.responses.renews_cookie(&stored.record)
            {
                state.cookie = Due::HandOut;
            }
            stored.record = record;
        }
        self.renew_cookie(state);
        Released::Saved
    }

    /// The user whom the changes in flight bind, where their sessions are limited.
    fn login(&self) -> Option<Principal> {
        self.engine.config.user_limit?;
        self.state().in_flight.as_ref()?.principal.clone()
    }

    /// A session stands in the store under a fresh id; as a `login` it must be one that the user may have.
    async fn begin(&self, new: Stored, login: Option<Principal>, former: Option<&StoreKey>) -> Result<Took> {
        if login.is_some() && !self.engine.user_limit.enforce(login.as_ref(), new.name.key()).await? {
            self.withdraw(new).await?;
            return Ok(Took::Crowded);
        }
        let events = &self.engine.events;
        let wanted = [EventKind::Created, EventKind::Rotated, EventKind::Authenticated];
        // A listener may use the session, which has its new id by then.
        let told = wanted.iter().any(|kind| events.wanted(*kind)).then(|| new.clone());
        self.state().stands(new);
        if let Some(told) = told {
            self.report_standing(&told, former);
        }
        Ok(Took::Done(if former.is_some() { Released::Regenerated } else { Released::Created }))
    }

    /// Takes back the login under `new`: the visitor has the session of before again, under one more id.
    async fn withdraw(&self, new: Stored) -> Result<()> {
        let Some(Stored { name: left, record: former, .. }) = self.stored(Stored::clone) else {
            self.engine.revocation.end(new.name.key()).await?;
            return Ok(());
        };
        let (key, version) = (new.name.key(), new.record.version());
        let times = Times { version: version.wrapping_add(1), ..former.times() };
        let record = former.rewritten(times, former.data().len(), |data| {
            data.extend_from_slice(former.data());
            Ok(())
        })?;
        let name = self.engine.ids.new_name()?;
        let tombstone = self.engine.tombstones.of_replaced(&new.name, &new.record, &name, self.engine.now());
        let provider = &self.engine.provider;
        let back = provider.rename(key, name.key(), &record, version, tombstone.as_ref()).await?;
        if back == Renamed::Done {
            let back = Stored { name, record, by: By::Own };
            self.state().stands(back.clone());
            let about = About { former: Some(left.key()), ..About::from(&back) };
            self.engine.events.report(EventKind::Rotated, about);
        }
        Ok(())
    }

    /// Tells of a session that has just come to be, or has a new id in the place of `former`.
    pub(super) fn report_standing(&self, stored: &Stored, former: Option<&StoreKey>) {
        let events = &self.engine.events;
        let (kind, login) = match former {
            None => (EventKind::Created, stored.record.times().authenticated.is_some()),
            Some(_) => (EventKind::Rotated, self.binds_user()),
        };
        events.report(kind, About { former, ..About::from(stored) });
        if login {
            events.report(EventKind::Authenticated, stored);
        }
    }

    /// Whether what is in flight is a login.
    fn binds_user(&self) -> bool {
        self.state().in_flight.as_ref().is_some_and(|changes| changes.principal.is_some())
    }

    fn ended(&self) -> Took {
        let mut state = self.state();
        state.stored = None;
        if let Some(rare) = &mut state.rare {
            rare.contested = Vec::new();
        }
        state.cookie = Due::TakeBack;
        if let Some(changes) = &mut state.in_flight {
            changes.end = false;
        }
        Took::Ended
    }

    /// A cookie with a lifetime moves on with the use that was just noted.
    fn renew_cookie(&self, state: &mut State) {
        let told =
            |stored: &Stored| stored.by != By::Grace && self.engine.responses.renews_cookie(&stored.record);
        if state.cookie == Due::Nothing && state.stored.as_ref().is_some_and(told) {
            state.cookie = Due::HandOut;
        }
    }

    /// Changes one key of the newest record: `encode` gets the codec and the old value, may be called again,
    /// and may decide that nothing is to change.
    pub(super) async fn update(
        &self,
        key: &str,
        mut encode: impl FnMut(Codec, Option<&[u8]>) -> Result<Option<Change>> + Send,
    ) -> Result<()> {
        let prepare = || {
            let change = self.with_value(key, &mut encode)?;
            Ok(Changes { keys: change.into_iter().collect(), ..Changes::default() })
        };
        self.change_newest(prepare).await
    }

    /// Commits at once what `make` makes of the newest record; it may be called again. Other changes stay pending, but for those of
    /// more than single keys, which are committed first.
    pub(super) async fn change_newest(&self, mut make: impl FnMut() -> Result<Changes> + Send) -> Result<()> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = self.turn(deadline).await?;
        let deadline = deadline.saturating_sub(waited);
        let structural = {
            let state = self.state();
            if !state.is_open() {
                return Err(released("update"));
            }
            state.changes.as_deref().is_some_and(Changes::are_structural)
        };
        let gone = || Error::new(ErrorKind::Gone, CommitError::Gone);
        if structural && matches!(self.commit(deadline).await?, Released::Gone { .. }) {
            return Err(gone());
        }
        let in_flight = InFlight { shared: self, keep: false };
        let prepare = || {
            // What the last try made of the key must not be taken for what is stored.
            self.state().in_flight = None;
            let changes = make()?;
            self.state().in_flight = Some(Box::new(changes));
            Ok(())
        };
        let outcome = within(deadline, self.replay(prepare)).await.0?;
        let made = self.state().in_flight.take();
        in_flight.landed();
        if let Released::Gone { .. } = outcome {
            return Err(gone());
        }
        if let (Some(made), Some(pending)) = (made, &mut self.state().changes) {
            // Older than what was just stored.
            made.keys.iter().for_each(|change| pending.forget(change.key()));
        }
        Ok(())
    }
}

#[allow(dead_code, reason = "the middleware calls these, and it is a feature")]
impl Shared {
    /// Ends the request without committing what is pending; what was saved before is still told to the client.
    pub(crate) fn abandon(&self, headers: &mut HeaderMap) {
        let mut state = self.state();
        if state.phase == Phase::Asked {
            self.engine.responses.set_vary(headers);
            state.phase = Phase::Closed;
        } else if state.is_open() {
            if let Some(rare) = &mut state.rare {
                rare.undo = None;
            }
            if let Err(error) = self.finish(&mut state, Released::Unchanged, headers) {
                tracing::error!(%error, "a session's cookie could not be made");
            }
        }
    }

    /// Drops the changes that are not committed yet; what was saved before stands.
    #[cold]
    pub(super) fn roll_back(&self) {
        let mut state = self.state();
        state.changes = None;
        if let Some(rare) = &mut state.rare {
            rare.undo = None;
        }
    }

    /// Whether `other` is a session of the same manager's.
    pub(crate) fn has_manager_of(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.engine, &other.engine)
    }

    pub(crate) fn commits_on_server_error(&self) -> bool {
        self.engine.config.commit_on_server_error
    }

    /// Says, in the response that takes the place of a handler's, that it is of one visitor and one moment.
    pub(crate) fn note_failure(&self, headers: &mut HeaderMap) {
        self.engine.responses.set_vary(headers);
        crate::cookie::no_store(headers);
    }
}

/// The waiting time before another try: longer from time to time, and never the same for two who lost together.
fn pause(tries: u32) -> Duration {
    let longest = 1_u64 << tries.min(4);
    let random = getrandom::u64().unwrap_or(0);
    Duration::from_micros(random % (longest * 1000))
}

#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error("{TRIES} times in a row another request changed the session first; try again")]
    Conflict,
    #[error(
        "expected a free place among the user's sessions, found logins elsewhere for the last one at every try; try again"
    )]
    Crowded,
    #[error("it was destroyed, rotated away or has expired since it was loaded; begin a new one")]
    Gone,
}
