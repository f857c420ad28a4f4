//! Whose turn it is to ask the provider for a request's session: one call at a time, in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Queue, Shared, State};
use crate::engine::within;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Semaphore;

impl State {
    /// Takes the turn if it is free.
    pub(super) fn take_turn(&mut self) -> bool {
        !std::mem::replace(&mut self.turn_taken, true)
    }

    /// Hands the turn to the one who has waited longest, or frees it.
    pub(super) fn end_turn(&mut self) {
        match self.rare.as_ref().map(|rare| &rare.queue) {
            Some(Queue { waiting: 1.., turns: Some(turns) }) => turns.add_permits(1),
            _ => self.turn_taken = false,
        }
    }

    /// Takes a place in the queue, which is to be [left](Self::leave_queue) again.
    pub(super) fn join_queue(&mut self) -> Arc<Semaphore> {
        let queue = &mut self.rare().queue;
        queue.waiting += 1;
        Arc::clone(queue.turns.get_or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    /// Somebody waits no more. A turn that was handed to them and not taken is free, if nobody else waits.
    pub(super) fn leave_queue(&mut self) {
        let queue = &mut self.rare().queue;
        queue.waiting -= 1;
        if queue.waiting == 0 && queue.turns.as_ref().is_some_and(|turns| turns.forget_permits(1) == 1) {
            self.turn_taken = false;
        }
    }
}

impl Shared {
    /// Waits at most `limit` for the turn; says, too, how long that took.
    pub(super) async fn turn(&self, limit: Duration) -> Result<(Turn<'_>, Duration)> {
        let queue = {
            let mut state = self.state();
            if state.take_turn() {
                return Ok((Turn(self), Duration::ZERO));
            }
            state.join_queue()
        };
        let waiting = Waiting(self);
        let handed = async {
            // Never closed, so that this cannot fail; and the permit is not given back, since the turn is.
            let permit = queue.acquire().await.map_err(|error| Error::new(ErrorKind::Timeout, error))?;
            permit.forget();
            Ok(())
        };
        let (handed, waited) = within(limit, handed).await;
        drop(waiting);
        handed.map(|()| (Turn(self), waited))
    }
}

/// Somebody's turn to ask the provider; it ends when this is dropped.
pub(super) struct Turn<'a>(&'a Shared);

impl<'a> Turn<'a> {
    /// The turn that was taken in the state of `shared`.
    pub(super) fn taken(shared: &'a Shared) -> Self {
        Turn(shared)
    }

    /// Ends the turn for one who has the state at hand.
    pub(super) fn end(self, state: &mut State) {
        state.end_turn();
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().end_turn();
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().leave_queue();
    }
}
