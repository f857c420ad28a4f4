//! The store that a test works on: a provider, and everything that lives and moves along with it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::id::StoreKey;
use crate::provider::{AnyProvider, Provider};

/// An empty store under test: its provider and what belongs to it.
///
/// A bare provider becomes one by itself. So does a pair of a provider and a guard that must outlive it, such as a
/// temporary folder. Stores that need more are built here:
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
    // Last, so that a server or folder goes after the providers that use it.
    _guard: Box<dyn Any + Send>,
}

/// The parts that a store gives besides its provider.
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
/// The suite fails if a store neither gives a part that its [`Capabilities`](crate::providers::Capabilities) ask for, nor says with
/// [`Store::without`] why it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// A second handle on the store: [`Store::with_second`]. Providers whose [`shared`](crate::providers::Capabilities::shared) is true need it.
    Second,
    /// Unreadable records: [`Store::with_planting`]. Providers whose [`persistent`](crate::providers::Capabilities::persistent) is true need it.
    Planting,
    /// A full store: [`Store::with_full`]. Providers whose [`persistent`](crate::providers::Capabilities::persistent) is true need it.
    Full,
    /// A store that can only be read: [`Store::with_read_only`]. Providers whose [`persistent`](crate::providers::Capabilities::persistent) is
    /// true need it.
    ReadOnly,
}

impl Part {
    /// The method that gives it.
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

/// What moves the store's own time on.
pub(super) type Advance = Arc<dyn Fn(Duration) -> Answer + Send + Sync>;
/// Puts bytes in the place of a stored record.
pub(super) type Plant = Arc<dyn Fn(StoreKey, Vec<u8>) -> Answer + Send + Sync>;
/// Makes the store refuse changes, and take them again.
pub(super) type Switch = Arc<dyn Fn(bool) -> Answer + Send + Sync>;

impl Store {
    /// An empty store that `provider` reaches.
    pub fn new(provider: impl Provider) -> Self {
        Store {
            provider: AnyProvider::new(provider),
            parts: Parts::default(),
            on_advance: Arc::new(|_| Box::pin(async {})),
            slack: Duration::from_millis(1),
            _guard: Box::new(()),
        }
    }

    /// Keeps `guard` until the test is over: a temporary folder, a server's process.
    #[must_use]
    pub fn keep(mut self, guard: impl Send + 'static) -> Self {
        self._guard = Box::new((self._guard, guard));
        self
    }

    /// A second way to the same store, as another process would open it: the tests of concurrency and of visibility
    /// then go through both. For providers whose [`shared`](crate::providers::Capabilities::shared) is true.
    #[must_use]
    pub fn with_second(mut self, provider: impl Provider) -> Self {
        self.parts.second = Some(AnyProvider::new(provider));
        self
    }

    /// Has the suite test unreadable records. `plant` overwrites the stored record under a key with the given bytes, past the
    /// provider, as a bad disk or a foreign program does. A record is under that key when it is called.
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

    /// Has the suite test a full store. `fill(true)` has the store refuse whatever would make it grow, as a full disk does;
    /// it still reads and deletes. `fill(false)` ends that.
    #[must_use]
    pub fn with_full<F, R>(mut self, fill: F) -> Self
    where
        F: Fn(bool) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.full = Some(Arc::new(move |on| Box::pin(fill(on))));
        self
    }

    /// Has the suite test a store that can only be read. `lock(true)` has the store refuse every change, deletes too, as a replica
    /// or a read-only file system does. `lock(false)` ends that.
    #[must_use]
    pub fn with_read_only<F, R>(mut self, lock: F) -> Self
    where
        F: Fn(bool) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.read_only = Some(Arc::new(move |on| Box::pin(lock(on))));
        self
    }

    /// Leaves `part` of the suite out, for the reason `why`, which the suite prints.
    ///
    /// # Panics
    ///
    /// If `why` is empty.
    #[must_use]
    pub fn without(mut self, part: Part, why: impl Into<String>) -> Self {
        let why = why.into();
        assert!(!why.trim().is_empty(), "expected the reason why {part:?} is left out, found an empty text");
        self.parts.left_out.push((part, why));
        self
    }

    /// For a store that tells the time by itself, such as a database server: moves it on by the given step. The clock
    /// that the factory was given moves in any case.
    #[must_use]
    pub fn on_advance<F, R>(mut self, advance: F) -> Self
    where
        F: Fn(Duration) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.on_advance = Arc::new(move |step| Box::pin(advance(step)));
        self
    }

    /// How far before its deadline a record may be taken for expired already: a store with its own time runs ahead of a clock
    /// that stands still. 1 ms, the resolution of a deadline, where nothing is said.
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
