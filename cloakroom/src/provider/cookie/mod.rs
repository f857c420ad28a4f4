//! Sessions in the visitor's cookie: the token is the sealed record, and nothing is stored.

mod config;
mod revocations;

use std::fmt;
use std::time::{Duration, SystemTime};

use super::tokens::SealedTokens;
use super::{Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated};
use crate::clock::{Clock, Millis};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RandomSource, StoreKey, system_random};
use crate::principal::Principal;
use crate::record::{IndexEntry, Mark, Record};
use crate::seal::KeyRing;

#[cfg(feature = "config-string")]
pub(crate) use config::from_config;
use revocations::Revocations;

/// The largest difference between the clocks of two processes. A token from further in the future is refused.
const SKEW: Duration = Duration::from_secs(60);

/// Sessions in the visitor's own cookie, sealed: there is no store, and room for about 2.8 KB. A configuration string names it
/// `cookie`.
///
/// The cookie holds the whole record. A [`KeyRing`] seals it and binds it to the cookie's name and the manager's namespace. The
/// record says itself when it ends, whatever the browser keeps. The cookie is sent again when the session changes. To note a use it
/// is sent at most every minute, or every twentieth of the idle timeout if that is less. It is never compressed, since its length
/// would reveal its content. Browsers accept 4,096 bytes together with the name. A larger session is an error of kind
/// [`TooLarge`](ErrorKind::TooLarge), and nothing is sent.
///
/// # Limits
///
/// Nothing is stored, so nothing can be compared, counted or deleted. [`Capabilities`] say so.
///
/// - **The last response wins.** If two parallel requests change the session, each seals its own version, and the browser keeps the
///   one that arrives last. The other change is lost. [`Session::update`](crate::Session::update) is atomic within one request
///   only. A visitor can also go back to an older cookie. Keep counters that matter, and one-time tokens, in a store.
/// - **A logout asks the browser to forget the cookie,** and no more. A copy works until it expires, unless
///   [revocations](CookieProviderBuilder::revocations) are kept.
/// - **There are no lists.** `active_sessions`, `sessions_of` and what builds on them are errors of kind
///   [`Unsupported`](ErrorKind::Unsupported). So is [`Manager::session`](crate::Manager::session), which has an id and no cookie.
///
/// ```
/// use cloakroom::{CookieProvider, KeyRing, Manager, seal::SealKey};
///
/// # let secret = SealKey::generate()?;
/// let ring = KeyRing::new(secret);
/// let sessions = Manager::builder(CookieProvider::new(ring)).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct CookieProvider {
    tokens: SealedTokens,
    clock: Clock,
    revocations: Option<Revocations>,
}

/// Sets up a [`CookieProvider`]. [`CookieProvider::builder`] returns one. No setting can fail.
///
/// ```
/// use cloakroom::{CookieProvider, KeyRing, Manager, seal::SealKey};
/// use std::time::Duration;
///
/// # let secret = SealKey::generate()?;
/// let provider = CookieProvider::builder(KeyRing::new(secret))
///     .max_age(Duration::from_secs(15 * 60))
///     .label("shop")
///     .build();
/// let sessions = Manager::builder(provider).idle_timeout(Duration::from_secs(15 * 60)).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct CookieProviderBuilder {
    ring: KeyRing,
    clock: Clock,
    label: Box<str>,
    max_age: Option<Duration>,
    revocations: Option<Revocations>,
    random: RandomSource,
}

