//! A type-erased provider, so that a manager is not generic.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use super::{Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated};
use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

/// A provider of any type. Managers hold one, so that a [`Manager`](crate::Manager) has no type parameter.
///
/// A clone is cheap, and a handle on the same store. Each call boxes its future, except for providers that [never
/// wait](crate::providers::Capabilities::never_waits).
///
/// ```
/// use cloakroom::{MemoryProvider, Provider, providers::AnyProvider};
///
/// let provider = AnyProvider::new(MemoryProvider::new());
/// assert_eq!(provider.capabilities().name, "memory");
/// ```
#[derive(Clone)]
pub struct AnyProvider {
    erased: Arc<dyn Erased>,
    at_once: bool,
}

impl AnyProvider {
    /// Returns `provider` without its type. An `AnyProvider` is returned as it is.
    ///
    /// ```
    /// use cloakroom::{MemoryProvider, Provider, providers::AnyProvider};
    ///
    /// // The store is chosen while the program runs.
    /// let from_config = "memory";
    /// let provider = match from_config {
    ///     "memory" => AnyProvider::new(MemoryProvider::new()),
    ///     other => panic!("there is no store called {other}"),
    /// };
    /// assert!(!provider.capabilities().persistent);
    /// ```
    pub fn new(provider: impl Provider) -> Self {
        // An `AnyProvider` is used as it is, or each call would be boxed twice.
        match (&provider as &dyn Any).downcast_ref::<AnyProvider>() {
            Some(any) => any.clone(),
            None => AnyProvider::erased(provider),
        }
    }

    fn erased<P: Provider>(provider: P) -> Self {
        let at_once = provider.capabilities().at_once == Some(TypeId::of::<P>());
        AnyProvider { erased: Arc::new(provider), at_once }
    }

    /// Returns true if this provider never waits. Only then do the methods below answer, without a boxed future.
    pub(crate) fn is_at_once(&self) -> bool {
        self.at_once
    }

    pub(crate) fn create_at_once(&self, key: &StoreKey, record: &Record) -> Option<Result<Created>> {
        self.at_once.then(|| self.erased.create_at_once(key, record))?
    }

    pub(crate) fn load_at_once(&self, key: &StoreKey) -> Option<Result<Option<Record>>> {
        self.at_once.then(|| self.erased.load_at_once(key))?
    }

    pub(crate) fn update_at_once(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Option<Result<Updated>> {
        self.at_once.then(|| self.erased.update_at_once(key, record, base))?
    }

    pub(crate) fn touch_at_once(&self, key: &StoreKey, at: SystemTime) -> Option<Result<Touched>> {
        self.at_once.then(|| self.erased.touch_at_once(key, at))?
    }

    pub(crate) fn rename_at_once(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Option<Result<Renamed>> {
        self.at_once.then(|| self.erased.rename_at_once(old, new, record, expected, tombstone))?
    }
}

impl fmt::Debug for AnyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyProvider({})", self.erased.capabilities().name)
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`Provider`] with boxed futures, which make it fit for `dyn`.
trait Erased: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn create<'a>(&'a self, key: &'a StoreKey, record: &'a Record) -> Boxed<'a, Created>;
    fn load<'a>(&'a self, key: &'a StoreKey) -> Boxed<'a, Option<Record>>;
    fn update<'a>(&'a self, key: &'a StoreKey, record: &'a Record, base: &'a Record) -> Boxed<'a, Updated>;
    fn touch<'a>(&'a self, key: &'a StoreKey, at: SystemTime) -> Boxed<'a, Touched>;
    fn rename<'a>(
        &'a self,
        old: &'a StoreKey,
        new: &'a StoreKey,
        record: &'a Record,
        expected: u64,
        tombstone: Option<&'a Record>,
    ) -> Boxed<'a, Renamed>;
    fn delete<'a>(&'a self, key: &'a StoreKey) -> Boxed<'a, bool>;
    fn count(&self) -> Boxed<'_, u64>;
    fn delete_expired(&self, limit: usize) -> Boxed<'_, Collected>;
    fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Boxed<'_, Page>;
    fn indexed<'a>(&'a self, entry: &'a IndexEntry, cursor: Option<Cursor>, limit: usize) -> Boxed<'a, Page>;
    fn create_at_once(&self, key: &StoreKey, record: &Record) -> Option<Result<Created>>;
    fn load_at_once(&self, key: &StoreKey) -> Option<Result<Option<Record>>>;
    fn update_at_once(&self, key: &StoreKey, record: &Record, base: &Record) -> Option<Result<Updated>>;
    fn touch_at_once(&self, key: &StoreKey, at: SystemTime) -> Option<Result<Touched>>;
    fn rename_at_once(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Option<Result<Renamed>>;
}

