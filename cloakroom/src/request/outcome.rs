//! The commit as a state machine without I/O: which step comes next, and what each answer of the store means.
//!
//! | answer | meaning |
//! |---|---|
//! | done | the changes are stored |
//! | stale | another request changed the session first: load it and plan again, the second time in a queue |
//! | gone | the session has another id or has ended: follow a rotation once, else refuse the changes |
//! | taken | the fresh id exists already: plan again with another |
//! | over the limit | the user has too many sessions because of logins elsewhere: withdrawn, try again after a pause |
//! | refused | the user has too many sessions: an error, unless the login may join a session |
//!
//! A login whose id was just replaced by a login of the same user joins that session instead: a double click on "Sign in".
//!
//! A driver begins with [`Todo::Plan`], carries out each [`Todo`] and hands the answer back, until [`Todo::Done`].

use super::Released;
use super::changes::Changes;
use super::lookup::Reached;
use super::plan::{Plan, Step, plan};
use super::state::State;
use crate::engine::{By, COLLISIONS, Engine, Former, Stored, repeats_itself};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventKind;
use crate::id::{Named, StoreKey};
use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;

/// The most lost races of a commit. Within a process a loser queues, so only other processes can beat it again.
const MAX_TRIES: u32 = 64;

/// The most withdrawals of a login that competes with logins elsewhere for a user's last session.
const MAX_WITHDRAWALS: u32 = 8;

/// The next thing that a driver does.
#[derive(Clone, Copy)]
pub(super) enum Todo {
    /// Call [`Commit::make_plan`].
    Plan,
    /// Carry out [`Commit::plan`] and call [`Commit::answered`].
    Perform,
    /// Wait in the queue of this session's commits and call [`Commit::waited`].
    Queue,
    /// Wait a moment, longer with each try, and call [`Commit::waited`].
    Pause(u32),
    /// Look the session up again and call [`Commit::looked_up`].
    LookAgain,
    /// Load the record of [`Commit::successor`], which the login may join, and call [`Commit::loaded`].
    LoadToJoin,
    Done(Released),
}

/// The answer to a [`Step`].
pub(super) enum Answer {
    /// There was nothing to do, or nothing that could be done.
    None,
    Created(Created),
    Updated(Updated),
    Touched(Touched),
    Renamed(Renamed),
    /// True if a session has ended.
    Ended(bool),
    Rare(Box<RareAnswer>),
}

/// Answers that few steps get.
pub(super) enum RareAnswer {
    /// The session was moved here from the former store.
    Moved(Stored),
    /// The new session was one too many and has been withdrawn. The session from before, if there was one, has another id.
    OverLimit(Option<Stored>),
    /// The user has as many sessions as allowed.
    Refused(Error),
}

/// A session that a commit has begun or given a new id, for the events.
pub(super) struct Begun {
    pub(super) former: Option<StoreKey>,
    pub(super) login: bool,
}

/// One commit.
#[derive(Default)]
pub(super) struct Commit {
    pub(super) plan: Plan,
    tries: u32,
    collisions: u32,
    withdrawals: u32,
    /// The reason for looking the session up again, or for loading a session to join.
    reason: Reason,
    /// A rotation was followed.
    followed: bool,
    /// The session has ended; the remaining changes belong to a new one.
    ended: bool,
    joined: bool,
    /// The login has tried to join the session that replaced the request's id.
    tried_to_join: bool,
    rare: Option<Box<RareParts>>,
}

/// Parts that few commits have.
#[derive(Default)]
struct RareParts {
    successor: Option<Named>,
    begun: Option<Begun>,
    refusal: Option<Error>,
}

/// The reason for which a commit asks for another look at the store. The look has another consequence for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Reason {
    /// The request's id had ended before the request came.
    #[default]
    Arrived,
    Stale,
    Gone,
    Refused,
}

impl Commit {
    /// Plans the next step for `changes`.
    pub(super) fn make_plan(
        &mut self,
        state: &State,
        changes: Option<&Changes>,
        engine: &Engine,
    ) -> Result<Todo> {
        let Some(changes) = changes else {
            plan(engine, state, &Changes::default(), &mut self.plan)?;
            return Ok(Todo::Perform);
        };
        if changes.principal.is_some()
            && !self.tried_to_join
            && let Some(former) = state.ended()
        {
            self.tried_to_join = true;
            self.reason = Reason::Arrived;
            return self.join(state, former);
        }
        plan(engine, state, changes, &mut self.plan)?;
        Ok(Todo::Perform)
    }

