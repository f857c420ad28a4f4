//! A store in memory that tells of every change before its caller hears of it, counts its loads, and can be made to pause and to go deaf.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use cloakroom::{
    Clock, MemoryProvider, Provider, Result,
    providers::{
        Capabilities, Collected, Created, Cursor, IndexEntry, Page, Record, Renamed, StoreKey, Touched,
        Updated, Watched, Watcher,
    },
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

#[derive(Clone)]
pub(crate) struct Told(Arc<Inner>);

struct Inner {
    store: MemoryProvider,
    watchers: Mutex<Vec<Weak<dyn Watcher>>>,
    loads: AtomicUsize,
    /// Loads and updates that are done wait for a permit here before they answer; there are some unless a test takes them away.
    answers: Semaphore,
    has_acted: Notify,
}

impl Inner {
    async fn answer(&self) {
        if self.answers.available_permits() == 0 {
            self.has_acted.notify_one();
        }
        let _answer = self.answers.acquire().await.expect("it is never closed");
    }
}

impl Told {
    pub(crate) fn new(clock: Clock) -> Told {
        let store = MemoryProvider::builder().clock(clock).build();
        Told(Arc::new(Inner {
            store,
            watchers: Mutex::default(),
            loads: AtomicUsize::new(0),
            answers: Semaphore::new(1000),
            has_acted: Notify::new(),
        }))
    }

    pub(crate) fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// From now on loads and updates act and do not answer.
    pub(crate) async fn hold_answers(&self) {
        self.0.answers.acquire_many(1000).await.expect("it is never closed").forget();
    }

    /// Waits until a call that is held has acted.
    pub(crate) async fn has_acted(&self) {
        self.0.has_acted.notified().await;
    }

    pub(crate) fn let_answer(&self) {
        self.0.answers.add_permits(1000);
    }

    pub(crate) fn deafen(&self) {
        self.each(|watcher| watcher.deaf());
    }

    pub(crate) fn listen(&self) {
        self.each(|watcher| watcher.listening());
    }

    fn each(&self, tell: impl Fn(&dyn Watcher)) {
        self.0.watchers.lock().iter().filter_map(Weak::upgrade).for_each(|watcher| tell(&*watcher));
    }

    fn changed(&self, key: &StoreKey) {
        self.each(|watcher| watcher.changed(key));
    }
}

impl Watched for Told {
    async fn watch(&self, watcher: Weak<dyn Watcher>) -> Result<()> {
        if let Some(watcher) = watcher.upgrade() {
            watcher.listening();
        }
        self.0.watchers.lock().push(watcher);
        Ok(())
    }
}

impl Provider for Told {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("told");
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
        self.0.answer().await;
        loaded
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let updated = self.0.store.update(key, record, base).await;
        self.changed(key);
        self.0.answer().await;
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

    async fn count(&self) -> Result<u64> {
        self.0.store.count().await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        self.0.store.delete_expired(limit).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.store.scan(cursor, limit).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.0.store.indexed(entry, cursor, limit).await
    }
}