impl CookieProvider {
    /// Returns a provider with the default settings. `ring` seals its cookies.
    ///
    /// ```
    /// use cloakroom::{CookieProvider, KeyRing, Manager};
    ///
    /// // `openssl rand -base64 32` makes a key.
    /// # let key_from_the_vault = "q7Vt1ZrB3sXwKc5uYp9LdFhJnMbGeTaQ0R2i4o6U8yE=";
    /// let ring = KeyRing::from_texts([key_from_the_vault])?;
    /// let sessions = Manager::builder(CookieProvider::new(ring)).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new(ring: KeyRing) -> Self {
        CookieProvider::builder(ring).build()
    }

    /// Returns a builder, to change the settings. `ring` seals the cookies.
    ///
    /// ```
    /// use cloakroom::{CookieProvider, KeyRing, Manager, seal::SealKey};
    /// use std::time::Duration;
    ///
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let provider = CookieProvider::builder(ring).max_age(Duration::from_secs(900)).build();
    /// let sessions = Manager::builder(provider).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn builder(ring: KeyRing) -> CookieProviderBuilder {
        CookieProviderBuilder {
            ring,
            clock: Clock::system(),
            label: "".into(),
            max_age: None,
            revocations: None,
            random: system_random,
        }
    }

    /// Ends every session of `principal` that logged in up to now, on every device. A later login is not affected.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{CookieProvider, KeyRing, Manager, MemoryProvider, Principal, seal::SealKey, testkit::TestSession};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// # let idle = Duration::from_secs(1800);
    /// let cookies = CookieProvider::builder(ring).revocations(MemoryProvider::new(), idle).build();
    /// let sessions = Manager::builder(cookies.clone()).idle_timeout(idle).build()?;
    /// let request = TestSession::new(&sessions).principal("alice").headers().await;
    /// cookies.end_sessions_of(&Principal::new("alice")?).await?;
    /// assert!(sessions.start(&request).await?.principal().is_none());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without [revocations](CookieProviderBuilder::revocations), and the errors of the provider that
    /// keeps them.
    pub async fn end_sessions_of(&self, principal: &Principal) -> Result<()> {
        match &self.revocations {
            Some(revocations) => {
                revocations.end_all_of(self.tokens.namespace(), principal, self.clock.millis()).await
            }
            None => Err(unsupported("end a user's sessions without revocations")),
        }
    }

    /// Returns the record in `token`, if this provider sealed it and it has not expired by its own times.
    fn open(&self, token: &StoreKey) -> Option<Record> {
        let mut record = self.tokens.open(token)?;
        let (now, times) = (self.clock.millis(), record.times());
        // The deadline is put into the record, so that the manager renews the cookie in time.
        if let Some(aged) = self.tokens.max_age().map(|most| times.last_active.after(most))
            && aged < times.idle_deadline
        {
            record.set_use(times.last_active, aged);
        }
        let ahead = times.last_active > now.after(SKEW);
        (!record.expired_at(now) && !ahead).then_some(record)
    }

    /// Makes a mark that ends the session `id` outlive every copy of `record`.
    async fn reach(&self, id: &[u8], record: &Record) -> Result<()> {
        match &self.revocations {
            Some(revocations) => revocations.reach(&self.tokens, id, self.clock.millis(), record).await,
            None => Ok(()),
        }
    }

    /// Returns the time at which the session `id` was revoked. `record` names its user, all of whose sessions may have been revoked.
    async fn ended(&self, id: &[u8], record: Option<&Record>) -> Result<Option<Millis>> {
        match &self.revocations {
            Some(revocations) => revocations.ended(self.tokens.namespace(), id, record).await,
            None => Ok(None),
        }
    }

    /// Ends the session whose id is `key`; false if it had ended already.
    async fn end(&self, key: &StoreKey) -> Result<bool> {
        match &self.revocations {
            Some(revocations) => revocations.end(&self.tokens, key.as_bytes(), self.clock.millis()).await,
            None => Ok(true),
        }
    }
}

