//! The manager: one for an application, and the way to every session.

mod builder;
mod check;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};

use crate::config::{Advice, Config};
use crate::engine::{Engine, within};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventKind, IdHash};
use crate::id::{HashFunc, SessionId};
use crate::principal::Principal;
use crate::provider::{AnyProvider, Listed, Provider};
use crate::session::{Released, Session, SessionHandle, Shared};

pub use builder::ManagerBuilder;

/// The sessions of an application: a provider, and the policy by which it is used.
///
/// A cheap clone of a handle on the same sessions. Made by [`builder`](Self::builder) from a provider's value, or by
/// [`new`](Self::new) from a provider's name and a configuration text.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
/// use std::time::Duration;
///
/// let sessions = Manager::builder(MemoryProvider::new()).idle_timeout(Duration::from_secs(15 * 60)).build()?;
/// assert!(sessions.advice().is_empty());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[doc(alias = "SessionManager")]
#[derive(Clone)]
pub struct Manager(Arc<Engine>);

impl Manager {
    /// Begins a manager of `provider` with today's defaults: see [`ManagerBuilder`].
    pub fn builder(provider: impl Provider) -> ManagerBuilder {
        ManagerBuilder::new(AnyProvider::new(provider), Config::default())
    }

    /// Begins a manager of `provider` with the settings of a configuration text.
    pub fn with_config(provider: impl Provider, config: Config) -> ManagerBuilder {
        ManagerBuilder::new(AnyProvider::new(provider), config)
    }

    /// The session of a request that has brought `headers`, for those without a middleware.
    ///
    /// Whoever starts a session [releases](Session::release) it before the response head leaves.
    ///
    /// # Errors
    /// Those of the provider. Never an empty session instead of one that could not be read.
    #[doc(alias = "SessionStart")]
    pub async fn start(&self, headers: &HeaderMap) -> Result<Session> {
        let session = self.handle(headers).load().await?;
        session.look_for_plain_http(headers, || None);
        Ok(session)
    }

    /// What the middleware puts into a request's extensions. Reads nothing.
    pub fn handle(&self, headers: &HeaderMap) -> SessionHandle {
        self.handle_in(headers, &Extensions::new())
    }

    /// [`handle`](Self::handle) of a request that layers have noted something of.
    #[inline]
    pub(crate) fn handle_in(&self, headers: &HeaderMap, extensions: &Extensions) -> SessionHandle {
        SessionHandle(Shared::of_request(Arc::clone(&self.0), headers, extensions))
    }

    /// A handle on a session apart from any request, for WebSockets, streams and jobs; `None` if it is not alive.
    /// Its changes are stored by [`Session::save`] and [`Session::update`].
    ///
    /// # Errors
    /// Those of the provider; [`ErrorKind::Unsupported`] where the cookie holds the session, since there is nothing to look an id up in.
    #[doc(alias = "GetSessionStore")]
    pub async fn session(&self, id: &SessionId) -> Result<Option<Session>> {
        if self.0.provider.capabilities().token_is_record() {
            return Err(Error::new(ErrorKind::Unsupported, NoStore));
        }
        let found = within(self.0.config.deadline, self.0.find_id(id)).await.0?;
        Ok(found.map(|stored| Session::new(Shared::detached(Arc::clone(&self.0), stored))))
    }

    /// Ends the session of a request, and has the client forget its id. For those who hold a [`Session`], [`Session::destroy`].
    ///
    /// It also ends a session that this build cannot read, because a newer release wrote it ([`ErrorKind::Incompatible`]).
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

    /// Gives the session of a request a new id and tells the client. For those who hold a [`Session`],
    /// [`Session::regenerate`].
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and [`Session::release`].
    #[doc(alias = "SessionRegenerateId")]
    pub async fn regenerate_id(&self, headers: &HeaderMap, response: &mut HeaderMap) -> Result<Released> {
        let session = self.start(headers).await?;
        session.regenerate()?;
        session.release(response).await
    }

    /// How many sessions are alive. The number is exact, but for a file store whose count takes more than a second: that may answer
    /// with a number up to a minute old.
    ///
    /// # Errors
    /// Those of the provider; [`ErrorKind::Unsupported`] where it keeps no list.
    #[doc(alias = "GetActiveSession")]
    pub async fn active_sessions(&self) -> Result<u64> {
        within(self.0.config.deadline, self.0.provider.count()).await.0
    }

