//! The builder's settings of the store, of events, and for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ManagerBuilder;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::event::{EventKey, EventListener};
use crate::id::HashFunc;
#[cfg(feature = "beego")]
use crate::provider::{AnyProvider, Provider};
use crate::seal::KeyRing;

/// # The store
impl ManagerBuilder {
    /// Separates this manager's sessions from another's in the same store; the cookie's name by default.
    ///
    /// It separates ids: another manager's id is no session here. It is part of hashed keys and, where ids are stored in clear, of the
    /// records. It does not separate users: [`Manager::sessions_of`](crate::Manager::sessions_of) and [`Manager::end_sessions`](crate::Manager::end_sessions) reach a user's sessions in the whole store.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).namespace("shop").build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.config.namespace = Some(namespace.into());
        self
    }

    /// Sets the codec of new records; [`Codec::MESSAGE_PACK`] by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, config::Codec};
    /// let sessions = Manager::builder(MemoryProvider::new()).codec(Codec::JSON).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn codec(mut self, codec: Codec) -> Self {
        self.config.codec = codec;
        self
    }

    /// Sets the form of new ids; [`HashFunc::Random`] by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, config::HashFunc};
    /// let sessions = Manager::builder(MemoryProvider::new()).hash_func(HashFunc::Sha256).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// let sessions = Manager::builder(MemoryProvider::new()).gc_interval(Duration::from_secs(300)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn gc_interval(mut self, interval: Duration) -> Self {
        self.config.gc_interval = interval;
        self
    }

    /// Moves sessions from `former`, a provider in another library's layout, when they are first used. Each gets a new id and
    /// cookie, and its old record is removed. Ids must be hashed, as they are by default.
    ///
    /// ```no_run
    /// # use cloakroom::Manager;
    /// use cloakroom::RedisProvider;
    /// use std::time::Duration;
    ///
    /// # async fn show() -> cloakroom::Result<()> {
    /// let idle = Duration::from_secs(3600);
    /// let former = RedisProvider::builder("redis://127.0.0.1/").connect_beego(idle).await?;
    /// let sessions = Manager::builder(RedisProvider::connect("redis://127.0.0.1/").await?)
    ///     .cookie_name("gosessionid")
    ///     .migrate_from(former)
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// Parallel requests with the old id reach the moved session for a minute. Remove this setting after the longest lifetime of a
    /// session in `former`: all of them have then moved or ended.
    #[cfg(feature = "beego")]
    pub fn migrate_from(mut self, former: impl Provider) -> Self {
        self.former = Some(AnyProvider::new(former));
        self
    }

    /// Makes a persistent provider store the ids themselves, so that anyone who reads the store can take over any session.
    ///
    /// Each record then carries a mark of its [namespace](Self::namespace), except in another library's layout.
    pub fn danger_store_ids_in_clear(mut self) -> Self {
        self.config.hash_ids = false;
        self
    }

    /// Finds sessions under their plain ids until this time: for an application that begins to hash ids while it has sessions.
    ///
    /// A session that is found is moved to its hashed key. Until it has moved, anyone who reads the store can take it over.
    ///
    /// Keep the form of the ids. Ids of 64 hex characters have the form of hashed keys, so they are not looked up.
    pub fn danger_accept_plain_ids_until(mut self, until: SystemTime) -> Self {
        self.config.plain_ids_until = Some(until.into());
        self
    }

    /// Accepts records that are not sealed until this time: for an application that begins to [`seal`](Self::seal) while it has
    /// sessions.
    ///
    /// Every write seals. Until then, anyone who can write to the store can make sessions.
    ///
    /// ```
    /// # use cloakroom::{KeyRing, Manager, MemoryProvider, seal::SealKey};
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let in_a_day = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    /// let sessions = Manager::builder(MemoryProvider::new()).seal(ring).danger_accept_unsealed_until(in_a_day).build()?;
    /// assert!(!sessions.advice().is_empty(), "the weaker time is named");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).event_key("a key that all processes share").build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn event_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.config.event_key = EventKey::new(key.as_ref());
        self
    }

    /// Sets whether the middleware commits what a handler changed if it answers 5xx; off by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).commit_on_server_error(true).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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
