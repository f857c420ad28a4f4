//! A login that joins the session which another click on the same button has just begun.

use super::changes::Changes;
use super::load::Again;
use super::state::{Due, Shared};
use crate::engine::Former;
use crate::error::Result;

impl Shared {
    /// Has the login in flight, if there is one, join the session that took the place of its id `former`; false if it may not.
    ///
    /// The request then has that session and its id, and its other changes are replayed on it.
    pub(super) async fn join(&self, former: &Former) -> Result<bool> {
        let in_flight = self.state().in_flight.clone();
        // A request that ends its session wants a new one of its own.
        let login = in_flight.as_deref().filter(|changes| !changes.end).and_then(Changes::login);
        let Some(login) = login else { return Ok(false) };
        let Some(found) = self.engine.joinable(former, &login).await? else { return Ok(false) };
        let mut state = self.state();
        state.cookie = Due::HandOut;
        state.rare().ended = None;
        state.stored = Some(found);
        if let Some(changes) = &mut state.in_flight {
            changes.drop_login();
        }
        Ok(true)
    }

    /// [`join`](Self::join) for a login that found no place among the user's sessions: its id may have been replaced meanwhile.
    pub(super) async fn join_if_replaced(&self) -> Result<bool> {
        match self.look_again().await? {
            Again::Dead(Some(former)) => self.join(&former).await,
            Again::Alive | Again::Dead(None) => Ok(false),
        }
    }
}
