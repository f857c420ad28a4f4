//! The state of a session is right again however a commit or a release ends.

use super::state::{Phase, Shared};

/// A release under way. If it fails or is cancelled, the session is open again: its changes are kept and nothing was told.
pub(super) struct Releasing<'a>(pub(super) &'a Shared);

impl Drop for Releasing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.phase == Phase::Releasing {
            state.phase = Phase::Loaded;
        }
    }
}

/// The changes of a commit that is under way. If it fails or is cancelled, the changes are pending again, or dropped where
/// they were made for one record only.
pub(super) struct InFlight<'a> {
    pub(super) shared: &'a Shared,
    pub(super) keep: bool,
}

impl InFlight<'_> {
    pub(super) fn landed(self) {
        self.shared.state().in_flight = None;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(older) = state.in_flight.take().filter(|_| self.keep) else { return };
        state.changes = Some(match state.changes.take() {
            None => older,
            Some(newer) => Box::new(older.then(*newer)),
        });
    }
}
