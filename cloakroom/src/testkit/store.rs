//! The store under test: a provider with its time, its guard and its switches.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::id::StoreKey;
use crate::provider::{AnyProvider, Provider};

/// An empty store under test, with its provider.
///
/// A provider converts into one. So does a pair of a provider and a guard that must outlive it, such as a temporary
/// folder. The methods add the other parts:
///
/// ```
/// use cloakroom::MemoryProvider;
/// use cloakroom::testkit::{Part, Store};
///
/// let plain: Store = MemoryProvider::new().into();
/// let guarded: Store = (MemoryProvider::new(), "a temporary folder").into();
/// let remote = Store::new(MemoryProvider::new())
///     .on_advance(|step| async move { println!("the server's time moves by {step:?}") })
///     .without(Part::Full, "this server has no limit that a test can set");
/// ```
pub struct Store {
    pub(super) provider: AnyProvider,
    pub(super) parts: Parts,
    pub(super) on_advance: Advance,
    pub(super) slack: Duration,
    // The last field, so that a server or folder is dropped after the providers that use it.
    _guard: Box<dyn Any + Send>,
}

/// The parts of a store besides its provider.
#[derive(Clone, Default)]
pub(super) struct Parts {
    pub(super) second: Option<AnyProvider>,
    pub(super) plant: Option<Plant>,
    pub(super) full: Option<Switch>,
    pub(super) read_only: Option<Switch>,
    pub(super) left_out: Vec<(Part, String)>,
}

/// A part of the conformance suite that needs more of a [`Store`] than its provider.
///
/// [`Capabilities`](crate::providers::Capabilities) decide which parts a store has to give. The suite fails if one is missing,
/// unless [`Store::without`] gives the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// A second provider for the same store: [`Store::with_second`]. Needed if [`shared`](crate::providers::Capabilities::shared) is true.
    Second,
    /// Unreadable records: [`Store::with_planting`]. Needed if [`persistent`](crate::providers::Capabilities::persistent) is true.
    Planting,
    /// A full store: [`Store::with_full`]. Needed if [`persistent`](crate::providers::Capabilities::persistent) is true.
    Full,
    /// A read-only store: [`Store::with_read_only`]. Needed if [`persistent`](crate::providers::Capabilities::persistent) is true.
    ReadOnly,
}

impl Part {
    /// Returns the name of the method that adds the part.
    pub(super) fn method(self) -> &'static str {
        match self {
            Part::Second => "with_second",
            Part::Planting => "with_planting",
            Part::Full => "with_full",
            Part::ReadOnly => "with_read_only",
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A function that moves the store's own time forward.
pub(super) type Advance = Arc<dyn Fn(Duration) -> Answer + Send + Sync>;
/// A function that overwrites a stored record with bytes.
pub(super) type Plant = Arc<dyn Fn(StoreKey, Vec<u8>) -> Answer + Send + Sync>;
/// A function that makes the store refuse changes (true) or accept them again (false).
pub(super) type Switch = Arc<dyn Fn(bool) -> Answer + Send + Sync>;

impl Store {
    /// Returns a store with the provider of an empty one. A provider alone will do too, since it converts into a `Store`.
    ///
    /// ```
    /// use cloakroom::MemoryProvider;
    /// use cloakroom::testkit::{Part, Store};
    ///
    /// cloakroom::conformance!(own, |clock| async move {
    ///     let provider = MemoryProvider::builder().clock(clock).build();
    ///     Store::new(provider.clone())
    ///         .with_second(provider)
    ///         .without(Part::Planting, "memory holds no bytes that could be damaged")
    /// });
    /// # fn main() {}
    /// ```
    pub fn new(provider: impl Provider) -> Self {
        Store {
            provider: AnyProvider::new(provider),
            parts: Parts::default(),
            on_advance: Arc::new(|_| Box::pin(async {})),
            slack: Duration::from_millis(1),
            _guard: Box::new(()),
        }
    }

    /// Keeps `guard` until the test ends, such as a temporary folder or a server's process.
    ///
    /// ```no_run
    /// # use cloakroom::FileProvider;
    /// use cloakroom::testkit::Store;
    ///
    /// # #[cfg(unix)]
    /// cloakroom::conformance!(files, |clock| async move {
    ///     let folder = tempfile::tempdir().unwrap();
    ///     let provider = FileProvider::builder(folder.path().join("sessions")).clock(clock).connect().unwrap();
    ///     Store::new(provider).keep(folder)
    /// });
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn keep(mut self, guard: impl Send + 'static) -> Self {
        self._guard = Box::new((self._guard, guard));
        self
    }

    /// Adds a second provider for the same store, as another process opens it. Tests of concurrency and of visibility use both.
    ///
    /// Needed if [`shared`](crate::providers::Capabilities::shared) is true.
    ///
    /// ```no_run
    /// use cloakroom::FileProvider;
    /// use cloakroom::testkit::Store;
    ///
    /// # fn show(path: &std::path::Path) -> cloakroom::Result<Store> {
    /// let (first, second) = (FileProvider::connect(path)?, FileProvider::connect(path)?);
    /// Ok(Store::new(first).with_second(second))
    /// # }
    /// ```
    #[must_use]
    pub fn with_second(mut self, provider: impl Provider) -> Self {
        self.parts.second = Some(AnyProvider::new(provider));
        self
    }

    /// Adds tests of unreadable records. `plant` overwrites the record under a key with bytes. It bypasses the provider, as a bad
    /// disk or another program does. The store holds a record under that key when `plant` is called.
    ///
    /// ```no_run
    /// # use cloakroom::{FileProvider, providers::StoreKey};
    /// # use cloakroom::testkit::Store;
    /// # fn file_of(key: &StoreKey) -> std::path::PathBuf { std::path::PathBuf::from(key.as_str()) }
    /// # fn show(provider: FileProvider) {
    /// let store = Store::new(provider).with_planting(|key, bytes| async move {
    ///     std::fs::write(file_of(&key), bytes).expect("the file of a record");
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn with_planting<F, R>(mut self, plant: F) -> Self
    where
        F: Fn(StoreKey, Vec<u8>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.plant = Some(Arc::new(move |key, bytes| Box::pin(plant(key, bytes))));
        self
    }

    /// Adds tests of a full store. After `fill(true)` the store refuses every write that makes it grow, as a full disk does. It
    /// still reads and deletes. `fill(false)` ends that.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    /// use cloakroom::testkit::Store;
    ///
    /// # async fn redis(_: &str) {}
    /// # fn show(provider: RedisProvider) {
    /// let store = Store::new(provider).with_full(|full| async move {
    ///     redis(if full { "CONFIG SET maxmemory 1" } else { "CONFIG SET maxmemory 0" }).await;
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn with_full<F, R>(mut self, fill: F) -> Self
    where
        F: Fn(bool) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.full = Some(Arc::new(move |on| Box::pin(fill(on))));
        self
    }

    /// Adds tests of a read-only store. After `lock(true)` the store refuses every change, deletes too, as a replica or a read-only
    /// file system does. Each refusal is an error of kind [`Unavailable`](crate::ErrorKind::Unavailable). `lock(false)` ends that.
    ///
    /// ```no_run
    /// use cloakroom::RedisProvider;
    /// use cloakroom::testkit::Store;
    ///
    /// # async fn redis(_: &str) {}
    /// # fn show(provider: RedisProvider) {
    /// let store = Store::new(provider).with_read_only(|locked| async move {
    ///     redis(if locked { "REPLICAOF 127.0.0.1 1" } else { "REPLICAOF NO ONE" }).await;
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn with_read_only<F, R>(mut self, lock: F) -> Self
    where
        F: Fn(bool) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.read_only = Some(Arc::new(move |on| Box::pin(lock(on))));
        self
    }

