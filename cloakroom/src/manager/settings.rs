//! The builder's settings, in groups.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::HeaderName;

use super::ManagerBuilder;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::config::{OverLimit, Policy};
use crate::cookie::SameSite;
use crate::engine::Visit;
use crate::event::{EventKey, EventListener};
use crate::id::HashFunc;
#[cfg(feature = "beego")]
use crate::provider::{AnyProvider, Provider};
use crate::seal::KeyRing;

/// # The cookie
impl ManagerBuilder {
    /// Sets the cookie's name; `__Host-id` by default.
    ///
    /// Browsers accept a name with `__Host-` only from the host itself, with `Secure` and the path `/`. So a neighbouring host cannot plant the cookie.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("__Host-shop").build()?;
    /// assert_eq!(sessions.config().cookie().name(), "__Host-shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn cookie_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.config.cookie.name = name.into();
        self
    }

    /// Sets the cookie's `Path`; `/` by default. Needs a name without `__Host-`.
    pub fn cookie_path(mut self, path: impl Into<Box<str>>) -> Self {
        self.config.cookie.path = path.into();
        self
    }

    /// Sends the cookie to every host under `domain`. Needs a name without `__Host-`.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("id").cookie_domain("example.com").build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn cookie_domain(mut self, domain: impl Into<Box<str>>) -> Self {
        self.config.cookie.domain = Some(domain.into());
        self
    }

    /// Sets how long browsers keep the cookie, 400 days at most. `None`, the default: until the browser closes.
    ///
    /// The session still ends by its own timeouts. For "remember me" on single sessions, see [`Session::set_lifetime`](crate::Session::set_lifetime).
    pub fn cookie_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.config.cookie.lifetime = lifetime;
        self
    }

    /// Sets whether browsers send the cookie over HTTPS only; on by default.
    ///
    /// The cookie is `Secure` whatever the request came by, since a proxy may have ended the encryption. Browsers make an exception for
    /// `http://localhost`. For development on other hosts, see [`plain_http_for_development`](Self::plain_http_for_development).
    pub fn secure(mut self, secure: bool) -> Self {
        self.config.cookie.secure = secure;
        self
    }

    /// Sets the cookie's `SameSite`; Lax by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, config::SameSite};
    /// let sessions = Manager::builder(MemoryProvider::new()).same_site(SameSite::Strict).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.config.cookie.same_site = same_site;
        self
    }

    /// Lets every script on the page read the cookie. Scripts hardly ever need it.
    pub fn danger_disable_http_only(mut self) -> Self {
        self.config.cookie.http_only = false;
        self
    }

    /// Makes the cookie work over plain HTTP, on hosts other than localhost too: **for development only**.
    ///
    /// Anyone on the network path can take the cookie, so the log warns at the start. The cookie is not `Secure`. A name with `__Host-` or
    /// `__Secure-` loses that prefix, and `SameSite=None` becomes Lax, since browsers accept neither without `Secure`.
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

    /// Also reads the id from the header `name`, and writes it there: for clients that keep no cookies. A cookie takes precedence.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use http::HeaderName;
    ///
    /// let header = HeaderName::from_static("x-session-id");
    /// let sessions = Manager::builder(MemoryProvider::new()).id_header(header).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn id_header(mut self, name: HeaderName) -> Self {
        self.config.id_header = Some(name);
        self
    }
}

