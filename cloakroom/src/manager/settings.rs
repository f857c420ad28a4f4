//! The builder's settings of the cookie, of lifetimes, and of limits.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::ManagerBuilder;
use crate::config::{OverLimit, Policy};
use crate::cookie::SameSite;
use crate::visit::Visit;

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
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
    /// let builder = Manager::builder(MemoryProvider::new()).cookie_domain("example.com");
    /// let error = builder.build().unwrap_err();    // browsers would refuse a `__Host-` cookie with a domain
    /// assert_eq!(error.kind(), ErrorKind::Config);
    ///
    /// let builder = Manager::builder(MemoryProvider::new()).cookie_name("__Secure-id").cookie_domain("example.com");
    /// assert_eq!(builder.build()?.config().cookie().domain(), Some("example.com"));
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
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_lifetime(week).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// let mut response = http::HeaderMap::new();
    /// let _ = session.release(&mut response).await?;
    /// assert!(response["set-cookie"].to_str().unwrap().contains("Max-Age="));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// assert!(sessions.advice().iter().any(|advice| advice.setting() == "secure"), "it is named as a weakness");
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
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).same_site(SameSite::Strict).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// let mut response = http::HeaderMap::new();
    /// let _ = session.release(&mut response).await?;
    /// assert!(response["set-cookie"].to_str().unwrap().contains("SameSite=Strict"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.config.cookie.same_site = same_site;
        self
    }

    /// Lets every script on the page read the cookie. Scripts hardly ever need it.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).danger_disable_http_only().build()?;
    /// assert_eq!(sessions.advice()[0].setting(), "disableHTTPOnly");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let header = http::HeaderName::from_static("x-session-id");
    /// let sessions = Manager::builder(MemoryProvider::new()).id_header(header).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// let mut response = http::HeaderMap::new();
    /// let _ = session.release(&mut response).await?;
    ///
    /// let mut request = http::HeaderMap::new();
    /// request.insert("x-session-id", response["x-session-id"].clone());
    /// assert_eq!(sessions.start(&request).await?.get::<u32>("n")?, Some(1));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::{Duration, SystemTime};
    ///
    /// let four_hours = Duration::from_secs(4 * 60 * 60);
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .idle_timeout(Duration::from_secs(24 * 60 * 60))
    ///     .absolute_timeout(four_hours)
    ///     .build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// assert!(session.expires().unwrap() <= SystemTime::now() + four_hours);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::{Duration, SystemTime};
    ///
    /// let ten_minutes = Duration::from_secs(600);
    /// let sessions = Manager::builder(MemoryProvider::new()).anonymous_timeout(ten_minutes).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// assert!(session.expires().unwrap() <= SystemTime::now() + ten_minutes);
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.save().await?;
    /// assert!(session.expires().unwrap() > SystemTime::now() + ten_minutes, "a user's session lives 30 minutes");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn anonymous_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.anonymous_timeout = timeout.into();
        self
    }

    /// Replaces an id once it is this old, during any request; off by default. The old id still reaches the session for a
    /// [grace](Self::rotation_grace). Its use after that is reported.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Manager, ManualClock, MemoryProvider, testkit::TestSession};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let time = ManualClock::default();
    /// # let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// # let builder = Manager::builder(provider).clock(time.clock());
    /// let sessions = builder.rotate_every(Duration::from_secs(900)).build()?;
    /// let request = TestSession::new(&sessions).principal("alice").headers().await;
    /// time.advance(Duration::from_secs(1000));
    /// let mut response = http::HeaderMap::new();
    /// let _ = sessions.start(&request).await?.release(&mut response).await?;
    /// assert!(response.contains_key("set-cookie"), "the cookie has a new id");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn rotate_every(mut self, age: Duration) -> Self {
        self.config.rotate_every = Some(age);
        self
    }

    /// Sets how long an id that was rotated away still reaches its session, for the requests under way; 30 s by default.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Manager, ManualClock, MemoryProvider, testkit::TestSession};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let time = ManualClock::default();
    /// # let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// # let builder = Manager::builder(provider).clock(time.clock());
    /// let sessions = builder.rotate_every(Duration::from_secs(900)).rotation_grace(Duration::from_secs(10)).build()?;
    /// let former = TestSession::new(&sessions).principal("alice").headers().await;
    /// time.advance(Duration::from_secs(1000));
    /// let _ = sessions.start(&former).await?.release(&mut http::HeaderMap::new()).await?;    // a new id
    /// time.advance(Duration::from_secs(9));
    /// assert!(sessions.start(&former).await?.principal().is_some());
    /// time.advance(Duration::from_secs(2));
    /// assert!(sessions.start(&former).await?.principal().is_none(), "the grace is over");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
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
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::config::OverLimit;
    /// use std::num::NonZeroUsize;
    ///
    /// let two = NonZeroUsize::new(2).expect("two is not zero");
    /// let sessions = Manager::builder(MemoryProvider::new()).sessions_per_user(two, OverLimit::EndOldest).build()?;
    /// # let alice = Principal::new("alice")?;
    /// for _device in ["phone", "tablet", "laptop"] {
    ///     let session = sessions.start(&http::HeaderMap::new()).await?;
    ///     session.authenticate(alice.clone())?;
    ///     session.save().await?;
    /// }
    /// assert_eq!(sessions.sessions_of(&alice).await?.len(), 2, "the phone is logged out");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).session_quota(1).build()?;
    /// # let first = sessions.start(&http::HeaderMap::new()).await?;
    /// first.set("n", 1)?;
    /// first.save().await?;
    /// # let second = sessions.start(&http::HeaderMap::new()).await?;
    /// second.set("n", 2)?;
    /// assert_eq!(second.save().await.unwrap_err().kind(), ErrorKind::Full);
    /// second.authenticate(Principal::new("alice")?)?;
    /// second.save().await?;    // a login goes on
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).max_bytes(16 * 1024).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let error = session.set("upload", "x".repeat(20_000)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TooLarge);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.limits.bytes = bytes;
        self
    }

    /// Sets the maximum number of keys of a session; 1,024 by default. One more is an error of kind
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).max_keys(2).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("one", 1)?;
    /// session.set("two", 2)?;
    /// assert_eq!(session.set("three", 3).unwrap_err().kind(), ErrorKind::TooLarge);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.config.limits.keys = keys;
        self
    }

    /// Sets the maximum depth of nested values; 32 by default, and at most 128, since values are walked on the stack.
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).max_depth(2).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert_eq!(session.set("deep", [[[[1]]]]).unwrap_err().kind(), ErrorKind::TooLarge);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
