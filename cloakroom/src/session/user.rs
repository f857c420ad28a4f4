//! The user of a session, and the level of their proof.

use std::time::{Duration, SystemTime};

use super::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::principal::{Level, Principal};
use crate::record::Device;

impl Session {
    /// Binds the session to a user who has just proved who they are: a login. The one way to set a principal.
    ///
    /// Always gives the session a new id, so that one which an attacker planted or saw is worth nothing. The new record is stored
    /// before the old one goes, and nothing this request wrote reaches the old id. If the session belonged to another
    /// user, that user's data goes. Both timeouts begin anew.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert_eq!(session.principal(), Some(Principal::new("alice")?));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release. Where the manager limits the sessions of a user and refuses more,
    /// [`save`](Self::save) and [`release`](Self::release) answer [`ErrorKind::Refused`].
    pub fn authenticate(&self, principal: Principal) -> Result<()> {
        self.authenticate_at(principal, Level::default())
    }

    /// [`authenticate`](Self::authenticate) for a user who has proved who they are as surely as `level` says.
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    pub fn authenticate_at(&self, principal: Principal, level: Level) -> Result<()> {
        self.0.change(|changes| changes.log_in(principal, level))
    }

    /// Notes that the user has now given more, or less, proof than at the login: gives the session a new id, and leaves the
    /// time of the login and the deadlines as they are.
    ///
    /// ```
    /// # use cloakroom::{Level, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_level(Level::new(2))?;
    /// assert!(session.require_level(Level::new(2)).is_ok());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] for a session without a user, [`ErrorKind::Released`] after the release.
    pub fn set_level(&self, level: Level) -> Result<()> {
        if self.principal().is_none() {
            return Err(Error::new(ErrorKind::Denied, Denied::Anonymous));
        }
        self.0.change(|changes| changes.fields_mut().level = Some(level))
    }

    /// The user the session belongs to, as this request sees it.
    pub fn principal(&self) -> Option<Principal> {
        self.0.state().principal()
    }

    /// The user the session belongs to; an error where nobody has logged in.
    pub(crate) fn user(&self) -> Result<Principal> {
        self.principal().ok_or_else(|| Error::new(ErrorKind::Denied, Denied::Anonymous))
    }

    /// The level at which the user has proved who they are, as this request sees it; `None` for an anonymous session.
    pub fn level(&self) -> Option<Level> {
        self.0.state().level()
    }

    /// The time at which the user last proved who they are; `None` for an anonymous session.
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.0.state().authenticated(self.0.engine.now()).map(SystemTime::from)
    }

    /// Succeeds if the user has proved who they are within the last `age`. Call it before steps that a stolen session must not
    /// take, such as a change of password, and have the user log in again if it fails.
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider, Principal};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let five_minutes = Duration::from_secs(300);
    /// assert_eq!(session.require_recent(five_minutes).unwrap_err().kind(), ErrorKind::Denied);
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert!(session.require_recent(five_minutes).is_ok());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], which is answered with 401.
    pub fn require_recent(&self, age: Duration) -> Result<()> {
        self.user()?;
        let now = self.0.engine.now();
        let at = self.0.state().authenticated(now);
        let at = at.ok_or_else(|| Error::new(ErrorKind::Denied, Denied::Anonymous))?;
        let found = now.since(at);
        if found <= age { Ok(()) } else { Err(Error::new(ErrorKind::Denied, Denied::Old { age, found })) }
    }

    /// Succeeds if the user has proved who they are as surely as `level`, or more.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], which is answered with 401.
    pub fn require_level(&self, level: Level) -> Result<()> {
        let denied = match self.level() {
            Some(found) if found >= level => return Ok(()),
            Some(found) => Denied::Low { level: level.number(), found: found.number() },
            None => Denied::Anonymous,
        };
        Err(Error::new(ErrorKind::Denied, denied))
    }

    /// Notes where the session is used from, for the user's list of devices: see
    /// [`Manager::sessions_of`](crate::Manager::sessions_of). Best at the login. Without data or a user no session begins for it.
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    pub fn set_device(&self, device: Device) -> Result<()> {
        self.0.change(|changes| changes.fields_mut().device = Some(device))
    }
}

#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error(
        "expected a session of a user who has logged in, found an anonymous one; have the visitor log in"
    )]
    Anonymous,
    #[error("expected a login within the last {age:?}, found one {found:?} ago; have the user log in again")]
    Old { age: Duration, found: Duration },
    #[error("expected authentication of level {level} or more, found {found}; ask for the further proof")]
    Low { level: u8, found: u8 },
}
