//! The drivers of the commit: one polls the store once, the other awaits it.

use std::time::Duration;

use http::HeaderMap;

use super::Released;
use super::changes::Changes;
use super::exchange::Exchange;
use super::guards::{InFlight, Releasing, Turn};
use super::load::look_again;
use super::outcome::{Answer, Begun, Commit, RareAnswer, Todo, gone};
use super::perform::{Needs, perform, perform_at_once};
use super::plan::{Step, use_is_due};
use super::respond::{finish, tell};
use super::state::{Phase, State, too_late};
use crate::codec::{Change, Codec};
use crate::engine::{Stored, within};
use crate::error::{ErrorKind, Result};
use crate::event::{About, EventKind};
use crate::sync::sleep;

impl Exchange {
    /// Commits now, ahead of the response.
    pub(crate) async fn save(&self) -> Result<()> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = Turn::wait(self, deadline).await?;
        if !self.state().is_open() {
            return Err(too_late("save"));
        }
        let saved = self.commit(deadline.saturating_sub(waited)).await?;
        self.state().succeeded();
        match saved {
            Released::Gone { lost_write: true } => Err(gone()),
            _ => Ok(()),
        }
    }

    /// Commits, and writes what the client has to know to `headers`.
    pub(crate) async fn release(&self, headers: &mut HeaderMap) -> Result<Released> {
        match self.release_at_once(headers) {
            Some(released) => Ok(released),
            None => self.release_waiting(headers).await,
        }
    }

    /// Releases the session if there is nothing to store, or if a provider that never waits stores it; `None` where it takes more.
    pub(crate) fn release_at_once(&self, headers: &mut HeaderMap) -> Option<Released> {
        let mut state = self.state();
        match state.phase {
            Phase::Untouched | Phase::Closed => return Some(Released::Unchanged),
            Phase::Released(outcome) => return Some(outcome),
            Phase::Releasing => return None,
            Phase::Asked => {
                self.engine.responses.set_vary(headers);
                state.phase = Phase::Closed;
                return Some(Released::Unchanged);
            }
            // A commit is under way, and its outcome has to reach this client.
            Phase::Loaded if state.turns.taken || state.in_flight.is_some() => return None,
            Phase::Loaded => {}
        }
        if state.changes.is_none() && !use_is_due(&self.engine, &state) {
            finish(&self.engine, &mut state, Released::Unchanged, headers).ok()?;
            return Some(Released::Unchanged);
        }
        if !self.engine.provider.is_at_once() || state.ended().is_some() {
            return None;
        }
        let changes = state.changes.take();
        let mut commit = Commit::default();
        let Some(outcome) = self.commit_at_once(&mut state, changes.as_ref(), &mut commit) else {
            state.changes = changes;
            return None;
        };
        // A failure here is told by the waiting driver, which tries again.
        finish(&self.engine, &mut state, outcome, headers).ok()?;
        if let Some(begun) = commit.take_begun() {
            let session = state.stored.clone();
            drop(state);
            self.report_begun(session, &begun);
        }
        Some(outcome)
    }

    /// Releases the session by awaiting the provider, where [`release_at_once`](Self::release_at_once) does not do.
    pub(crate) async fn release_waiting(&self, headers: &mut HeaderMap) -> Result<Released> {
        let deadline = self.engine.config.deadline.saturating_sub(self.state().waited);
        let (_turn, waited) = Turn::wait(self, deadline).await?;
        {
            let mut state = self.state();
            match state.phase {
                Phase::Released(outcome) => return Ok(outcome),
                Phase::Closed => return Ok(Released::Unchanged),
                _ => state.phase = Phase::Releasing,
            }
        }
        let _releasing = Releasing(self);
        match self.commit(deadline.saturating_sub(waited)).await {
            Ok(outcome) => finish(&self.engine, &mut self.state(), outcome, headers).map(|()| outcome),
            Err(error) => {
                match error.kind() {
                    // An earlier save of this request may have set a cookie.
                    ErrorKind::Refused => tell(&self.engine, &self.state(), headers)?,
                    _ => self.engine.responses.set_vary(headers),
                }
                Err(error)
            }
        }
    }

    /// Stores the pending changes within `budget`. The caller has the turn.
    async fn commit(&self, budget: Duration) -> Result<Released> {
        let mut in_flight = {
            let mut state = self.state();
            state.in_flight = state.changes.take().map(Box::new);
            InFlight { exchange: self, keep: true }
        };
        match within(budget, self.commit_waiting(|| Ok(()))).await.0 {
            Ok(outcome) => {
                in_flight.committed();
                Ok(outcome)
            }
            // A store that cannot note a use, or rotate an id in passing, has still served this request.
            Err(error) if self.only_reads() => {
                tracing::warn!(%error, "the use of a session could not be stored");
                in_flight.committed();
                Ok(Released::Unchanged)
            }
            Err(error) => {
                // The changes that came with a refused login must not reach the session of before.
                in_flight.keep = error.kind() != ErrorKind::Refused;
                Err(error)
            }
        }
    }

    /// Returns true if the commit under way stores nothing that the request asked for.
    fn only_reads(&self) -> bool {
        self.state().in_flight.as_deref().is_none_or(Changes::is_empty)
    }

    /// Drives a commit on a provider that never waits. `None` where it has to wait, or fails: nothing was stored then.
    fn commit_at_once(
        &self,
        state: &mut State,
        changes: Option<&Changes>,
        commit: &mut Commit,
    ) -> Option<Released> {
        let engine = &self.engine;
        let mut todo = Todo::Plan;
        loop {
            todo = match todo {
                // The waiting driver finds out which changes are lost.
                Todo::Done(Released::Gone { .. }) => return None,
                Todo::Done(outcome) => return Some(outcome),
                Todo::Plan => commit.make_plan(state, changes, engine).ok()?,
                Todo::Perform => {
                    let answer = perform_at_once(engine, &commit.plan, state.stored.as_ref())?.ok()?;
                    commit.answered(state, answer, engine).ok()?
                }
                Todo::Queue | Todo::Pause(_) | Todo::LookAgain | Todo::LoadToJoin => return None,
            };
        }
    }

    /// Drives a commit until the changes in flight are stored, or never can be. `prepare` comes before each plan, and sees the newest
    /// record.
    async fn commit_waiting(&self, mut prepare: impl FnMut() -> Result<()> + Send) -> Result<Released> {
        let engine = &self.engine;
        let mut commit = Commit::default();
        // Held until the commit ends.
        let mut lock = None;
        let mut admitted = false;
        let mut todo = Todo::Plan;
        loop {
            todo = match todo {
                Todo::Done(outcome) => return Ok(outcome),
                Todo::Plan => {
                    prepare()?;
                    let state = self.state();
                    commit.make_plan(&state, state.in_flight.as_deref(), engine)?
                }
                Todo::Perform => {
                    // Once a commit, however often it is planned anew.
                    if commit.plan.step == (Step::Create { login: false }) && !admitted {
                        engine.admission.admit(self.presented.visit()).await?;
                        admitted = true;
                    }
                    let answer = match perform(engine, &commit.plan, &self.needs(commit.plan.step)).await {
                        Err(error) if error.kind() == ErrorKind::Refused => {
                            Answer::Rare(Box::new(RareAnswer::Refused(error)))
                        }
                        answer => answer?,
                    };
                    let next = commit.answered(&mut self.state(), answer, engine);
                    self.report(&mut commit, next.as_ref().err().map(|error| error.kind()));
                    next?
                }
                Todo::Queue => {
                    if let Some(key) = self.key() {
                        lock.get_or_insert(engine.commits.lock(key.as_bytes()).await);
                    }
                    commit.waited(&self.state())?
                }
                Todo::Pause(tries) => {
                    sleep(pause(tries)).await;
                    commit.waited(&self.state())?
                }
                Todo::LookAgain => {
                    let Some(former) = self.stored(Stored::clone) else { return Err(gone()) };
                    let reached = look_again(engine, &former).await?;
                    commit.looked_up(&mut self.state(), &former, reached)?
                }
                Todo::LoadToJoin => {
                    let record = match commit.successor() {
                        Some(name) => engine.records.load(name.key()).await?,
                        None => None,
                    };
                    commit.loaded(&mut self.state(), record, engine)?
                }
            };
        }
    }

    fn needs(&self, step: Step) -> Needs {
        let migration = &self.engine.migration;
        let state = self.state();
        Needs {
            present: state.stored.clone(),
            login: state.in_flight.as_ref().and_then(|changes| changes.principal.clone()),
            old: if step == Step::End { migration.presented(&self.presented) } else { Vec::new() },
            contested: state.rare.as_ref().map_or_else(Vec::new, |rare| rare.contested.clone()),
        }
    }

    /// Reports the events of the last answer, outside the lock of the state: a listener may use the session.
    fn report(&self, commit: &mut Commit, failed: Option<ErrorKind>) {
        if let Some(begun) = commit.take_begun() {
            self.report_begun(self.stored(Stored::clone), &begun);
        }
        if failed == Some(ErrorKind::Conflict)
            && let Some(stored) = self.stored(Stored::clone)
        {
            self.engine.events.report(EventKind::Conflict, &stored);
        }
    }

    #[cold]
    fn report_begun(&self, session: Option<Stored>, begun: &Begun) {
        let Some(session) = session else { return };
        let events = &self.engine.events;
        let former = begun.former.as_ref();
        let kind = if former.is_some() { EventKind::Rotated } else { EventKind::Created };
        events.report(kind, About { former, ..About::from(&session) });
        if begun.login {
            events.report(EventKind::Authenticated, &session);
        }
    }

    /// Changes one key of the newest record. `encode` gets the codec and the stored value, may be called again, and may decide that
    /// nothing changes.
    pub(crate) async fn update(
        &self,
        key: &str,
        mut encode: impl FnMut(Codec, Option<&[u8]>) -> Result<Option<Change>> + Send,
    ) -> Result<()> {
        let make = || {
            let change = self.with_value(key, &mut encode)?;
            Ok(Changes { keys: change.into_iter().collect(), ..Changes::default() })
        };
        self.change_newest(make).await
    }

    /// Commits at once the changes that `make` makes for the newest record; it may be called again. Pending changes stay pending, but
    /// for structural ones, which are committed first.
    pub(crate) async fn change_newest(&self, mut make: impl FnMut() -> Result<Changes> + Send) -> Result<()> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = Turn::wait(self, deadline).await?;
        let deadline = deadline.saturating_sub(waited);
        let structural = {
            let state = self.state();
            if !state.is_open() {
                return Err(too_late("update"));
            }
            state.changes.as_ref().is_some_and(Changes::is_structural)
        };
        if structural && matches!(self.commit(deadline).await?, Released::Gone { .. }) {
            return Err(gone());
        }
        let in_flight = InFlight { exchange: self, keep: false };
        let prepare = || {
            // `make` must see the stored value, without the change of an earlier try.
            self.state().in_flight = None;
            let changes = make()?;
            self.state().in_flight = Some(Box::new(changes));
            Ok(())
        };
        let outcome = match within(deadline, self.commit_waiting(prepare)).await.0 {
            // The request changes nothing, so only its use could not be stored.
            Err(error) if self.makes_no_change() => {
                tracing::warn!(%error, "the use of a session could not be stored");
                Released::Unchanged
            }
            outcome => outcome?,
        };
        let made = self.state().in_flight.take();
        in_flight.committed();
        if let Released::Gone { .. } = outcome {
            return Err(gone());
        }
        if let (Some(made), Some(pending)) = (made, &mut self.state().changes) {
            // The pending changes of these keys are older than what was just stored.
            made.keys.iter().for_each(|change| pending.forget(change.key()));
        }
        Ok(())
    }

    /// Returns true if the commit under way has decided that nothing changes.
    fn makes_no_change(&self) -> bool {
        self.state().in_flight.as_deref().is_some_and(Changes::is_empty)
    }
}

/// Returns the pause before another try: random, so that two losers do not meet again, and longer with each try.
fn pause(tries: u32) -> Duration {
    let longest = 1_u64 << tries.min(4);
    let random = getrandom::u64().unwrap_or(0);
    Duration::from_micros(random % (longest * 1000))
}