impl CookieProviderBuilder {
    /// Keeps the ends of sessions in `provider`, so that a copy of a cookie is worthless after the logout. It also makes
    /// [`end_sessions_of`](CookieProvider::end_sessions_of) work.
    ///
    /// The provider holds a small mark for each session that has ended, and one for each user whose sessions were all ended.
    ///
    /// `longest` is the longest idle timeout that the manager has, or had while its cookies live. The present one always counts.
    /// The mark of a session outlives every copy of its cookie by this time. A session with a longer [`Lifetime`](crate::Lifetime)
    /// of its own takes one more small record. The mark of a user stays.
    ///
    /// Every request with a session then asks `provider` twice, for the session and for its user, and fails if `provider` fails. It
    /// may be the store of other sessions too. The clocks of all processes must agree: a login counts as later than the end of all
    /// sessions by its time.
    ///
    /// ```
    /// # use cloakroom::{CookieProvider, KeyRing, Manager, MemoryProvider, seal::SealKey};
    /// # use std::time::Duration;
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// # let store = MemoryProvider::new();
    /// let idle_timeout = Duration::from_secs(1800);
    /// let provider = CookieProvider::builder(ring).revocations(store, idle_timeout).build();
    /// let sessions = Manager::builder(provider).idle_timeout(idle_timeout).build()?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn revocations(mut self, provider: impl Provider, longest: Duration) -> Self {
        self.revocations = Some(Revocations::new(provider, longest));
        self
    }

    /// Sets the longest time for which a cookie is accepted without renewal. At least one minute; default: the manager's timeouts.
    ///
    /// The manager's idle timeout is then at most this, so that a session in use is renewed in time.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{CookieProvider, KeyRing, Manager, ManualClock, Principal, seal::SealKey, testkit::TestSession};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let time = ManualClock::default();
    /// let provider = CookieProvider::builder(ring).clock(time.clock()).max_age(Duration::from_secs(600)).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// let request = TestSession::new(&sessions).principal("alice").headers().await;
    /// assert!(sessions.start(&request).await?.principal().is_some());
    /// time.advance(Duration::from_secs(601));
    /// assert!(sessions.start(&request).await?.principal().is_none(), "a copied cookie works for ten minutes");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age.max(Duration::from_secs(60)));
        self
    }

    /// Separates the cookies of this provider from those of another with the same cookie name, namespace and key. Default: none.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{CookieProvider, KeyRing, Manager, seal::SealKey, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let labelled = |label: &str| Manager::builder(CookieProvider::builder(ring.clone()).label(label).build()).build();
    /// let (shop, admin) = (labelled("shop")?, labelled("admin")?);
    /// let request = TestSession::new(&shop).principal("alice").headers().await;
    /// assert!(shop.start(&request).await?.principal().is_some());
    /// assert!(admin.start(&request).await?.principal().is_none(), "a cookie of the shop is nothing here");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the source of time. Give the manager the same clock. Default: the system's.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{CookieProvider, KeyRing, Manager, ManualClock, seal::SealKey, testkit::TestSession};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let time = ManualClock::default();
    /// let provider = CookieProvider::builder(ring).clock(time.clock()).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// let request = TestSession::new(&sessions).principal("alice").headers().await;
    /// time.advance(Duration::from_secs(31 * 60));
    /// assert!(sessions.start(&request).await?.principal().is_none(), "idle for over 30 minutes");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the operating system's random generator, for tests of its failure.
    ///
    /// ```
    /// # use cloakroom::{CookieProvider, ErrorKind, KeyRing, Manager, seal::SealKey};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let ring = KeyRing::new(SealKey::generate()?);
    /// let failing = |_: &mut [u8]| Err(std::io::Error::other("no entropy"));
    /// let provider = CookieProvider::builder(ring).danger_random(failing).build();
    /// let sessions = Manager::builder(provider).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// let error = session.release(&mut http::HeaderMap::new()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Random);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "testkit")]
    pub fn danger_random(mut self, random: fn(&mut [u8]) -> std::io::Result<()>) -> Self {
        self.random = random;
        self
    }

    /// Returns the provider. Use it for one manager, since its cookies are bound to that manager's cookie name and namespace.
    ///
    /// ```
    /// use cloakroom::{CookieProvider, ErrorKind, KeyRing, Manager, seal::SealKey};
    ///
    /// let provider = CookieProvider::builder(KeyRing::new(SealKey::generate()?)).build();
    /// let shop = Manager::builder(provider.clone()).build()?;
    /// let other = Manager::builder(provider).cookie_name("__Host-other").build();
    /// assert_eq!(other.unwrap_err().kind(), ErrorKind::Config, "the cookies are bound to the shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn build(self) -> CookieProvider {
        CookieProvider {
            tokens: SealedTokens::with(self.ring, &self.label, self.max_age, self.random),
            clock: self.clock,
            revocations: self.revocations,
        }
    }
}

