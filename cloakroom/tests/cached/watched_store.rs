//! A store in memory that reports every change to its watchers before the call returns. It counts its loads. A test can hold its
//! replies back, and stop its invalidations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use cloakroom::{
    Clock, MemoryProvider, Provider, Result,
    providers::{Capabilities, Created, Record, Renamed, StoreKey, Touched, Updated, Watched, Watcher},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

#[derive(Clone)]
pub(crate) struct WatchedStore(Arc<Inner>);

struct Inner {
    store: MemoryProvider,
    watchers: Mutex<Vec<Weak<dyn Watcher>>>,
    loads: AtomicUsize,
    /// Loads and updates that are done wait for a permit here before they answer; there are some unless a test takes them away.
    replies: Semaphore,
    stored: Notify,
}

impl Inner {
    async fn reply(&self) {
        if self.replies.available_permits() == 0 {
            self.stored.notify_one();
        }
        let _permit = self.replies.acquire().await.expect("it is never closed");
    }
}

impl WatchedStore {
    pub(crate) fn new(clock: Clock) -> WatchedStore {
        let store = MemoryProvider::builder().clock(clock).build();
        WatchedStore(Arc::new(Inner {
            store,
            watchers: Mutex::default(),
            loads: AtomicUsize::new(0),
            replies: Semaphore::new(1000),
            stored: Notify::new(),
        }))
    }

    pub(crate) fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// Makes loads and updates act but not return, until [`release_replies`](Self::release_replies).
    pub(crate) async fn hold_replies(&self) {
        self.0.replies.acquire_many(1000).await.expect("it is never closed").forget();
    }

    /// Waits until a call that is held back has acted.
    pub(crate) async fn wait_until_stored(&self) {
        self.0.stored.notified().await;
    }

    pub(crate) fn release_replies(&self) {
        self.0.replies.add_permits(1000);
    }

    pub(crate) fn stop_invalidations(&self) {
        self.for_each_watcher(|watcher| watcher.deaf());
    }

    pub(crate) fn resume_invalidations(&self) {
        self.for_each_watcher(|watcher| watcher.listening());
    }

    fn for_each_watcher(&self, call: impl Fn(&dyn Watcher)) {
        self.0.watchers.lock().iter().filter_map(Weak::upgrade).for_each(|watcher| call(&*watcher));
    }

    fn changed(&self, key: &StoreKey) {
        self.for_each_watcher(|watcher| watcher.changed(key));
    }
}

impl Watched for WatchedStore {
    async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        if let Some(watcher) = watcher.upgrade() {
            watcher.listening();
        }
        self.0.watchers.lock().push(watcher);
        Ok(())
    }
}

impl Provider for WatchedStore {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("watched");
        capabilities.shared = true;
        capabilities
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let created = self.0.store.create(key, record).await;
        self.changed(key);
        created
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        let loaded = self.0.store.load(key).await;
        self.0.reply().await;
        loaded
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let updated = self.0.store.update(key, record, base).await;
        self.changed(key);
        self.0.reply().await;
        updated
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let touched = self.0.store.touch(key, at).await;
        self.changed(key);
        touched
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let renamed = self.0.store.rename(old, new, record, expected, tombstone).await;
        self.changed(old);
        self.changed(new);
        renamed
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let deleted = self.0.store.delete(key).await;
        self.changed(key);
        deleted
    }

    cloakroom::forward_provider!(self => self.0.store; count, delete_expired, scan, indexed);
}
