//! A request's load and commit where the provider never waits: under the state's lock, without a future.
//!
//! What is not plain, or goes not as hoped, is left to the ways that can wait: they ask again, and find the same.

use http::HeaderMap;

use super::Released;
use super::changes::Changes;
use super::plan::Step;
use super::state::{Phase, Shared, State};
use crate::error::Result;
use crate::event::EventKind;
use crate::provider::{Created, Updated};
use crate::sync::MutexGuard;

impl Shared {
    /// Loads the session if that takes one look at the store; `None` where it may take more.
    pub(super) fn load_at_once(&self) -> Option<Result<()>> {
        let mut state = self.state();
        if state.is_loaded() {
            return Some(Ok(()));
        }
        if let Err(error) = self.note_asked(&mut state) {
            return Some(Err(error));
        }
        if state.turn_taken || !self.engine.provider.is_at_once() {
            return None;
        }
        let name = match self.engine.ids.only_candidate(&self.presented) {
            Some(name) => Some(name),
            None if self.presented.is_blank() => None,
            None => match self.engine.ids.candidates(&self.presented, &self.engine.events) {
                found if found.are_plain() => found.first,
                _ => return None,
            },
        };
        if let Some(name) = name {
            match self.engine.provider.load_at_once(name.key())? {
                Ok(Some(record)) if !record.is_plain() => return None,
                Ok(Some(record)) => state.stored = Some(self.engine.ids.stored(name, record)),
                // The session may lie where it is still to be moved from.
                Ok(None) if self.engine.former.is_some() => return None,
                Ok(None) => {
                    state.phase = Phase::Loaded;
                    drop(state);
                    return Some(self.engine.records.report_unknown(&name));
                }
                Err(error) => {
                    drop(state);
                    return Some(Err(self.engine.records.report_corrupt(error, name.key())));
                }
            }
        }
        state.phase = Phase::Loaded;
        Some(Ok(()))
    }

    /// The release of a request that leaves nothing to store, or whose changes are stored at the first try; `None` where it
    /// takes more.
    pub(crate) fn release_at_once(&self, headers: &mut HeaderMap) -> Option<Released> {
        let mut state = self.state();
        let outcome = match state.phase {
            Phase::Untouched | Phase::Closed => return Some(Released::Unchanged),
            Phase::Released(outcome) => return Some(outcome),
            Phase::Releasing => return None,
            Phase::Asked => {
                self.engine.responses.set_vary(headers);
                state.phase = Phase::Closed;
                return Some(Released::Unchanged);
            }
            // Somebody may be about to store a change, whose client is to be told.
            Phase::Loaded if state.in_flight.is_some() || state.turn_taken => return None,
            Phase::Loaded => match state.changes.take_if(|changes| !changes.is_empty()) {
                Some(changes) => match self.commit_at_once(&mut state, &changes) {
                    Some(outcome) => outcome,
                    None => {
                        state.changes = Some(changes);
                        return None;
                    }
                },
                None if self.use_is_due(&state) => return None,
                None => Released::Unchanged,
            },
        };
        // What fails here is told by the way that waits, which tries it again.
        self.finish(&mut state, outcome, headers).ok()?;
        if outcome == Released::Created && self.engine.events.wanted(EventKind::Created) {
            self.report_new(state);
        }
        Some(outcome)
    }

    /// Tells of the session that `state` holds, which has just come to be, once the state is free.
    #[cold]
    fn report_new(&self, state: MutexGuard<'_, State>) {
        let Some(stored) = state.stored.clone() else { return };
        drop(state);
        self.report_standing(&stored, None);
    }

    /// Whether a request that changed nothing is to be noted, or its id to be rotated.
    fn use_is_due(&self, state: &State) -> bool {
        state.ended().is_some()
            || state.stored.as_ref().is_some_and(|stored| {
                let now = self.engine.clock.recent();
                let times = stored.record.times();
                self.engine.deadlines.touch_due(&stored.record, &times, now)
                    || self.rotation_due(stored, &times, now)
            })
    }

    fn commit_at_once(&self, state: &mut State, changes: &Changes) -> Option<Released> {
        let provider = &self.engine.provider;
        if state.turn_taken || !provider.is_at_once() || state.ended().is_some() {
            return None;
        }
        // A new id or an end is planned by the way that waits.
        let moves = changes.prove_the_user() || changes.renew || changes.end;
        if moves && (state.stored.is_some() || self.engine.config.user_limit.is_some()) {
            return None;
        }
        match self.plan(state, changes).ok()? {
            Step::Nothing => Some(Released::Unchanged),
            Step::Create { .. } if self.engine.admission.is_needed() => None,
            Step::Create { new } => match provider.create_at_once(new.name.key(), &new.record)?.ok()? {
                Created::Done => {
                    state.stands(new);
                    Some(Released::Created)
                }
                Created::Taken => None,
            },
            Step::Update { key, record, base } => {
                match provider.update_at_once(&key, &record, &base)?.ok()? {
                    Updated::Done => Some(self.updated(state, record)),
                    Updated::Stale | Updated::Gone => None,
                }
            }
            _ => None,
        }
    }
}
