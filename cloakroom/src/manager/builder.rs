//! The first door: a provider's value and settings by name.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::HeaderName;

use super::{Manager, check};
use crate::clock::Clock;
use crate::codec::Codec;
use crate::config::{Config, OverLimit, Policy};
use crate::cookie::SameSite;
use crate::engine::{Admission, Engine, Guard, Visit};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventKey, EventListener, Events};
use crate::id::{HashFunc, IdMaker, RandomSource, system_random};
use crate::provider::{AnyProvider, Provider, SealedProvider};
use crate::seal::KeyRing;

/// Settings for a [`Manager`], checked as a whole by [`build`](Self::build).
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, config::SameSite};
/// use std::time::{Duration, SystemTime};
///
/// let sessions = Manager::builder(MemoryProvider::new())
///     .idle_timeout(Duration::from_secs(15 * 60))
///     .absolute_timeout(Some(Duration::from_secs(4 * 60 * 60)))
///     .same_site(SameSite::Strict)
///     .build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct ManagerBuilder {
    provider: AnyProvider,
    former: Option<AnyProvider>,
    config: Config,
    clock: Clock,
    random: RandomSource,
    listener: Option<Arc<dyn EventListener>>,
    guard: Option<Guard>,
    plain_http: bool,
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("provider", &self.provider)
            .field("config", &self.config)
            .field("listener", &self.listener.is_some())
            .field("guard", &self.guard.is_some())
            .finish_non_exhaustive()
    }
}

impl ManagerBuilder {
    pub(super) fn new(provider: AnyProvider, config: Config) -> Self {
        ManagerBuilder {
            provider,
            former: None,
            config,
            clock: Clock::system(),
            random: system_random,
            listener: None,
            guard: None,
            plain_http: false,
        }
    }

