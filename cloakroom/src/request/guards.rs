//! Guards on the state of a request: its turn, and what is restored when a commit or a release fails or is cancelled.

use std::time::Duration;

use super::exchange::Exchange;
use super::state::Phase;
use crate::engine::within;
use crate::error::{Error, ErrorKind, Result};

/// The turn to ask the provider. It ends when this is dropped.
pub(super) struct Turn<'a>(&'a Exchange);

impl<'a> Turn<'a> {
    /// Waits at most `limit` for the turn. Also returns the time that it waited.
    pub(super) async fn wait(exchange: &'a Exchange, limit: Duration) -> Result<(Turn<'a>, Duration)> {
        let permits = {
            let mut state = exchange.state();
            if state.turns.try_take() {
                return Ok((Turn(exchange), Duration::ZERO));
            }
            state.turns.join()
        };
        let waiting = Waiting(exchange);
        let passed = async {
            // The semaphore is never closed, so this cannot fail. The permit is not returned: the turn is.
            let permit = permits.acquire().await.map_err(|error| Error::new(ErrorKind::Timeout, error))?;
            permit.forget();
            Ok(())
        };
        let (passed, waited) = within(limit, passed).await;
        drop(waiting);
        passed.map(|()| (Turn(exchange), waited))
    }

    /// Returns the turn that was just taken in the state of `exchange`.
    pub(super) fn taken(exchange: &'a Exchange) -> Self {
        Turn(exchange)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().turns.end();
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a Exchange);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().turns.leave();
    }
}

/// A release under way. If it fails or is cancelled, the session is open again and keeps its changes.
pub(super) struct Releasing<'a>(pub(super) &'a Exchange);

impl Drop for Releasing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.phase == Phase::Releasing {
            state.phase = Phase::Loaded;
        }
    }
}

/// The changes of a commit under way. If it fails or is cancelled, the changes are pending again, or dropped if they were
/// made for one record only.
pub(super) struct InFlight<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) keep: bool,
}

impl InFlight<'_> {
    /// Notes that the changes are stored.
    pub(super) fn committed(self) {
        self.exchange.state().in_flight = None;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.exchange.state();
        if self.keep {
            state.restore_changes();
        } else {
            state.in_flight = None;
        }
    }
}
