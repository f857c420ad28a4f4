//! The manager of an application's sessions.
//!
//! [`Manager`] is a cheap clone of one engine. `builder.rs` checks all settings together and builds the engine. `settings.rs` and
//! `storage.rs` hold the builder's methods, and `check.rs` compares the settings with the provider's capabilities.

mod builder;
mod check;
mod settings;
mod storage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderValue};

use crate::config::{Advice, Config};
use crate::engine::{Engine, within};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventKind, IdHash};
use crate::head::RequestHead;
use crate::id::{HashFunc, SessionId};
use crate::principal::Principal;
use crate::provider::{AnyProvider, Listed, Provider};
use crate::request::{Exchange, find_id};
use crate::session::{Released, Session, SessionHandle};

pub use builder::ManagerBuilder;

/// The sessions of an application: a provider, and the settings by which it is used.
///
/// [`builder`](Self::builder) takes a provider's value. [`new`](Self::new) takes a provider's name and a configuration string. A
/// clone is a cheap handle on the same sessions.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
/// use std::time::Duration;
///
/// let sessions = Manager::builder(MemoryProvider::new()).idle_timeout(Duration::from_secs(15 * 60)).build()?;
/// assert!(sessions.advice().is_empty());
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// # Methods by task
///
/// | you want to | call |
/// |---|---|
/// | serve requests with axum or tower | [`SessionLayer::new`](crate::guide::frameworks) |
/// | serve requests without a layer | [`start`](Self::start), then [`Session::release`] |
/// | use a session in a socket or a job | [`session`](Self::session) |
/// | list a user's sessions, or end them | [`sessions_of`](Self::sessions_of), [`end_session`](Self::end_session), [`end_sessions`](Self::end_sessions) |
/// | count sessions | [`active_sessions`](Self::active_sessions) |
/// | remove expired sessions | [`spawn_gc`](Self::spawn_gc), [`collect_garbage`](Self::collect_garbage) |
/// | see the effective settings | [`config`](Self::config), [`explain`](Self::explain), [`advice`](Self::advice) |
#[doc(alias = "SessionManager")]
#[derive(Clone)]
pub struct Manager(Arc<Engine>);

/// # Making a manager
impl Manager {
    /// Begins a manager of `provider` with the secure defaults of [`ManagerBuilder`].
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("__Host-shop").build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn builder(provider: impl Provider) -> ManagerBuilder {
        ManagerBuilder::new(AnyProvider::new(provider), Config::default())
    }

    /// Begins a manager of `provider` with the settings of a configuration string. The builder's methods can change them.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider, config::Config};
    ///
    /// let config = Config::from_json(r#"{"cookieName": "id", "maxLifetime": 900}"#)?;
    /// let sessions = Manager::with_config(MemoryProvider::new(), config).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn with_config(provider: impl Provider, config: Config) -> ManagerBuilder {
        ManagerBuilder::new(AnyProvider::new(provider), config)
    }
}

/// # The session of a request
///
/// For applications without a middleware. With one, handlers take a [`Session`].
impl Manager {
    /// Loads the session of a request with `headers`.
    ///
    /// [Release](Session::release) it before the response head leaves.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let (request, mut response) = (HeaderMap::new(), HeaderMap::new());
    /// let session = sessions.start(&request).await?;
    /// session.set("theme", "dark")?;
    /// let _ = session.release(&mut response).await?;
    /// assert!(response.contains_key("set-cookie"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the provider. A session that could not be read is never an empty one.
    #[doc(alias = "SessionStart")]
    pub async fn start(&self, headers: &HeaderMap) -> Result<Session> {
        let handle = self.handle(headers);
        if !handle.0.load().await? {
            handle.0.look_for_plain_http(|name| headers.get(name).map(HeaderValue::as_bytes), || None);
        }
        Ok(handle.loaded())
    }

