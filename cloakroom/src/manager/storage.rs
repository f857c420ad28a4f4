//! The builder's settings of the store, of events, and for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ManagerBuilder;
use crate::clock::Clock;
use crate::codec::Codec;
use crate::event::{EventKey, EventListener};
use crate::id::HashFunc;
use crate::migration::MigrationSource;
use crate::seal::KeyRing;

/// # The store
impl ManagerBuilder {
    /// Separates this manager's sessions from another's in the same store; the cookie's name by default.
    ///
    /// It separates ids: another manager's id is no session here. It is part of hashed keys and, where ids are stored in clear, of the
    /// records. It does not separate users: [`Manager::sessions_of`](crate::Manager::sessions_of) and [`Manager::end_sessions`](crate::Manager::end_sessions) reach a user's sessions in the whole store.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Manager, MemoryProvider, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = MemoryProvider::new();
    /// let shop = Manager::builder(store.clone()).namespace("shop").build()?;
    /// let forum = Manager::builder(store).namespace("forum").build()?;
    /// let request = TestSession::new(&shop).principal("alice").headers().await;
    /// assert!(shop.start(&request).await?.principal().is_some());
    /// assert!(forum.start(&request).await?.principal().is_none());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.config.namespace = Some(namespace.into());
        self
    }

    /// Sets the codec of new records; [`Codec::MESSAGE_PACK`] by default.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Provider, config::Codec};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = MemoryProvider::new();
    /// let sessions = Manager::builder(store.clone()).codec(Codec::JSON).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let key = store.scan(None, 1).await?.entries[0].key.clone();
    /// assert_eq!(store.load(&key).await?.unwrap().data(), br#"{"n":1}"#);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    /// # use cloakroom::{KeyRing, Manager, MemoryProvider, Provider, seal::SealKey};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let (newest, former) = (SealKey::generate()?, SealKey::generate()?);
    /// let ring = KeyRing::new(newest).with_older(former);
    /// let store = MemoryProvider::new();
    /// let sessions = Manager::builder(store.clone()).seal(ring).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("card", "4711")?;
    /// session.save().await?;
    /// let key = store.scan(None, 1).await?.entries[0].key.clone();
    /// let stored = store.load(&key).await?.unwrap();
    /// assert!(!stored.data().windows(4).any(|bytes| bytes == b"4711"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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

    /// Moves sessions from `former` when they are first used. Each gets a new id and cookie, and its old record is deleted.
    ///
    /// `former` is a reader of another library's sessions ([`migration`](crate::migration)), or a provider in another library's
    /// layout. Ids must be hashed, as they are by default.
    ///
    /// ```no_run
    /// # #[cfg(all(feature = "redis", feature = "beego", unix))] {
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
    /// # }
    /// ```
    ///
    /// Requests with the old id reach the moved session until they have learned the new one. Remove this setting after the longest lifetime of a
    /// session in `former`: all of them have then moved or ended.
    pub fn migrate_from(mut self, former: impl Into<MigrationSource>) -> Self {
        self.former = Some(former.into());
        self
    }

    /// Makes a persistent provider store the ids themselves, so that anyone who reads the store can take over any session.
    ///
    /// Each record then carries a mark of its [namespace](Self::namespace), except in another library's layout.
    ///
    /// A provider in another library's layout needs it, since the other library looks for the ids: see [from
    /// Beego](crate::guide::from_beego).
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use cloakroom::{FileProvider, Manager};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let files = FileProvider::connect(folder.path().join("sessions"))?;
    /// let sessions = Manager::builder(files).danger_store_ids_in_clear().build()?;
    /// assert!(sessions.advice().iter().any(|advice| advice.setting() == "hashIds"), "it is named as a weakness");
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn danger_store_ids_in_clear(mut self) -> Self {
        self.config.hash_ids = false;
        self
    }

    /// Finds sessions under their plain ids until this time: for an application that begins to hash ids while it has sessions.
    ///
    /// A session that is found is moved to its hashed key. Until it has moved, anyone who reads the store can take it over.
    ///
    /// Keep the form of the ids. Ids of 64 hex characters have the form of hashed keys, so they are not looked up.
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::{FileProvider, Manager};
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let files = FileProvider::connect(folder.path().join("sessions"))?;
    /// let before = Manager::builder(files.clone()).danger_store_ids_in_clear().build()?;
    /// # let session = before.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// # let mut response = http::HeaderMap::new();
    /// # let _ = session.release(&mut response).await?;
    /// # let mut request = http::HeaderMap::new();
    /// # let cookie = response["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    /// # request.insert("cookie", cookie.parse().unwrap());
    ///
    /// let in_a_day = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    /// let after = Manager::builder(files).danger_accept_plain_ids_until(in_a_day).build()?;
    /// assert_eq!(after.start(&request).await?.get::<u32>("n")?, Some(1));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// # use cloakroom::{Manager, MemoryProvider, SessionId};
    /// let manager = || {
    ///     Manager::builder(MemoryProvider::new()).event_key("a key that all processes share").build()
    /// };
    /// let (one, other) = (manager()?, manager()?);    // in two processes
    /// let id: SessionId = "Yd9c-2xwV0_kQm5n7TzB1aLr8sEoHgUjXpWiFvKtCyM".parse()?;
    /// assert_eq!(one.id_hash(&id), other.id_hash(&id));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn event_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.config.event_key = EventKey::new(key.as_ref());
        self
    }

    /// Sets whether the middleware commits what a handler changed if it answers 5xx; off by default.
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use axum::{Router, extract::Request, http::StatusCode, routing::get};
    /// # use cloakroom::{Manager, MemoryProvider, Session, SessionLayer};
    /// # use tower::ServiceExt;
    /// async fn failing(session: Session) -> cloakroom::Result<StatusCode> {
    ///     session.set("attempts", 1)?;
    ///     Ok(StatusCode::BAD_GATEWAY)
    /// }
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).commit_on_server_error(true).build()?;
    /// let app: Router = Router::new().route("/", get(failing)).layer(SessionLayer::new(sessions.clone()));
    /// let _ = app.oneshot(Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
    /// assert_eq!(sessions.active_sessions().await?, 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
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
    ///
    /// ```
    /// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
    /// let failing = |_: &mut [u8]| Err(std::io::Error::other("no entropy"));
    /// let built = Manager::builder(MemoryProvider::new()).danger_random(failing).build();
    /// assert_eq!(built.unwrap_err().kind(), ErrorKind::Random);
    /// ```
    #[cfg(feature = "testkit")]
    pub fn danger_random(mut self, random: fn(&mut [u8]) -> std::io::Result<()>) -> Self {
        self.random = random;
        self
    }
}
