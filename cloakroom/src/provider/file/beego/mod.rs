//! The layout of Beego's `file` provider: a file named by the id holds the value, and its mtime is the time of the last use.
//!
//! `format.rs` has the files as Beego writes them, `keys.rs` the steps on one value, and `walks.rs` those over many.

mod format;
mod keys;
mod walks;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustix::fs::Stat;

use self::keys::ValueStep;
use super::count::{Counter, KEY_RANGES};
use super::error::FileError;
use super::folder::{self, Flush};
use super::locks::Backoff;
use super::root;
use super::threads::{ThreadLimit, ThreadLimits};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::durability::Durability;
use crate::provider::foreign::{FoundValue, Life, Values};
use crate::provider::private_folder::FolderError;
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};

/// The values below one folder. A clone is a handle on the same store.
#[derive(Clone)]
pub(super) struct BeegoFiles(Arc<BeegoFolder>);

struct BeegoFolder {
    path: PathBuf,
    clock: Clock,
    /// The time after its last use at which a value expires.
    lifetime: Duration,
    sync: Flush,
    root: RwLock<Arc<(OwnedFd, Stat)>>,
    threads: ThreadLimits,
    counter: Counter,
    locks: LocalLocks,
    /// The key after which garbage collection goes on.
    last: Arc<tokio::sync::Mutex<String>>,
}

/// The local locks of this process, one for each value that is being changed. Only the task that holds it tries the file's lock.
#[derive(Default)]
struct LocalLocks(Mutex<HashMap<StoreKey, Weak<tokio::sync::Mutex<()>>>>);

impl LocalLocks {
    fn of(&self, key: &StoreKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Drop the unused locks before the map would grow.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

impl BeegoFiles {
    pub(super) fn open(
        path: &Path,
        lifetime: Duration,
        durability: Durability,
        clock: Clock,
    ) -> Result<BeegoFiles, FileError> {
        let path: PathBuf = std::path::absolute(path)
            .map_err(|cause| FolderError::Unusable { path: path.to_owned(), cause })?
            .components()
            .collect();
        let root = RwLock::new(Arc::new(root::open(&path)?));
        let sync = match durability {
            Durability::Atomic => Flush::Nothing,
            Durability::Durable => Flush::All,
        };
        let (threads, counter, locks, last) =
            (ThreadLimits::new(), Counter::default(), LocalLocks::default(), Arc::default());
        Ok(BeegoFiles(Arc::new(BeegoFolder {
            path,
            clock,
            lifetime,
            sync,
            root,
            threads,
            counter,
            locks,
            last,
        })))
    }

    /// Runs `step` on a blocking thread. It runs to its end, even if the caller drops the future.
    async fn run<T: Send + 'static>(
        &self,
        limit: &ThreadLimit,
        step: impl FnOnce(&BeegoFolder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.0);
        limit.run(move || step(&tree)).await
    }

    /// Runs a step that changes the value of `key`, and retries it while the lock is taken. A future that is dropped while it waits has changed
    /// nothing.
    async fn change<T: Send + 'static>(
        &self,
        key: &StoreKey,
        step: impl Fn(&BeegoFolder) -> Result<ValueStep<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        let (lock, step) = (self.0.locks.of(key), Arc::new(step));
        let _lock = lock.lock().await;
        let mut backoff = Backoff::default();
        loop {
            let step = Arc::clone(&step);
            match self.run(&self.0.threads.changes, move |tree| step(tree)).await? {
                ValueStep::Done(answer) => return Ok(answer),
                ValueStep::Busy => backoff.pause().await,
            }
        }
    }
}

impl Values for BeegoFiles {
    fn capabilities(&self) -> Capabilities {
        let shared = true;
        Capabilities { shared, max_record: Some(folder::MAX_FILE as usize), ..Capabilities::new("file") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<FoundValue>> {
        let key = key.clone();
        self.run(&self.0.threads.reads, move |tree| tree.read(&key)).await
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let (name, value) = (key.clone(), value.to_vec());
        self.change(key, move |tree| tree.insert(&name, &value, life)).await
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let (name, former, value) = (key.clone(), former.to_vec(), value.to_vec());
        self.change(key, move |tree| tree.swap(&name, &former, &value, life)).await
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched> {
        let name = key.clone();
        self.change(key, move |tree| tree.touch(&name, used)).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed> {
        let (from, to, former, value) = (old.clone(), new.clone(), former.to_vec(), value.to_vec());
        self.change(old, move |tree| tree.rename([&from, &to], &former, &value, life)).await
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        let name = key.clone();
        self.change(key, move |tree| tree.remove(&name)).await
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let (name, value) = (key.clone(), value.to_vec());
        self.change(key, move |tree| tree.put_aside(&name, &value)).await
    }

    async fn count(&self) -> Result<u64> {
        let tree = Arc::clone(&self.0);
        self.0
            .counter
            .count(&self.0.threads.walks, KEY_RANGES, move |after, until| tree.count(after, until))
            .await
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected> {
        let mut last = Arc::clone(&self.0.last).lock_owned().await;
        self.run(&self.0.threads.walks, move |tree| tree.remove_expired(&mut last, limit)).await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)> {
        self.run(&self.0.threads.walks, move |tree| {
            tree.scan(cursor.as_ref().map_or("", Cursor::as_str), limit)
        })
        .await
    }
}