/// # Lifetimes
impl ManagerBuilder {
    /// Sets how long an unused session lives; 30 min by default. At least 1 s, at most 100 years.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).idle_timeout(Duration::from_secs(900)).build()?;
    /// assert_eq!(sessions.config().idle_timeout().as_secs(), 900);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle_timeout = timeout;
        self
    }

    /// Sets how long a session lives at most, from its beginning or its last login; 8 h by default. `None`: as long as it is used.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let four_hours = Duration::from_secs(4 * 60 * 60);
    /// let sessions = Manager::builder(MemoryProvider::new()).absolute_timeout(Some(four_hours)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn absolute_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.absolute_timeout = timeout;
        self
    }

    /// Sets both timeouts to what an authority recommends.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use cloakroom::config::Policy;
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).policy(Policy::NIST_AAL2).build()?;
    /// assert_eq!(sessions.config().idle_timeout().as_secs(), 3600);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn policy(self, policy: Policy) -> Self {
        self.idle_timeout(policy.idle_timeout()).absolute_timeout(Some(policy.absolute_timeout()))
    }

    /// Sets how long the unused session of a visitor lives who has not logged in. `None`, the default: as long as the idle timeout, which is also
    /// the most.
    ///
    /// Ten minutes keep a flood of first visits from filling the store. They also forget a visitor's cart after that time.
    pub fn anonymous_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.config.anonymous_timeout = timeout;
        self
    }

    /// Replaces an id once it is this old, during any request; off by default. The old id still reaches the session for a
    /// [grace](Self::rotation_grace). Its use after that is reported.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).rotate_every(Duration::from_secs(900)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn rotate_every(mut self, age: Duration) -> Self {
        self.config.rotate_every = Some(age);
        self
    }

    /// Sets how long an id that was rotated away still reaches its session, for the requests under way; 30 s by default.
    pub fn rotation_grace(mut self, grace: Duration) -> Self {
        self.config.rotation_grace = grace;
        self
    }

    /// Ends every session of a user if one of the user's rotated ids is used after its grace; off by default.
    ///
    /// The id may have been stolen, and the library cannot tell the thief from the user. The default is off because a client that never received the
    /// new id does the same.
    pub fn end_user_on_reuse(mut self, end: bool) -> Self {
        self.config.end_user_on_reuse = end;
        self
    }

    /// Sets how long the longest request takes; 60 s by default.
    ///
    /// For this time the store remembers that an id was replaced, or that its session was ended. A request that was under way then stores nothing, and does not
    /// overwrite the cookie of a later login.
    pub fn longest_request(mut self, time: Duration) -> Self {
        self.config.longest_request = time;
        self
    }
}

/// # Limits
impl ManagerBuilder {
    /// Limits the sessions of one user, and says what happens to one more; no limit by default.
    ///
    /// The limit holds under parallel logins. It needs a provider that lists sessions.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use cloakroom::config::OverLimit;
    /// use std::num::NonZeroUsize;
    ///
    /// let five = NonZeroUsize::new(5).expect("five is not zero");
    /// let sessions = Manager::builder(MemoryProvider::new()).sessions_per_user(five, OverLimit::EndOldest).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn sessions_per_user(mut self, limit: NonZeroUsize, over: OverLimit) -> Self {
        self.config.user_limit = Some((limit, over));
        self
    }

    /// Stops anonymous sessions from beginning once the store holds this many sessions; no quota by default. Logins go on.
    ///
    /// A request that would begin an anonymous session gets an error of the kind [`Full`](crate::ErrorKind::Full), a 503. The provider must list sessions.
    ///
    /// The store is counted once a second at most. So several processes together may exceed the quota by what they begin within a second. The memory provider's own
    /// `max_sessions` is exact.
    pub fn session_quota(mut self, sessions: u64) -> Self {
        self.config.session_quota = Some(sessions);
        self
    }

    /// Asks `admit` before an anonymous session begins: the place for a rate limit. Logins are not asked.
    ///
    /// If it returns false, the request gets an error of the kind [`Throttled`](crate::ErrorKind::Throttled), a 429. Each request keeps a copy of its headers
    /// for this call.
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

    /// Sets the most bytes of data in a session; 64 KiB by default, 16 MiB at most.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Sets the most keys in a session; 1,024 by default, 65,535 at most.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.config.limits.keys = keys;
        self
    }

    /// Sets the deepest nesting of a value; 32 by default, 128 at most.
    pub fn max_depth(mut self, levels: usize) -> Self {
        self.config.limits.depth = levels;
        self
    }

    /// Sets the longest time that a request waits for the provider, for loading and committing together; 2 s by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).deadline(Duration::from_millis(500)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.config.deadline = deadline;
        self
    }
}