    /// Decides what the `answer` to the step means, and brings the state up to date.
    #[inline]
    pub(super) fn answered(&mut self, state: &mut State, answer: Answer, engine: &Engine) -> Result<Todo> {
        match answer {
            Answer::Created(Created::Done) => Ok(self.stored(state, engine, Released::Created)),
            Answer::Renamed(Renamed::Done) => Ok(self.stored(state, engine, Released::Regenerated)),
            Answer::Updated(Updated::Done) => {
                if let Some(record) = self.plan.record.take() {
                    state.updated(record, |record| engine.responses.renews_cookie(record));
                }
                let only_read = self.plan.step == Step::Update { only_read: true };
                Ok(self.done(if only_read { Released::Touched } else { Released::Saved }))
            }
            answer => self.answered_otherwise(state, answer, engine),
        }
    }

    /// Decides what the rarer answers mean; [`answered`](Self::answered) has the usual ones, and is inlined.
    ///
    /// An answer that fits no arm means that the session is not where it was: *gone*, or nothing that could be done. What has become of it
    /// decides, so the session is looked up again.
    fn answered_otherwise(&mut self, state: &mut State, answer: Answer, engine: &Engine) -> Result<Todo> {
        match answer {
            Answer::None if self.plan.step == Step::Nothing => Ok(self.done(Released::Unchanged)),
            Answer::Touched(Touched::Done) => {
                if let Step::Touch { at } = self.plan.step {
                    state.touched(at, |record| engine.responses.renews_cookie(record));
                }
                Ok(self.done(Released::Touched))
            }
            Answer::Ended(true) => {
                state.session_ended();
                self.ended = true;
                Ok(Todo::Plan)
            }
            Answer::Updated(Updated::Stale) | Answer::Renamed(Renamed::Stale) => self.lost_race(state),
            Answer::Created(Created::Taken) | Answer::Renamed(Renamed::Taken) => self.collided(),
            Answer::Rare(rare) => match *rare {
                RareAnswer::Moved(moved) => {
                    state.found(moved);
                    Ok(Todo::Plan)
                }
                RareAnswer::OverLimit(back) => self.withdrawn(state, back),
                RareAnswer::Refused(error) if self.joined => Err(error),
                RareAnswer::Refused(error) => {
                    self.reason = Reason::Refused;
                    self.rare().refusal = Some(error);
                    self.look_again(state)
                }
            },
            _ => {
                self.reason = Reason::Gone;
                self.look_again(state)
            }
        }
    }

    /// Notes that the new session is stored.
    #[inline]
    fn stored(&mut self, state: &mut State, engine: &Engine, outcome: Released) -> Todo {
        let login = matches!(self.plan.step, Step::Create { login: true } | Step::Rename { login: true });
        let kind = if outcome == Released::Created { EventKind::Created } else { EventKind::Rotated };
        if engine.events.wanted(kind) || (login && engine.events.wanted(EventKind::Authenticated)) {
            let former = state.stored.as_ref().map(|former| former.name.key().clone());
            self.rare().begun = Some(Begun { former, login });
        }
        state.created(&mut self.plan.new);
        self.done(outcome)
    }

    /// Goes on after the wait in a queue or a pause.
    pub(super) fn waited(&mut self, state: &State) -> Result<Todo> {
        match self.reason {
            Reason::Stale => self.look_again(state),
            _ => Ok(Todo::Plan),
        }
    }

    /// Decides what has become of the session.
    pub(super) fn looked_up(&mut self, state: &mut State, former: &Stored, reached: Reached) -> Result<Todo> {
        let ended = match reached {
            Reached::Session(newest) => {
                state.found(newest);
                match self.reason {
                    Reason::Gone if self.followed => return self.gone(state),
                    Reason::Refused => return self.gone(state),
                    Reason::Gone => self.followed = true,
                    Reason::Stale | Reason::Arrived => {}
                }
                return Ok(Todo::Plan);
            }
            // A chain of former ids is never followed to a login.
            Reached::Ended(ended) if former.by != By::Grace => ended,
            Reached::Ended(_) | Reached::Nobody => return self.gone(state),
        };
        if self.joined {
            return self.gone(state);
        }
        self.join(state, &ended)
    }

