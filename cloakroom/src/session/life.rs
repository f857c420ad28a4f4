//! How long a session lives, and word of its end.

use std::time::{Duration, SystemTime};

use super::Session;
use crate::clock::Millis;
use crate::engine::{Reached, Stored, within};
use crate::error::Result;
use crate::record::Lifetime;

/// How often a session that is watched is looked up: with the look itself, a second has not passed when its end is known.
const WATCH: Duration = Duration::from_millis(700);

impl Session {
    /// Gives the session a lifetime of its own, in the place of the manager's policy: "remember me", a kiosk, an agent on the phone.
    ///
    /// An absolute timeout counts from the login, or from the beginning of an anonymous session, and a later call does not move
    /// that. Without data or a user no session begins for it. The login of another user ends it.
    ///
    /// ```
    /// # use cloakroom::{Lifetime, Manager, MemoryProvider, Principal};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_lifetime(Lifetime::remembered(Duration::from_secs(30 * 24 * 60 * 60)))?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a time under a second or over a hundred years, [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<()> {
        lifetime.check()?;
        self.0.change(|changes| changes.beside().lifetime = Some(lifetime))
    }

    /// Has the session end at `time` at the latest, whatever its policy: the end of a federated login, as the identity provider
    /// gives it. The earliest time that was set counts, until the user logs in again.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    pub fn end_by(&self, time: SystemTime) -> Result<()> {
        let time = Millis::from(time);
        self.0.change(|changes| {
            let beside = changes.beside();
            beside.ends_by = Some(beside.ends_by.map_or(time, |earlier| earlier.min(time)));
        })
    }

    /// When the session began; `None` while nothing is stored.
    pub fn created(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().created.into())
    }

    /// When the session was last used before this request, to within the touch interval; `None` while nothing is stored.
    pub fn last_active(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().last_active.into())
    }

    /// When the session ends if nobody uses it again; `None` while nothing is stored.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.expires())
    }

    /// Ends when the session has ended: by a logout on whatever device, process or node, by expiry, or because a login or a change
    /// of privileges has given it another id. For WebSockets and streams, which would go on otherwise.
    ///
    /// The store is asked every 0.7 s, so that the answer is at most a second late; a store that fails is asked again. A session that
    /// routine rotation gives another id is followed there. For a session that is not stored it is over at once.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # async fn next_message() -> Option<String> { None }
    /// let socket = async {
    ///     loop {
    ///         tokio::select! {
    ///             _ = session.revoked() => break "the session has ended",
    ///             message = next_message() => if message.is_none() { break "the client has gone" },
    ///         }
    ///     }
    /// };
    /// # socket.await;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn revoked(&self) {
        let engine = &self.0.engine;
        loop {
            let Some(former) = self.0.stored(Stored::clone) else { return };
            let found = within(engine.config.deadline.min(WATCH), engine.look_again(&former)).await.0;
            match found {
                Ok(Reached::Session(found)) => self.0.follow(found),
                Ok(Reached::Nobody | Reached::Ended(_)) => return,
                Err(error) => {
                    tracing::debug!(%error, "a watched session could not be looked up; trying again")
                }
            }
            tokio::time::sleep(WATCH).await;
        }
    }
}