    /// Makes the handle of a request's session, for an [adapter](crate::guide::your_own_framework). It reads nothing.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let mut request = http::Request::new(());
    /// sessions.handle(request.headers()).insert_into(request.extensions_mut());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn handle(&self, headers: &HeaderMap) -> SessionHandle {
        self.handle_in(headers, &Extensions::new())
    }

    /// Does what [`handle`](Self::handle) does, and shows `extensions` to [`admit`](ManagerBuilder::admit).
    #[inline]
    pub fn handle_in(&self, headers: &HeaderMap, extensions: &Extensions) -> SessionHandle {
        SessionHandle(Exchange::of_request(Arc::clone(&self.0), headers, extensions))
    }

    /// Does what [`handle_in`](Self::handle_in) does, for a request in another framework's types. It copies the `Cookie` headers and,
    /// if they are set, the [id header](ManagerBuilder::id_header) and what [`admit`](ManagerBuilder::admit) is shown.
    pub fn handle_of<H: RequestHead + ?Sized>(&self, head: &H, extensions: &Extensions) -> SessionHandle {
        SessionHandle(Exchange::presenting(Arc::clone(&self.0), self.0.requests.read_head(head, extensions)))
    }

    /// Loads a session by its id, apart from any request: for [WebSockets, streams](crate::guide::sockets) and jobs. `None` if it is not
    /// alive.
    ///
    /// [`Session::save`] and [`Session::update`] store its changes.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let request = sessions.start(&http::HeaderMap::new()).await?;
    /// # request.set("n", 1)?;
    /// # request.save().await?;
    /// let id = request.id().expect("the session is stored");
    /// let job = sessions.session(&id).await?.expect("the session is alive");
    /// job.set("done", true)?;
    /// job.save().await?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the provider; [`ErrorKind::Unsupported`] on the cookie provider, which stores nothing that an id could be looked up in.
    #[doc(alias = "GetSessionStore")]
    pub async fn session(&self, id: &SessionId) -> Result<Option<Session>> {
        if self.0.provider.capabilities().token_is_record() {
            return Err(Error::new(ErrorKind::Unsupported, NoStore));
        }
        let found = within(self.0.config.deadline, find_id(&self.0, id)).await.0?;
        Ok(found.map(|stored| Session::new(Exchange::detached(Arc::clone(&self.0), stored))))
    }

    /// Ends the session of a request, and tells the client to forget its id. If you hold a [`Session`], call [`Session::destroy`].
    ///
    /// It also ends a session that this build cannot read, because a newer release wrote it ([`ErrorKind::Incompatible`]).
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Released};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let request = HeaderMap::new();
    /// let mut response = HeaderMap::new();
    /// let done = sessions.destroy(&request, &mut response).await?;
    /// assert_eq!(done, Released::Unchanged);      // this visitor had no session
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and [`Session::release`].
    #[doc(alias = "SessionDestroy")]
    pub async fn destroy(&self, headers: &HeaderMap, response: &mut HeaderMap) -> Result<Released> {
        let handle = self.handle(headers);
        handle.0.load_to_end().await?;
        let session = Session::new(handle.0);
        session.destroy()?;
        session.release(response).await
    }

    /// Gives the session of a request a new id, and tells the client. If you hold a [`Session`], call [`Session::regenerate`].
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let request = HeaderMap::new();
    /// let mut response = HeaderMap::new();
    /// let _ = sessions.regenerate_id(&request, &mut response).await?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and [`Session::release`].
    #[doc(alias = "SessionRegenerateId")]
    pub async fn regenerate_id(&self, headers: &HeaderMap, response: &mut HeaderMap) -> Result<Released> {
        let session = self.start(headers).await?;
        session.regenerate()?;
        session.release(response).await
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.0)
    }
}

/// # Users and their sessions
impl Manager {
    /// Lists the live sessions of one user, the one used last first: for a list of devices.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// for device in sessions.sessions_of(&Principal::new("alice")?).await? {
    ///     println!("{} since {:?}", device.key.handle(), device.meta.created());
    /// }
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the provider; [`ErrorKind::Unsupported`] if it keeps no list.
    pub async fn sessions_of(&self, principal: &Principal) -> Result<Vec<Listed>> {
        self.0.users.list(principal).await
    }

    /// Ends the session of `principal` with this [handle](crate::providers::StoreKey::handle). Returns false if there is none.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let handle = "of a list";
    /// let found = sessions.end_session(&Principal::new("alice")?, handle).await?;
    /// assert!(!found);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`sessions_of`](Self::sessions_of).
    pub async fn end_session(&self, principal: &Principal, handle: &str) -> Result<bool> {
        Ok(self.0.users.end(principal, |key| key.handle() == handle).await? > 0)
    }

    /// Logs `principal` out everywhere: ends every session of this user, and returns their number.
    ///
    /// Each step has its own deadline, so that a user with very many sessions can be logged out too. If one session cannot be ended, the
    /// others are, and the error comes at the end. A second call tries the rest.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.end_sessions(&Principal::new("alice")?).await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`sessions_of`](Self::sessions_of).
    #[doc(alias = "logout_everywhere")]
    pub async fn end_sessions(&self, principal: &Principal) -> Result<u64> {
        self.0.users.end(principal, |_| true).await
    }

    /// Logs out all other devices: ends every other session of the user of `session`, and returns their number.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.save().await?;
    /// assert_eq!(sessions.end_other_sessions(&session).await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] if nobody has logged in to `session`, and those of [`sessions_of`](Self::sessions_of).
    pub async fn end_other_sessions(&self, session: &Session) -> Result<u64> {
        let user = session.user()?;
        let own = session.0.key();
        self.0.users.end_others(&user, own.as_ref()).await
    }

