//! The builder's settings of the cookie, of lifetimes, and of limits.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::ManagerBuilder;
use crate::config::{OverLimit, Policy};
use crate::cookie::SameSite;
use crate::engine::Visit;

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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("id").cookie_path("/shop").build()?;
    /// assert_eq!(sessions.config().cookie().path(), "/shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_lifetime(Some(Duration::from_secs(7 * 24 * 60 * 60))).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn cookie_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.config.cookie.lifetime = lifetime.into();
        self
    }

    /// Sets whether browsers send the cookie over HTTPS only; on by default.
    ///
    /// The cookie is `Secure` whatever the request came by, since a proxy may have ended the encryption. Browsers make an exception for
    /// `http://localhost`. For development on other hosts, see [`plain_http_for_development`](Self::plain_http_for_development).
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_name("id").secure(false).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    /// let sessions = Manager::builder(MemoryProvider::new()).absolute_timeout(four_hours).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn absolute_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.absolute_timeout = timeout.into();
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).anonymous_timeout(Some(Duration::from_secs(600))).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn anonymous_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.anonymous_timeout = timeout.into();
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).rotate_every(Duration::from_secs(900)).rotation_grace(Duration::from_secs(10)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn rotation_grace(mut self, grace: Duration) -> Self {
        self.config.rotation_grace = grace;
        self
    }

    /// Ends every session of a user if one of the user's rotated ids is used after its grace; off by default.
    ///
    /// The id may have been stolen, and the library cannot tell the thief from the user. The default is off because a client that never received the
    /// new id does the same.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).rotate_every(Duration::from_secs(900)).end_user_on_reuse(true).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn end_user_on_reuse(mut self, end: bool) -> Self {
        self.config.end_user_on_reuse = end;
        self
    }

    /// Sets how long the longest request takes; 60 s by default.
    ///
    /// For this time the store remembers that an id was replaced, or that its session was ended. A request that was under way then stores nothing, and does not
    /// overwrite the cookie of a later login.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).longest_request(Duration::from_secs(300)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).session_quota(1_000_000).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).max_bytes(16 * 1024).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Sets the maximum number of keys of a session; 1,024 by default. One more is an error of kind
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).max_keys(20).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.config.limits.keys = keys;
        self
    }

    /// Sets the maximum depth of nested values; 32 by default, and at most 128, since values are walked on the stack.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).max_depth(8).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
