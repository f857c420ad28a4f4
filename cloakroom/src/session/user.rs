//! The user, the lifetime and the id of a session.

use std::time::{Duration, SystemTime};

use super::Session;
use crate::clock::Millis;
use crate::engine::{Stored, within};
use crate::error::{Error, ErrorKind, Result};
use crate::event::IdHash;
use crate::id::SessionId;
use crate::principal::{Level, Principal};
use crate::record::{Device, Lifetime};
use crate::request::{Reached, look_again};

/// The interval at which the store is asked about a watched session: short enough to learn of its end within a second.
const WATCH: Duration = Duration::from_millis(700);

/// # User
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Level, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate_at(Principal::new("alice")?, Level::new(2))?;
    /// assert_eq!(session.level(), Some(Level::new(2)));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// session.require_level(Level::new(2))?;
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert!(session.principal().is_none());
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert_eq!(session.principal().expect("a user has logged in").as_str(), "alice");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn principal(&self) -> Option<Principal> {
        self.0.state().principal()
    }

    /// The user the session belongs to; an error where nobody has logged in.
    pub(crate) fn user(&self) -> Result<Principal> {
        self.principal().ok_or_else(|| Error::new(ErrorKind::Denied, Denied::Anonymous))
    }

    /// The level at which the user has proved who they are, as this request sees it; `None` for an anonymous session.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Level, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert_eq!(session.level(), None);
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert_eq!(session.level(), Some(Level::default()));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// session.require_recent(five_minutes)?;
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, ErrorKind, Level, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// let denied = session.require_level(Level::new(2)).unwrap_err();
    /// assert_eq!(denied.kind(), ErrorKind::Denied);
    /// session.set_level(Level::new(2))?;
    /// session.require_level(Level::new(2))?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Device, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # let request = http::HeaderMap::new();
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_device(Device::of_request(&request))?;
    /// session.save().await?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    pub fn set_device(&self, device: Device) -> Result<()> {
        self.0.change(|changes| changes.fields_mut().device = Some(device))
    }
}

/// # Lifetime
impl Session {
    /// Ends the session: the logout. What is set afterwards in the same request begins a new one under a new id.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.save().await?;
    /// session.destroy()?;
    /// session.save().await?;
    /// assert_eq!(sessions.active_sessions().await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    #[doc(alias = "SessionDestroy")]
    #[doc(alias = "logout")]
    #[doc(alias = "invalidate")]
    #[doc(alias = "purge")]
    pub fn destroy(&self) -> Result<()> {
        self.0.change(|changes| changes.end())
    }

    /// Gives the session a new id. The data stays; the old id is dead at once.
    ///
    /// For a change of privileges that is no login, such as a new role. Nothing happens for a visitor without a session.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("role", "reader")?;
    /// session.save().await?;
    /// let old = session.id();
    /// session.set("role", "editor")?;
    /// session.regenerate()?;
    /// session.save().await?;
    /// assert_ne!(session.id(), old);
    /// assert_eq!(session.get::<String>("role")?.as_deref(), Some("editor"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    #[doc(alias = "SessionRegenerateId")]
    #[doc(alias = "cycle_id")]
    #[doc(alias = "renew")]
    pub fn regenerate(&self) -> Result<()> {
        self.0.change(|changes| changes.new_id = true)
    }

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
    /// [`ErrorKind::Value`] for a time under a second or over a hundred years, [`ErrorKind::Released`] after the release.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<()> {
        lifetime.check()?;
        self.0.change(|changes| changes.fields_mut().lifetime = Some(lifetime))
    }

    /// Has the session end at `time` at the latest, whatever its policy: the end of a federated login, as the identity provider
    /// gives it. The earliest time that was set counts, until the user logs in again.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// use std::time::{Duration, SystemTime};
    ///
    /// session.authenticate(Principal::new("alice")?)?;
    /// let end = SystemTime::now() + Duration::from_secs(600);      // as the identity provider says
    /// session.end_by(end)?;
    /// session.save().await?;
    /// assert!(session.expires().expect("the session is stored") <= end);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Released`] after the release.
    pub fn end_by(&self, time: SystemTime) -> Result<()> {
        let time = Millis::from(time);
        self.0.change(|changes| {
            let fields = changes.fields_mut();
            fields.ends_by = Some(fields.ends_by.map_or(time, |earlier| earlier.min(time)));
        })
    }

    /// The time at which the session began; `None` while nothing is stored.
    pub fn created(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().created.into())
    }

    /// When the session was last used before this request, to within the touch interval; `None` while nothing is stored.
    pub fn last_active(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().last_active.into())
    }

    /// The time at which the session ends if nobody uses it again; `None` while nothing is stored.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert!(session.expires().is_none());
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// assert!(session.expires().expect("the session is stored") > std::time::SystemTime::now());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
            let found = within(engine.config.deadline.min(WATCH), look_again(engine, &former)).await.0;
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

/// # Id
impl Session {
    /// The id by which the client reached this session; `None` while nothing is stored. A secret: not for logs.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert!(session.id().is_none());             // nothing is stored yet
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let id = session.id().expect("the session is stored");
    /// assert!(sessions.session(&id).await?.is_some());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[doc(alias = "SessionID")]
    pub fn id(&self) -> Option<SessionId> {
        self.0.stored(|stored| stored.name.id())
    }

    /// The hash by which [events](crate::event::Event) name this session, for logs of the application's own; `None` while nothing
    /// is stored.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// if let Some(hash) = session.id_hash() {
    ///     println!("session={hash} order placed");
    /// }
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn id_hash(&self) -> Option<IdHash> {
        self.0.stored(|stored| self.0.engine.events.hash(stored.name.key()))
    }

    /// A name of this session that may be shown to its user; `None` while nothing is stored.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let alice = Principal::new("alice")?;
    /// session.authenticate(alice.clone())?;
    /// session.save().await?;
    /// let handle = session.handle().expect("the session is stored");
    /// assert!(sessions.end_session(&alice, &handle).await?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn handle(&self) -> Option<String> {
        self.0.stored(|stored| stored.name.key().handle())
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