    /// Leaves `part` of the suite out. The suite prints the reason `why`.
    ///
    /// ```no_run
    /// use cloakroom::MemoryProvider;
    /// use cloakroom::testkit::{Part, Store};
    ///
    /// # fn show(provider: MemoryProvider) {
    /// let store = Store::new(provider).without(Part::ReadOnly, "the service has no replicas");
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `why` is empty.
    #[must_use]
    pub fn without(mut self, part: Part, why: impl Into<String>) -> Self {
        let why = why.into();
        assert!(!why.trim().is_empty(), "expected the reason why {part:?} is left out, found an empty text");
        self.parts.left_out.push((part, why));
        self
    }

    /// Sets the function that moves the store's own time forward by a step, for a store with a clock of its own, such as a
    /// database server. The clock that the factory gets moves in any case.
    ///
    /// ```no_run
    /// use cloakroom::testkit::Store;
    /// use std::time::Duration;
    ///
    /// # async fn sql(_: String) {}
    /// # fn show(provider: impl cloakroom::Provider) {
    /// let store = Store::new(provider).on_advance(|step: Duration| async move {
    ///     sql(format!("UPDATE test_clock SET millis = millis + {}", step.as_millis())).await;
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn on_advance<F, R>(mut self, advance: F) -> Self
    where
        F: Fn(Duration) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_advance = Arc::new(move |step| Box::pin(advance(step)));
        self
    }

    /// Sets how long before its deadline the store may report a record as expired. The default and the minimum are 1 ms, the
    /// resolution of a deadline.
    ///
    /// A store with its own time needs more: its time moves on while the test's clock stands still. Two seconds are enough for a
    /// server on this machine.
    ///
    /// ```no_run
    /// use cloakroom::testkit::Store;
    /// use std::time::Duration;
    ///
    /// # fn show(provider: impl cloakroom::Provider) {
    /// let store = Store::new(provider).slack(Duration::from_secs(2));
    /// # }
    /// ```
    #[must_use]
    pub fn slack(mut self, slack: Duration) -> Self {
        self.slack = slack.max(Duration::from_millis(1));
        self
    }
}

impl<P: Provider> From<P> for Store {
    fn from(provider: P) -> Self {
        Store::new(provider)
    }
}

impl<P: Provider, G: Send + 'static> From<(P, G)> for Store {
    fn from((provider, guard): (P, G)) -> Self {
        Store::new(provider).keep(guard)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("provider", &self.provider)
            .field("slack", &self.slack)
            .finish_non_exhaustive()
    }
}