    /// Counts the live sessions.
    ///
    /// The number is exact, with one exception: if a count of the file provider takes more than a second, the number may be up to a minute
    /// old.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.active_sessions().await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the provider; [`ErrorKind::Unsupported`] if it keeps no list.
    #[doc(alias = "GetActiveSession")]
    pub async fn active_sessions(&self) -> Result<u64> {
        within(self.0.config.deadline, self.0.provider.count()).await.0
    }
}

/// # Settings
impl Manager {
    /// Returns the settings that are weaker than the builder's defaults. The log has the same list at the start.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).absolute_timeout(None).build()?;
    /// assert_eq!(sessions.advice()[0].setting(), "absoluteTimeout");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn advice(&self) -> Vec<Advice> {
        let capabilities = self.0.provider.capabilities();
        self.0
            .config
            .advice(capabilities.persistent && !capabilities.token_is_record(), capabilities.losses())
    }

    /// Returns the effective policy in words: when a session ends, when its id changes, and what a user may have.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert!(sessions.explain().starts_with("- A session ends 30 min after its last stored use"));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn explain(&self) -> String {
        self.0.config.explain()
    }

    /// Returns the effective settings.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.config().cookie().name(), "__Host-id");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the provider.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Provider};
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.provider().capabilities().name, "memory");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[doc(alias = "GetProvider")]
    pub fn provider(&self) -> &AnyProvider {
        &self.0.provider
    }

    /// Returns the hash by which [events](crate::event::Event) name the session of `id`, for the application's own log lines.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let session = sessions.start(&HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let id = session.id().expect("the session is stored");
    /// assert_eq!(Some(sessions.id_hash(&id)), session.id_hash());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn id_hash(&self, id: &SessionId) -> IdHash {
        self.0.events.hash(self.0.ids.name_of(id).key())
    }

    /// Makes new ids with `func` and the HMAC key `key`, on every clone of a running manager. An empty key means a random one. Existing ids
    /// stay valid.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, config::HashFunc};
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// sessions.set_hash_func(HashFunc::Sha256, "")?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Random`] if a random key is asked for and the generator fails. Nothing changes then.
    #[doc(alias = "SetHashFunc")]
    pub fn set_hash_func(&self, func: HashFunc, key: &str) -> Result<()> {
        self.0.ids.switch_hash(func, key.as_bytes())
    }

    /// Switches the cookie's `Secure` for every later response, on every clone of a running manager.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert!(sessions.set_secure(false).is_err());       // the name `__Host-id` needs it
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is switched off though the cookie's name or `SameSite` needs it. Nothing changes then.
    #[doc(alias = "SetSecure")]
    pub fn set_secure(&self, secure: bool) -> Result<()> {
        let mut cookie = self.0.config.cookie.clone();
        cookie.secure = secure;
        cookie.check()?;
        self.0.responses.set_secure(secure);
        Ok(())
    }
}

/// # Garbage collection
impl Manager {
    /// Removes expired records and tombstones: one round, in bounded steps. Returns the number of removed records.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.collect_garbage().await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the provider.
    #[doc(alias = "GC")]
    pub async fn collect_garbage(&self) -> Result<u64> {
        const STEP: usize = 1000;
        // A bound on each step: a store that hangs must not stop every later round. No request waits for this one.
        const PATIENCE: Duration = Duration::from_secs(60);
        // More steps than any store needs. A provider that always reports more must not keep this loop running.
        const MOST: usize = 10_000_000;
        self.0.collection.record_round();
        self.0.migration.delete_again().await;
        let mut removed = 0;
        // A session that was not moved in time expires in the former store.
        'providers: for provider in std::iter::once(&self.0.provider).chain(self.0.migration.layout()) {
            for _ in 0..MOST {
                let collected = within(PATIENCE, provider.delete_expired(STEP)).await.0?;
                removed += collected.removed as u64;
                if collected.removed > 0 {
                    self.0.events.report(EventKind::Expired, collected.removed as u64);
                }
                if !collected.more {
                    continue 'providers;
                }
                tokio::task::yield_now().await;
            }
            return Err(Error::new(ErrorKind::Unavailable, EndlessGarbage));
        }
        Ok(removed)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("provider", &self.0.provider)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the cookie provider stores nothing that an id could be looked up in; load the session from the request's cookie, with start"
)]
struct NoStore;

#[derive(Debug, thiserror::Error)]
#[error(
    "expected the provider to run out of expired records, found more at every step; its delete_expired is broken"
)]
struct EndlessGarbage;