impl fmt::Debug for CookieProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieProvider")
            .field("tokens", &self.tokens)
            .field("max_age", &self.tokens.max_age())
            .field("revocations", &self.revocations)
            .finish_non_exhaustive()
    }
}

/// `load` takes a token as its key. Every other method takes the session's id, which stays the same from cookie to cookie.
#[deny(clippy::missing_trait_methods)]
impl Provider for CookieProvider {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities =
            Capabilities::new("cookie").with_tokens(self.tokens.clone()).with_clock(self.clock.clone());
        capabilities.persistent = true;
        capabilities.shared = true;
        capabilities.native_expiry = self.revocations.is_none();
        capabilities.revocable = self.revocations.is_some();
        capabilities.tombstones = self.revocations.is_some();
        capabilities.lists = false;
        capabilities.max_record = Some(SealedTokens::MAX_RECORD);
        match &self.revocations {
            Some(_) => capabilities,
            None => capabilities.never_waits::<Self>(),
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.tokens.fits(key, record)?;
        self.reach(key.as_bytes(), record).await?;
        Ok(Created::Done)
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        let found = self.open(key).and_then(|record| Some((record.token_id()?, record)));
        let Some((id, record)) = found else { return Ok(None) };
        let Some(ended) = self.ended(id.expose().as_bytes(), Some(&record)).await? else {
            return Ok(Some(record));
        };
        // A store would keep a tombstone while requests may be under way that began before the end. So does this provider.
        let forgotten = ended.after(self.tokens.longest_request());
        Ok((self.clock.millis() < forgotten).then(|| record.tombstone(&Mark::Ended, ended, forgotten)))
    }

    async fn update(&self, key: &StoreKey, record: &Record, _base: &Record) -> Result<Updated> {
        self.tokens.fits(key, record)?;
        let gone = if record.is_tombstone() {
            !self.end(key).await?
        } else {
            self.reach(key.as_bytes(), record).await?;
            self.ended(key.as_bytes(), Some(record)).await?.is_some()
        };
        Ok(if gone { Updated::Gone } else { Updated::Done })
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        if let Some(revocations) = &self.revocations {
            revocations.reach_on(&self.tokens, key.as_bytes(), at).await?;
        }
        let ended = self.ended(key.as_bytes(), None).await?;
        Ok(if ended.is_some() { Touched::Gone } else { Touched::Done })
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        _expected: u64,
        _tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        self.tokens.fits(new, record)?;
        self.reach(new.as_bytes(), record).await?;
        Ok(if self.end(old).await? { Renamed::Done } else { Renamed::Gone })
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.end(key).await
    }

    async fn count(&self) -> Result<u64> {
        Err(unsupported("count sessions"))
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        match &self.revocations {
            Some(revocations) => revocations.delete_expired(limit).await,
            None => Ok(Collected::default()),
        }
    }

    async fn scan(&self, _cursor: Option<Cursor>, _limit: usize) -> Result<Page> {
        Err(unsupported("list sessions"))
    }

    async fn indexed(&self, _: &IndexEntry, _: Option<Cursor>, _: usize) -> Result<Page> {
        Err(unsupported("list sessions by their user or a label"))
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, Unsupported { what })
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the cookie provider stores nothing and cannot {what}; use a provider that does, or keep revocations"
)]
struct Unsupported {
    what: &'static str,
}