/// Returns what `future` gives at its first poll; `None` if it is pending.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

impl<P: Provider> Erased for P {
    fn capabilities(&self) -> Capabilities {
        Provider::capabilities(self)
    }

    fn create<'a>(&'a self, key: &'a StoreKey, record: &'a Record) -> Boxed<'a, Created> {
        Box::pin(Provider::create(self, key, record))
    }

    fn load<'a>(&'a self, key: &'a StoreKey) -> Boxed<'a, Option<Record>> {
        Box::pin(Provider::load(self, key))
    }

    fn update<'a>(&'a self, key: &'a StoreKey, record: &'a Record, base: &'a Record) -> Boxed<'a, Updated> {
        Box::pin(Provider::update(self, key, record, base))
    }

    fn touch<'a>(&'a self, key: &'a StoreKey, at: SystemTime) -> Boxed<'a, Touched> {
        Box::pin(Provider::touch(self, key, at))
    }

    fn rename<'a>(
        &'a self,
        old: &'a StoreKey,
        new: &'a StoreKey,
        record: &'a Record,
        expected: u64,
        tombstone: Option<&'a Record>,
    ) -> Boxed<'a, Renamed> {
        Box::pin(Provider::rename(self, old, new, record, expected, tombstone))
    }

    fn delete<'a>(&'a self, key: &'a StoreKey) -> Boxed<'a, bool> {
        Box::pin(Provider::delete(self, key))
    }

    fn count(&self) -> Boxed<'_, u64> {
        Box::pin(Provider::count(self))
    }

    fn delete_expired(&self, limit: usize) -> Boxed<'_, Collected> {
        Box::pin(Provider::delete_expired(self, limit))
    }

    fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Boxed<'_, Page> {
        Box::pin(Provider::scan(self, cursor, limit))
    }

    fn indexed<'a>(&'a self, entry: &'a IndexEntry, cursor: Option<Cursor>, limit: usize) -> Boxed<'a, Page> {
        Box::pin(Provider::indexed(self, entry, cursor, limit))
    }

    fn create_at_once(&self, key: &StoreKey, record: &Record) -> Option<Result<Created>> {
        at_once(Provider::create(self, key, record))
    }

    fn load_at_once(&self, key: &StoreKey) -> Option<Result<Option<Record>>> {
        at_once(Provider::load(self, key))
    }

    fn update_at_once(&self, key: &StoreKey, record: &Record, base: &Record) -> Option<Result<Updated>> {
        at_once(Provider::update(self, key, record, base))
    }

    fn touch_at_once(&self, key: &StoreKey, at: SystemTime) -> Option<Result<Touched>> {
        at_once(Provider::touch(self, key, at))
    }

    fn rename_at_once(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Option<Result<Renamed>> {
        at_once(Provider::rename(self, old, new, record, expected, tombstone))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for AnyProvider {
    fn capabilities(&self) -> Capabilities {
        self.erased.capabilities()
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        self.erased.create(key, record).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.erased.load(key).await
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        self.erased.update(key, record, base).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        self.erased.touch(key, at).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        self.erased.rename(old, new, record, expected, tombstone).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        self.erased.delete(key).await
    }

    async fn count(&self) -> Result<u64> {
        self.erased.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.erased.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.erased.scan(cursor, limit).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.erased.indexed(entry, cursor, limit).await
    }
}
