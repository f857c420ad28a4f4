//! A turn to ask the provider for a request's session, and the wait for it.

use std::time::Duration;

use super::state::{Shared, State};
use crate::engine::within;
use crate::error::{Error, ErrorKind, Result};

impl Shared {
    /// Waits at most `limit` for the turn; says, too, how long that took.
    pub(super) async fn turn(&self, limit: Duration) -> Result<(Turn<'_>, Duration)> {
        let queue = {
            let mut state = self.state();
            if state.turns.take() {
                return Ok((Turn(self), Duration::ZERO));
            }
            state.turns.join()
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
        state.turns.end();
        std::mem::forget(self);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().turns.end();
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().turns.leave();
    }
}