    /// Returns the id whose record is to be loaded.
    pub(super) fn successor(&self) -> Option<Named> {
        self.rare.as_ref()?.successor.clone()
    }

    /// Returns the session that the last answer has begun, for the events.
    pub(super) fn take_begun(&mut self) -> Option<Begun> {
        self.rare.as_mut()?.begun.take()
    }

    /// Decides whether the login joins the session of [`successor`](Self::successor), whose record was loaded.
    pub(super) fn loaded(
        &mut self,
        state: &mut State,
        record: Option<Record>,
        engine: &Engine,
    ) -> Result<Todo> {
        let name = self.rare().successor.take();
        let login = state.in_flight.as_deref().and_then(Changes::login_to_join);
        let session = match (name, record, login) {
            (Some(name), Some(record), Some(login))
                if login.may_join(&record, &engine.deadlines, engine.now()) =>
            {
                engine.ids.stored(name, record)
            }
            _ => return self.not_joined(state),
        };
        state.joined(session);
        self.joined = true;
        Ok(Todo::Plan)
    }

    /// Has the login in flight join the session that replaced the id of `former`, if it may.
    fn join(&mut self, state: &State, former: &Former) -> Result<Todo> {
        let logs_in = state.in_flight.as_deref().and_then(Changes::login_to_join).is_some();
        match former {
            Former::Replaced { successor: Some(successor), .. } if logs_in => {
                self.rare().successor = Some(successor.clone());
                Ok(Todo::LoadToJoin)
            }
            _ => self.not_joined(state),
        }
    }

    fn not_joined(&mut self, state: &State) -> Result<Todo> {
        match self.reason {
            Reason::Arrived => Ok(Todo::Plan),
            _ => self.gone(state),
        }
    }

    fn look_again(&mut self, state: &State) -> Result<Todo> {
        if state.stored.is_some() { Ok(Todo::LookAgain) } else { self.gone(state) }
    }

    /// Refuses the changes because the session is gone; for a refused login, with the reason of the refusal.
    fn gone(&mut self, state: &State) -> Result<Todo> {
        if let Some(error) = self.rare.as_mut().and_then(|rare| rare.refusal.take()) {
            return Err(error);
        }
        let lost = state.in_flight.as_deref().is_some_and(Changes::would_be_lost);
        Ok(Todo::Done(Released::Gone { lost_write: lost || self.joined }))
    }

    fn lost_race(&mut self, state: &State) -> Result<Todo> {
        if self.tries == MAX_TRIES {
            return Err(Error::new(ErrorKind::Conflict, CommitError::Conflict));
        }
        self.tries += 1;
        self.reason = Reason::Stale;
        Ok(if state.stored.is_none() {
            Todo::Plan
        } else if self.tries == 1 {
            Todo::Queue
        } else {
            Todo::Pause(self.tries)
        })
    }

    fn collided(&mut self) -> Result<Todo> {
        if self.collisions == COLLISIONS {
            return Err(repeats_itself());
        }
        self.collisions += 1;
        Ok(Todo::Plan)
    }

    fn withdrawn(&mut self, state: &mut State, mut back: Option<Stored>) -> Result<Todo> {
        if back.is_some() {
            state.created(&mut back);
        }
        if self.withdrawals == MAX_WITHDRAWALS {
            return Err(Error::new(ErrorKind::Refused, CommitError::Crowded));
        }
        self.withdrawals += 1;
        self.reason = Reason::Arrived;
        Ok(Todo::Pause(self.withdrawals))
    }

    fn done(&self, outcome: Released) -> Todo {
        Todo::Done(match outcome {
            Released::Unchanged if self.ended => Released::Destroyed,
            // The client is told the id of the session that it joined, whatever else was stored.
            _ if self.joined => Released::Regenerated,
            outcome => outcome,
        })
    }

    fn rare(&mut self) -> &mut RareParts {
        self.rare.get_or_insert_default()
    }
}

/// Returns the error of changes whose session is gone.
#[cold]
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Gone, CommitError::Gone)
}

#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error("{MAX_TRIES} times in a row another request changed the session first; try again")]
    Conflict,
    #[error("the user's last allowed session was taken by logins elsewhere at every try; try again")]
    Crowded,
    #[error("the session was destroyed, rotated away or has expired since it was loaded; begin a new one")]
    Gone,
}