    /// The live sessions of one user, the one used last first: for a list of devices.
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
    /// Those of the provider; [`ErrorKind::Unsupported`] where it keeps no list.
    pub async fn sessions_of(&self, principal: &Principal) -> Result<Vec<Listed>> {
        self.0.sessions_of(principal).await
    }

    /// Ends the session of `principal` that has this [handle](crate::providers::StoreKey::handle); false if there is none.
    ///
    /// # Errors
    /// Those of [`sessions_of`](Self::sessions_of).
    pub async fn end_session(&self, principal: &Principal, handle: &str) -> Result<bool> {
        Ok(self.0.end_sessions(principal, |key| key.handle() == handle).await? > 0)
    }

    /// Ends every session of `principal`: log out everywhere. Says how many those were.
    ///
    /// Each step has the deadline for itself, so that a user with very many sessions can be logged out too. A session that cannot be ended
    /// does not keep the others alive: the error comes after them, and a second call tries the rest.
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
        self.0.end_sessions(principal, |_| true).await
    }

    /// Ends every other session of the user that `session` belongs to: log out all other devices. Says how many those were.
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
        self.0.end_other_sessions(&user, own.as_ref()).await
    }

    /// Has ids from now on made by `func`, with the HMAC key `key`; an empty one means a random one. Acts on every clone of a
    /// running manager. The ids that are out stay valid.
    ///
    /// # Errors
    /// [`ErrorKind::Random`] if a random key is asked for and the generator fails. Nothing changes then.
    #[doc(alias = "SetHashFunc")]
    pub fn set_hash_func(&self, func: HashFunc, key: &str) -> Result<()> {
        self.0.switch_hash(func, key.as_bytes())
    }

    /// Switches the cookie's `Secure` for every response from now on, on every clone of a running manager.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is switched off though the cookie's name or `SameSite` needs it. Nothing changes then.
    #[doc(alias = "SetSecure")]
    pub fn set_secure(&self, secure: bool) -> Result<()> {
        let mut cookie = self.0.config.cookie.clone();
        cookie.secure = secure;
        cookie.check()?;
        self.0.set_secure(secure);
        Ok(())
    }

    /// The hash by which [events](crate::event::Event) name the session of `id`, for logs of the application's own.
    pub fn id_hash(&self, id: &SessionId) -> IdHash {
        self.0.events.hash(self.0.name_of(id).key())
    }

    /// What the effective configuration is weaker in than the builder's defaults; the same was logged at the start.
    pub fn advice(&self) -> Vec<Advice> {
        let capabilities = self.0.provider.capabilities();
        self.0.config.advice(capabilities.persistent && !capabilities.token_is_record())
    }

    /// The effective policy in words: when a session ends, when its id changes, and what a user may have. For logs, audits and
    /// the curious.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert!(sessions.explain().starts_with("- A session ends 30 min after its last use"));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn explain(&self) -> String {
        self.0.config.explain()
    }

    /// The effective settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The provider.
    #[doc(alias = "GetProvider")]
    pub fn provider(&self) -> &AnyProvider {
        &self.0.provider
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.0)
    }

    /// Collects what has expired: one round, in bounded steps. Says how many records went.
    ///
    /// # Errors
    /// Those of the provider.
    #[doc(alias = "GC")]
    pub async fn collect_garbage(&self) -> Result<u64> {
        const STEP: usize = 1000;
        // A store that hangs must not hold up every later round; nobody waits for this one.
        const PATIENCE: Duration = Duration::from_secs(60);
        // Far more steps than a store has sessions: a provider that always says "more" must not hold us.
        const MOST: usize = 10_000_000;
        self.0.note_collection();
        let mut removed = 0;
        // What was not moved in its time has expired like anything else.
        'providers: for provider in std::iter::once(&self.0.provider).chain(&self.0.former) {
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
    "the cookie provider stores nothing that an id could be looked up in; go by the request's cookie, with start"
)]
struct NoStore;

#[derive(Debug, thiserror::Error)]
#[error(
    "expected the provider to run out of expired records, found more at every step; its delete_expired is broken"
)]
struct EndlessGarbage;
