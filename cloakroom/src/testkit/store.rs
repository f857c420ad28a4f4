//! What a test is given to work on: a provider, and what has to live and move along with it.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::provider::{AnyProvider, Provider};

/// An empty store under test: its provider and what belongs to it.
///
/// A bare provider becomes one by itself, and so does a pair of a provider and a guard that must outlive it, such as a
/// temporary folder. The rest is for stores that need more:
///
/// ```
/// use cloakroom::MemoryProvider;
/// use cloakroom::testkit::Store;
///
/// let plain: Store = MemoryProvider::new().into();
/// let guarded: Store = (MemoryProvider::new(), "a temporary folder").into();
/// let remote = Store::new(MemoryProvider::new())
///     .on_advance(|step| async move { println!("the server's time moves by {step:?}") });
/// ```
pub struct Store {
    pub(super) provider: AnyProvider,
    pub(super) second: AnyProvider,
    pub(super) on_advance: Advance,
    pub(super) slack: Duration,
    // Last, so that a server or folder goes after the providers that use it.
    _guard: Box<dyn Any + Send>,
}

/// What moves the store's own time on.
pub(super) type Advance = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Store {
    /// An empty store that `provider` reaches.
    pub fn new(provider: impl Provider) -> Self {
        let provider = AnyProvider::new(provider);
        Store {
            second: provider.clone(),
            provider,
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
    /// then go through both. For providers whose [`shared`](crate::Capabilities::shared) is true.
    #[must_use]
    pub fn with_second(mut self, provider: impl Provider) -> Self {
        self.second = AnyProvider::new(provider);
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
