//! A request's session is read: once, and again where another request has changed it.

use std::time::Duration;

use smallvec::SmallVec;

use super::state::{Phase, Shared, released};
use super::turn::Turn;
use crate::engine::{By, Candidates, Former, Found, Reached, Stored, within};
use crate::error::{ErrorKind, Result};
use crate::event::EventKind;

/// The outcome of loading a session again.
pub(super) enum Again {
    /// It lives, and its newest record is in the state.
    Alive,
    /// It lives no more; what its own id has come to, where that is known.
    Dead(Option<Former>),
}

impl Shared {
    /// What [`load_at_once`](Self::load_at_once) leaves.
    pub(super) async fn load_waiting(&self) -> Result<()> {
        let mut limit = self.engine.config.deadline;
        let (turn, former) = loop {
            match self.begin_to_load()? {
                Begun::Loaded => return Ok(()),
                Begun::MyTurn(turn, waited) => break (turn, waited),
                Begun::OthersTurn => {
                    let (turn, waited) = self.turn(limit).await?;
                    limit = limit.saturating_sub(waited);
                    drop(turn);
                }
            }
        };
        // A request that asks again after a failure does not get another deadline for it.
        let (found, waited) = self.find(limit.saturating_sub(former)).await;
        let mut state = self.state();
        state.waited = former + waited;
        let found = found?;
        if state.phase != Phase::Asked {
            return Err(released("load"));
        }
        match found {
            Found::Nobody => {}
            Found::Ended(former) => state.rare().ended = Some(former),
            Found::One(stored) => state.reached(stored),
            Found::Contested(keys) => state.rare().contested = keys,
        }
        state.phase = Phase::Loaded;
        turn.end(&mut state);
        Ok(())
    }

    /// Loads the session for a caller that only ends it: a newer release's session, which cannot be read, is ended by its key.
    pub(crate) async fn load_to_end(&self) -> Result<()> {
        let loaded = match self.load_at_once() {
            Some(loaded) => loaded,
            None => Box::pin(self.load_waiting()).await,
        };
        match loaded {
            Err(error) if error.kind() == ErrorKind::Incompatible => {}
            loaded => return loaded,
        }
        let deadline = self.engine.config.deadline.saturating_sub(self.state().waited);
        let (_turn, queued) = self.turn(deadline).await?;
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

    async fn find(&self, deadline: Duration) -> (Result<Found>, Duration) {
        let engine = &self.engine;
        let Candidates { first, others, malformed } = engine.ids.candidates(&self.presented, &engine.events);
        for token in malformed {
            engine.events.report(EventKind::MalformedId, token);
        }
        let Some(first) = first else {
            if others.is_empty() {
                return (Ok(Found::Nobody), Duration::ZERO);
            }
            engine.events.report(EventKind::Duplicate, others.len() as u64);
            let keys = others.iter().map(|name| name.key().clone()).collect();
            return (Ok(Found::Contested(keys)), Duration::ZERO);
        };
        let names = std::iter::once(first).chain(others).collect::<SmallVec<[_; 1]>>();
        within(deadline, Box::pin(engine.find(names))).await
    }

    fn begin_to_load(&self) -> Result<Begun<'_>> {
        let mut state = self.state();
        if state.is_loaded() {
            return Ok(Begun::Loaded);
        }
        self.note_asked(&mut state)?;
        if !state.take_turn() {
            return Ok(Begun::OthersTurn);
        }
        Ok(Begun::MyTurn(Turn::taken(self), state.waited))
    }

    /// Reads the newest record in the place of the one that was loaded; false if there is none any more.
    pub(super) async fn reload(&self) -> Result<bool> {
        let deadline = self.engine.config.deadline;
        let (_turn, waited) = self.turn(deadline).await?;
        let again = within(deadline.saturating_sub(waited), self.look_again()).await.0?;
        Ok(matches!(again, Again::Alive))
    }

    /// Reads the newest record in the place of the one that was loaded, for those whose turn it is.
    pub(super) async fn look_again(&self) -> Result<Again> {
        let Some(former) = self.stored(Stored::clone) else { return Ok(Again::Dead(None)) };
        match self.engine.look_again(&former).await? {
            Reached::Session(newest) => {
                self.state().reached(newest);
                Ok(Again::Alive)
            }
            Reached::Ended(ended) if former.by != By::Grace => Ok(Again::Dead(Some(ended))),
            // A chain of former ids is never followed to a login.
            Reached::Ended(_) => Ok(Again::Dead(None)),
            Reached::Nobody => {
                if former.record.expired_at(self.engine.now()) {
                    self.engine.events.report(EventKind::Expired, &former);
                }
                Ok(Again::Dead(None))
            }
        }
    }
}

enum Begun<'a> {
    Loaded,
    /// And how long this request has waited already.
    MyTurn(Turn<'a>, Duration),
    OthersTurn,
}
