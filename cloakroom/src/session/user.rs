//! The user, the lifetime and the id of a session.

use std::time::{Duration, SystemTime};

use super::{Denied, Session, watch};
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::event::IdHash;
use crate::id::SessionId;
use crate::principal::{Level, Principal};
use crate::record::{Device, Lifetime};

/// # User
impl Session {
    /// Binds the session to a user who has just proved who they are: a login. No other method sets a principal.
    ///
    /// The session always gets a new id, so an id that an attacker planted or saw is worthless. The new record is stored before the
    /// old one is removed. If the session belonged to another user, that user's data is removed. Both timeouts begin anew. The data
    /// of an anonymous visitor, such as a cart, is kept.
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
    /// - [`ErrorKind::Released`] after the release
    /// - [`ErrorKind::Refused`], from [`save`](Self::save) and [`release`](Self::release), if the manager limits the sessions of a
    ///   user and the limit is reached
    pub fn authenticate(&self, principal: Principal) -> Result<()> {
        self.authenticate_at(principal, Level::default())
    }

    /// Does what [`authenticate`](Self::authenticate) does, at a `level` of proof: for example 2 for a password and a second
    /// factor.
    ///
    /// The application chooses what the numbers mean. `authenticate` sets [`Level::default`].
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
    /// The errors of [`authenticate`](Self::authenticate).
    pub fn authenticate_at(&self, principal: Principal, level: Level) -> Result<()> {
        self.0.change(|changes| changes.log_in(principal, level))
    }

    /// Changes the level of proof of a user who is logged in, for example after a second factor.
    ///
    /// The session gets a new id. The time of the login and the deadlines stay.
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

    /// Returns the user whom the session belongs to, as this request sees it. `None` means that nobody has logged in.
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

    /// Returns the user whom the session belongs to, or an error if nobody has logged in.
    pub(crate) fn user(&self) -> Result<Principal> {
        self.principal().ok_or_else(|| Error::new(ErrorKind::Denied, Denied::Anonymous))
    }

    /// Returns the level of the user's proof, as this request sees it; `None` for an anonymous session.
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

    /// Returns the time at which the user last proved who they are; `None` for an anonymous session.
    ///
    /// A routine rotation, [`regenerate`](Self::regenerate) and [`set_level`](Self::set_level) do not change it.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert_eq!(session.authenticated(), None);
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert!(session.authenticated().expect("a user has logged in") <= std::time::SystemTime::now());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.0.state().authenticated(self.0.engine.now()).map(SystemTime::from)
    }

    /// Returns an error unless the user has proved who they are within the last `age`.
    ///
    /// Call it before a step that a stolen session must not take, such as a change of the password. If it fails, let the user log
    /// in again.
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
    /// [`ErrorKind::Denied`], whose status is 401, also for an anonymous session.
    pub fn require_recent(&self, age: Duration) -> Result<()> {
        self.user()?;
        let now = self.0.engine.now();
        let at = self.0.state().authenticated(now);
        let at = at.ok_or_else(|| Error::new(ErrorKind::Denied, Denied::Anonymous))?;
        let found = now.since(at);
        if found <= age { Ok(()) } else { Err(Error::new(ErrorKind::Denied, Denied::Old { age, found })) }
    }

    /// Returns an error unless the user has proved who they are at `level` or above.
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
    /// [`ErrorKind::Denied`], whose status is 401, also for an anonymous session.
    pub fn require_level(&self, level: Level) -> Result<()> {
        let denied = match self.level() {
            Some(found) if found >= level => return Ok(()),
            Some(found) => Denied::Low { level: level.number(), found: found.number() },
            None => Denied::Anonymous,
        };
        Err(Error::new(ErrorKind::Denied, denied))
    }

    /// Stores where the session is used from, for the user's list of devices:
    /// [`Manager::sessions_of`](crate::Manager::sessions_of).
    ///
    /// Call it at the login. A session that has neither data nor a user does not begin because of it.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Device, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # let mut request = http::HeaderMap::new();
    /// # request.insert("user-agent", "curl/8.5".parse().unwrap());
    /// let alice = Principal::new("alice")?;
    /// session.authenticate(alice.clone())?;
    /// session.set_device(Device::of_request(&request))?;
    /// session.save().await?;
    /// let list = sessions.sessions_of(&alice).await?;
    /// assert_eq!(list[0].meta.device().and_then(Device::user_agent), Some("curl/8.5"));
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
    /// Ends the session: the logout. The client is told to forget the cookie.
    ///
    /// A value that is set afterwards in the same request begins a new session under a new id. A session that has already ended, or
    /// that was never stored, is no error.
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

    /// Gives the session a new id and keeps its data. The old id is dead as soon as the change is committed.
    ///
    /// Use it for a change of privileges that is no login, such as a new role. It has no effect for a visitor without a session.
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

    /// Gives this session a lifetime of its own, in place of the manager's policy: for "remember me", a kiosk, or an app on a
    /// phone.
    ///
    /// An absolute timeout counts from the login, or from the beginning of an anonymous session. A later call does not move that
    /// start. A session that has neither data nor a user does not begin because of it. The login of another user resets it.
    ///
    /// ```
    /// # use cloakroom::{Lifetime, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// use std::time::{Duration, SystemTime};
    ///
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_lifetime(Lifetime::remembered(30 * day))?;    // the box "remember me"
    /// session.save().await?;
    /// assert!(session.expires().unwrap() > SystemTime::now() + 29 * day);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Value`] for a time below one second or above a hundred years
    /// - [`ErrorKind::Released`] after the release
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<()> {
        lifetime.check()?;
        self.0.change(|changes| changes.fields_mut().lifetime = Some(lifetime))
    }

    /// Makes the session end at `time` at the latest, whatever its policy says. Use it for a federated login whose end the identity
    /// provider gives.
    ///
    /// If it is called several times, the earliest `time` counts, until the user logs in again.
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

    /// Returns the time at which the session began; `None` while nothing is stored.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert_eq!(session.created(), None);
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// assert!(session.created().expect("the session is stored") <= std::time::SystemTime::now());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn created(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().created.into())
    }

    /// Returns the time at which the session was last used before this request; `None` while nothing is stored.
    ///
    /// Not every request writes [the time of last use](crate::guide::lifetimes#the-time-of-last-use), so it may be up to 60 s too
    /// early.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let (began, used) = (session.created(), session.last_active());
    /// assert_eq!(began, used);      // the first request is the first use
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn last_active(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().last_active.into())
    }

    /// Returns the time at which the session ends if nobody uses it again; `None` while nothing is stored.
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

    /// Waits until the session has ended: by a logout on any device, by expiry, or because a login or a change of privileges gave
    /// it another id. Use it in WebSockets and streams, which would go on otherwise.
    ///
    /// It asks the store every 0.7 s, so it returns at most a second late. If the store fails, it asks again. It follows a session
    /// that routine rotation gives another id. For a session that is not stored it returns at once.
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
        watch::until_the_end(&self.0).await;
    }
}

/// # Id
impl Session {
    /// Returns the id by which the client reached this session; `None` while nothing is stored.
    ///
    /// The id is a secret: whoever knows it has the session. For logs, use [`id_hash`](Self::id_hash).
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

    /// Returns the hash by which [events](crate::event::Event) name this session, for the application's own logs; `None` while
    /// nothing is stored.
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

    /// Returns a name of this session that may be shown to its user; `None` while nothing is stored.
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