/// # The store
impl ManagerBuilder {
    /// Separates this manager's sessions from another's in the same store; the cookie's name by default.
    ///
    /// It separates ids: another manager's id is no session here. It is part of hashed keys and, where ids are stored in clear, of the
    /// records. It does not separate users: [`Manager::sessions_of`](crate::Manager::sessions_of) and [`Manager::end_sessions`](crate::Manager::end_sessions) reach a user's sessions in the whole store.
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.config.namespace = Some(namespace.into());
        self
    }

    /// Sets the codec of new records; [`Codec::MESSAGE_PACK`] by default.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.codec = codec;
        self
    }

    /// Sets the form of new ids; [`HashFunc::Random`] by default.
    pub fn hash_func(mut self, func: HashFunc) -> Self {
        self.config.ids.func = func;
        self
    }

    /// Seals the data of every record before it reaches the provider. [`SealedProvider`](crate::providers::SealedProvider) says what that protects against.
    ///
    /// Sessions that are stored unsealed are lost, unless [`danger_accept_unsealed_until`](Self::danger_accept_unsealed_until) accepts them for a
    /// time.
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

    /// Sets the time between two rounds of [garbage collection](crate::Manager::spawn_gc); 60 s by default.
    pub fn gc_interval(mut self, interval: Duration) -> Self {
        self.config.gc_interval = interval;
        self
    }

    /// Moves sessions from `former`, a provider in another library's layout, when they are first used. Each gets a new id and cookie, and its old
    /// record is removed. Ids must be hashed, as they are by default.
    ///
    /// Parallel requests with the old id reach the moved session for a minute. Remove this setting when the last session in `former` must have
    /// ended.
    #[cfg(feature = "beego")]
    pub fn migrate_from(mut self, former: impl Provider) -> Self {
        self.former = Some(AnyProvider::new(former));
        self
    }

    /// Makes a persistent provider store the ids themselves, so that whoever reads the store can take over any session.
    ///
    /// Each record then carries a mark of its [namespace](Self::namespace), except in another library's layout.
    pub fn danger_store_ids_in_clear(mut self) -> Self {
        self.config.hash_ids = false;
        self
    }

    /// Finds sessions under their plain ids until this time: for an application that begins to hash ids while it has sessions.
    ///
    /// A session that is found is moved to its hashed key. Until then, whoever reads the store can take over a session that was not used since.
    ///
    /// Keep the form of the ids. Ids of 64 hex characters have the form of hashed keys, so they are not looked up.
    pub fn danger_accept_plain_ids_until(mut self, until: SystemTime) -> Self {
        self.config.plain_ids_until = Some(until.into());
        self
    }

    /// Accepts records that are not sealed until this time: for an application that begins to [`seal`](Self::seal) while it has sessions.
    ///
    /// Every write seals. Until then, whoever can write to the store can make sessions.
    pub fn danger_accept_unsealed_until(mut self, until: SystemTime) -> Self {
        self.config.unsealed_until = Some(until.into());
        self
    }
}

/// # Events, errors and tests
impl ManagerBuilder {
    /// Calls `listener` for what happens to sessions, and for what looks like an attack. A second call replaces the listener.
    ///
    /// The same goes to `tracing`, under the target `cloakroom::event`, with or without a listener.
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

    /// Sets the key of the [hashes](crate::event::IdHash) by which events name sessions, 16 bytes or more; random for each process by default.
    ///
    /// Processes with the same key give a session the same hash.
    pub fn event_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.config.event_key = EventKey::new(key.as_ref());
        self
    }

    /// Sets whether the middleware commits what a handler changed if it answers 5xx; off by default.
    pub fn commit_on_server_error(mut self, commit: bool) -> Self {
        self.config.commit_on_server_error = commit;
        self
    }

    /// Sets the source of time; the system's by default. Give the provider the same clock.
    ///
    /// ```
    /// use cloakroom::{Manager, ManualClock, MemoryProvider};
    ///
    /// let time = ManualClock::default();
    /// let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the operating system's random generator, for tests of its failure.
    #[cfg(feature = "testkit")]
    pub fn danger_random(mut self, random: fn(&mut [u8]) -> std::io::Result<()>) -> Self {
        self.random = random;
        self
    }
}