    /// The cookie's name; `__Host-id` by default, which browsers take only as Secure, for `/`, and of the very host.
    pub fn cookie_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.config.cookie.name = name.into();
        self
    }

    /// The cookie's `Path`; `/` by default.
    pub fn cookie_path(mut self, path: impl Into<Box<str>>) -> Self {
        self.config.cookie.path = path.into();
        self
    }

    /// Has every host below `domain` receive the cookie. Needs another name than `__Host-…`.
    pub fn cookie_domain(mut self, domain: impl Into<Box<str>>) -> Self {
        self.config.cookie.domain = Some(domain.into());
        self
    }

    /// How long browsers keep the cookie, 400 days at the most; `None`, the default: until they are closed.
    pub fn cookie_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.config.cookie.lifetime = lifetime;
        self
    }

    /// Whether the cookie crosses encrypted connections alone; on by default, whatever the request came by, since a
    /// proxy may have taken the encryption off. Browsers make an exception for `http://localhost`.
    pub fn secure(mut self, secure: bool) -> Self {
        self.config.cookie.secure = secure;
        self
    }

    /// Has a browser keep its session over plain HTTP, on hosts other than localhost too: **for development alone**. Anyone on the way can
    /// take the cookie, which is logged as a warning at the start.
    ///
    /// The cookie is not `Secure` then. A name that begins with `__Host-` or `__Secure-` loses that prefix, and `SameSite=None` becomes Lax,
    /// since browsers take neither without `Secure`.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider};
    ///
    /// let builder = Manager::builder(MemoryProvider::new());
    /// let sessions = if cfg!(debug_assertions) { builder.plain_http_for_development() } else { builder }.build()?;
    /// # let sessions = Manager::builder(MemoryProvider::new()).plain_http_for_development().build()?;
    /// assert_eq!(sessions.config().cookie().name(), "id");
    /// assert!(!sessions.config().cookie().secure());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn plain_http_for_development(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Lets every script on the page read the cookie. There is hardly a reason to.
    pub fn danger_disable_http_only(mut self) -> Self {
        self.config.cookie.http_only = false;
        self
    }

    /// What the cookie's `SameSite` says; Lax by default.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.config.cookie.same_site = same_site;
        self
    }

    /// Takes the id from, and hands it out in, this header too: for clients that keep no cookies. A cookie goes before it.
    pub fn id_header(mut self, name: HeaderName) -> Self {
        self.config.id_header = Some(name);
        self
    }

    /// How long a session lives unused; 30 min by default.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// How long the session of a visitor who has not logged in lives unused: no longer than the idle timeout, which it is by
    /// default. Ten minutes keep a flood of first visits from filling the store, and forget a visitor's cart as soon.
    pub fn anonymous_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.anonymous_timeout = timeout;
        self
    }

    /// How many sessions the store may hold before no anonymous one begins any more; any number by default. Logins go on. A
    /// request that would begin an anonymous session is answered 503, with an error of kind [`Full`](ErrorKind::Full). The
    /// provider must list.
    ///
    /// The store is counted once a second at most, so several processes together may exceed the quota by what they begin within
    /// one. The memory provider's own `max_sessions` is exact.
    pub fn session_quota(mut self, sessions: u64) -> Self {
        self.config.session_quota = Some(sessions);
        self
    }

    /// Asks `admit` before an anonymous session begins: the place for a rate limit. Where it says no, the request is answered
    /// 429, with an error of kind [`Throttled`](ErrorKind::Throttled). Logins are not asked. A copy of each request's
    /// headers is kept for it.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider, Visit};
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let left = AtomicU32::new(1_000);
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .admit(move |visit: &Visit| {
    ///         let robot = visit.headers().get("user-agent").is_none_or(|agent| agent == "crawler");
    ///         !robot && left.fetch_sub(1, Ordering::Relaxed) > 0
    ///     })
    ///     .build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn admit(mut self, admit: impl Fn(&Visit) -> bool + Send + Sync + 'static) -> Self {
        self.guard = Some(Arc::new(admit));
        self
    }

    /// How long a session lives at most, from its beginning or its last login; 8 h by default. `None`: as long as it is used.
    pub fn absolute_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.absolute_timeout = timeout;
        self
    }

    /// Both timeouts, as an authority recommends them.
    pub fn policy(self, policy: Policy) -> Self {
        self.idle_timeout(policy.idle_timeout()).absolute_timeout(Some(policy.absolute_timeout()))
    }

    /// Replaces an id in passing once it is this old; off by default. The old one still leads to the session for a
    /// [grace](Self::rotation_grace), and after that its use is reported.
    pub fn rotate_every(mut self, age: Duration) -> Self {
        self.config.rotate_every = Some(age);
        self
    }

    /// How long an id that was replaced in passing still leads to its session, for the requests that are under way; 30 s by default.
    pub fn rotation_grace(mut self, grace: Duration) -> Self {
        self.config.rotation_grace = grace;
        self
    }

    /// Ends every session of a user one of whose rotated ids is used after its grace: it may have been stolen, and nobody can tell
    /// which of the two is the thief. Off by default, since a client that never saw the new id does the same.
    pub fn end_user_on_reuse(mut self, end: bool) -> Self {
        self.config.end_user_on_reuse = end;
        self
    }

    /// How long the longest request takes; 60 s by default. For this time the manager remembers that an id was replaced, or that
    /// its session was ended. A request that was under way then stores nothing and sets no cookie over that of a later login.
    pub fn longest_request(mut self, time: Duration) -> Self {
        self.config.longest_request = time;
        self
    }

    /// The most sessions that a user may have, and what happens to one more; no limit by default. Holds under parallel logins.
    /// Needs a provider that lists.
    pub fn sessions_per_user(mut self, limit: NonZeroUsize, over: OverLimit) -> Self {
        self.config.user_limit = Some((limit, over));
        self
    }

    /// The time between two rounds of garbage collection; 60 s by default.
    pub fn gc_interval(mut self, interval: Duration) -> Self {
        self.config.gc_interval = interval;
        self
    }

    /// The longest that a request waits for the provider; 2 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = deadline;
        self
    }

    /// The codec of new records; [`Codec::MESSAGE_PACK`] by default.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.codec = codec;
        self
    }

    /// What separates this manager's sessions from another's in the same store; the cookie's name by default.
    ///
    /// It separates ids: another manager's id is no session here. It goes into hashed keys and, where ids are stored in clear, into the
    /// records. Users are not separated: [`Manager::sessions_of`] and [`Manager::end_sessions`] reach the user's sessions in the whole store.
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.config.namespace = Some(namespace.into());
        self
    }

    /// The shape of ids; [`HashFunc::Random`] by default.
    pub fn hash_func(mut self, func: HashFunc) -> Self {
        self.config.ids.func = func;
        self
    }

    /// Has a persistent provider store the ids themselves, so that whoever reads the store can be any visitor. Each record then bears
    /// a mark of its [namespace](Self::namespace), but for those in another library's layout.
    pub fn danger_store_ids_in_clear(mut self) -> Self {
        self.config.hash_ids = false;
        self
    }

    /// Seals the data of every record before it reaches the provider: see [`SealedProvider`] for what that keeps whom from.
    /// Sessions that are stored already are not sealed and are lost, unless
    /// [`danger_accept_unsealed_until`](Self::danger_accept_unsealed_until) says so.
    ///
    /// ```
    /// # use cloakroom::{KeyRing, Manager, MemoryProvider, seal::SealKey};
    /// # let secrets = [SealKey::generate()?, SealKey::generate()?];
    /// # let [new, former] = secrets;
    /// let ring = KeyRing::new(new).with_older(former);
    /// let sessions = Manager::builder(MemoryProvider::new()).seal(ring).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn seal(mut self, ring: KeyRing) -> Self {
        self.config.seal = Some(ring);
        self
    }

    /// Takes records that are not sealed until this time, for an application that begins to [`seal`](Self::seal) while it has
    /// sessions: whatever is written is sealed, and afterwards nothing else is taken. Until then whoever writes to the store can make
    /// sessions.
    pub fn danger_accept_unsealed_until(mut self, until: SystemTime) -> Self {
        self.config.unsealed_until = Some(until.into());
        self
    }

    /// Finds sessions that are stored under their plain ids until this time, for an application that begins to hash them while it
    /// has sessions: one that is found is moved to its hashed key, and afterwards none is looked for. Until then whoever reads the store can
    /// be a visitor who has not come since.
    ///
    /// The form of the ids must stay what it was. Ids of 64 hex characters have the form of hashed keys, and are not looked for.
    pub fn danger_accept_plain_ids_until(mut self, until: SystemTime) -> Self {
        self.config.plain_ids_until = Some(until.into());
        self
    }

    /// The most bytes of data in a session; 64 KiB by default, 16 MiB at most.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// The most keys in a session; 1,024 by default, 65,535 at most.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.config.limits.keys = keys;
        self
    }

    /// The deepest nesting of a value; 32 by default, 128 at most.
    pub fn max_depth(mut self, levels: usize) -> Self {
        self.config.limits.depth = levels;
        self
    }

    /// Has the middleware commit what a handler changed even if it answers 5xx; off by default.
    pub fn commit_on_server_error(mut self, commit: bool) -> Self {
        self.config.commit_on_server_error = commit;
        self
    }

    /// Moves the sessions of `former`, a provider in another library's layout, to this manager's when they are first used: each gets a
    /// new id and cookie, and its old record goes. Ids must be hashed, as they are by default.
    ///
    /// Requests with the old id that come at the same time reach the moved session for a minute. When the last session in `former` may have
    /// ended, leave this out again.
    #[cfg(feature = "beego")]
    pub fn migrate_from(mut self, former: impl Provider) -> Self {
        self.former = Some(AnyProvider::new(former));
        self
    }

    /// Tells `listener` what happens to sessions: created, rotated, authenticated, destroyed, and what looks like an attack.
    /// One listener; a second call takes the first one's place. The same is logged through `tracing`, under the target
    /// `cloakroom::event`, with or without a listener.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider, event::{Event, EventKind}};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .on_event(|event: &Event| {
    ///         if event.kind() == EventKind::Reuse {
    ///             println!("an id was used again: {:?}", event.session());
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn on_event(mut self, listener: impl EventListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The key of the [hashes](crate::event::IdHash) by which events name sessions, 16 bytes at least; a random one of the process by
    /// default. With the same key, several processes give a session the same hash.
    pub fn event_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.config.event_key = EventKey::new(key.as_ref());
        self
    }

    /// The source of time; the system's by default. Give the provider the same.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A stand-in for the operating system's random generator, for tests of its failure.
    #[cfg(feature = "testkit")]
    pub fn danger_random(mut self, random: fn(&mut [u8]) -> std::io::Result<()>) -> Self {
        self.random = random;
        self
    }

    /// The manager.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for settings that cannot work together, and
    /// [`ErrorKind::Random`](crate::ErrorKind::Random) if no random key could be made.
    pub fn build(self) -> Result<Manager> {
        let ManagerBuilder { provider, former, mut config, clock, random, listener, guard, plain_http } =
            self;
        if plain_http {
            config.cookie.allow_plain_http();
        }
        config.check()?;
        let capabilities = provider.capabilities();
        let former_capabilities = former.as_ref().map(AnyProvider::capabilities);
        if let Some(problem) = check::problem(&config, &capabilities, former_capabilities.as_ref()) {
            return Err(Error::new(ErrorKind::Config, problem));
        }
        let ids = &config.ids;
        let mut maker = IdMaker::new(ids.func, ids.key.as_bytes(), random)?.with_prefix(&ids.prefix);
        if let Some(bytes) = ids.length {
            maker = maker.with_hex_of(bytes);
        }
        if former.is_some() || capabilities.codec.is_some() {
            maker = maker.with_those_of_beego();
        }
        let provider = match (capabilities.sealed_tokens(), config.seal.clone()) {
            (Some(tokens), _) => {
                // A use is noted within a part of the idle timeout, and so within that part of the token's age.
                if let Some(most) = tokens.max_age() {
                    config.idle_timeout = config.idle_timeout.min(most);
                }
                tokens.bind(&config)?;
                config.limits.bytes = config.limits.bytes.min(tokens.room());
                provider
            }
            (None, Some(ring)) => AnyProvider::new(
                SealedProvider::new(provider, ring, config.namespace())
                    .accept_unsealed_until(config.unsealed_until, clock.clone())
                    .random(random),
            ),
            (None, None) => provider,
        };
        for advice in config.advice(capabilities.persistent && !capabilities.token_is_record()) {
            tracing::warn!(provider = capabilities.name, "{advice}");
        }
        if plain_http {
            tracing::warn!(
                "plain_http_for_development is on: the cookie crosses plain HTTP, where anyone on the way can take it; leave it out \
                 in production"
            );
        }
        let events = Events::new(listener, &config.event_key, system_random)?;
        let admission = Admission::new(guard);
        let engine = Engine::new(provider, former, config, clock, maker, events, admission);
        Ok(Manager(Arc::new(engine)))
    }
}
