//! The layout of Beego's `file` provider: a file named by the id holds the value, and its mtime is the time of the last use.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use super::count::{CountStep, Counter, KEY_RANGES};
use super::error::FileError;
use super::folder::{self, FILE_MODE, Flush};
use super::locks::{Backoff, same_file};
use super::root;
use super::threads::{ThreadLimit, ThreadLimits};
use super::tree::{self, KeyPath};
use super::walk::{Leaf, RECORDS_PER_STEP, walk};
use crate::clock::{Clock, Millis};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::durability::Durability;
use crate::provider::foreign::{Found, Life, Values};
use crate::provider::private_folder::FolderError;
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};
use crate::record::Record;

/// The mode that Beego 1 and 2 give their folders.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Beego truncates a file and then writes it. A file found empty within this time of its last use is read again.
const WRITE_TIME: Duration = Duration::from_secs(1);
const READ_TRIES: u32 = 5;

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

/// The outcome of an attempt to run a step under the lock of a value.
enum ValueStep<T> {
    Done(T),
    /// Another process or task holds the lock. Nothing was changed.
    Busy,
}

/// The outcome of an attempt to lock a value.
enum ValueLock {
    Locked(LockedValue),
    Missing,
    Busy,
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

/// An open file of a value, locked until this is dropped.
struct LockedValue {
    file: OwnedFd,
    found: Found,
}

impl BeegoFolder {
    fn root(&self) -> Result<Arc<(OwnedFd, Stat)>, FileError> {
        let is_current =
            |root: &(OwnedFd, Stat)| fs::lstat(&self.path).is_ok_and(|stat| same_file(&stat, &root.1));
        let root = Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner));
        if is_current(&root) {
            return Ok(root);
        }
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        if !is_current(&root) {
            tracing::warn!(path = %self.path.display(), "the session folder was removed or replaced; opening it again");
            *root = Arc::new(root::open(&self.path).map_err(|cause| FileError::Lost(Box::new(cause)))?);
        }
        Ok(Arc::clone(&root))
    }

    fn life(&self, used: Millis) -> Life {
        Life { used, deadline: used.after(self.lifetime) }
    }

    fn is_live(&self, found: &Found) -> bool {
        found.life.deadline > self.clock.millis()
    }

    /// Reads the value in the file at `path` below `dir`, expired or not.
    fn read_file(&self, dir: &OwnedFd, path: &str) -> Result<Option<Found>> {
        let Some((file, size)) = folder::open_file(dir.as_fd(), path)? else {
            return Ok(None);
        };
        self.found(&file, size).map(Some)
    }

    fn found(&self, file: &OwnedFd, size: usize) -> Result<Found> {
        let value = folder::read_all(file, size)?;
        let stat = fs::fstat(file).map_err(FileError::io("reading a session"))?;
        Ok(Found { value, life: self.life(used(&stat)) })
    }

    fn read(&self, key: &StoreKey) -> Result<Option<Found>> {
        let root = self.root()?;
        for attempt in 1.. {
            let found =
                self.read_file(&root.0, &KeyPath::of(key).path())?.filter(|found| self.is_live(found));
            let being_written = found.as_ref().is_some_and(|found| {
                found.value.is_empty() && self.clock.millis().since(found.life.used) < WRITE_TIME
            });
            if !being_written || attempt == READ_TRIES {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt)));
        }
        Ok(None)
    }

    /// Locks and reads the value under `key` if it is live.
    fn lock_live(&self, root: &OwnedFd, key: &StoreKey) -> Result<ValueLock> {
        Ok(match self.lock_any(root, key)? {
            ValueLock::Locked(held) if !self.is_live(&held.found) => ValueLock::Missing,
            grip => grip,
        })
    }

    /// Locks and reads the value under `key`, expired or not.
    fn lock_any(&self, root: &OwnedFd, key: &StoreKey) -> Result<ValueLock> {
        let fail = || FileError::io::<Errno>("locking a session");
        let path = KeyPath::of(key).path();
        for _ in 0..folder::RETRIES {
            let Some((file, _)) = folder::open_file(root.as_fd(), &path)? else {
                return Ok(ValueLock::Missing);
            };
            match retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(ValueLock::Busy),
                Err(error) => return Err(fail()(error).into()),
            }
            // The previous holder of the lock may have replaced the file.
            let stat = fs::fstat(&file).map_err(fail())?;
            match fs::statat(root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(present) if same_file(&present, &stat) => {
                    let size = usize::try_from(stat.st_size).unwrap_or(0);
                    return Ok(ValueLock::Locked(LockedValue { found: self.found(&file, size)?, file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error).into()),
            }
        }
        Ok(ValueLock::Busy)
    }

    /// Replaces the value of `key`, which the caller has locked.
    fn replace(&self, root: &OwnedFd, key: &StoreKey, value: &[u8], life: Life) -> Result<(), FileError> {
        let leaf = leaf(root, key, self.sync)?;
        folder::replace_after(&leaf, key.as_str(), value, self.sync, |file| set_used(file, life.used))
    }

    /// Creates the file of a new key, and returns false if the file exists. The file is written in place: no client knows the key yet.
    fn make(&self, root: &OwnedFd, key: &StoreKey, value: &[u8], life: Life) -> Result<bool, FileError> {
        let fail = || FileError::io::<io::Error>("making a session");
        let leaf = leaf(root, key, self.sync)?;
        let file = match retry_on_intr(|| fs::openat(&leaf, key.as_str(), CREATE, FILE_MODE)) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Ok(false),
            Err(error) => return Err(fail()(error.into())),
        };
        let written = folder::write_all(&file, value).and_then(|()| set_used(&file, life.used));
        let written =
            written.and_then(|()| if self.sync == Flush::Nothing { Ok(()) } else { fs::fsync(&file) });
        if let Err(error) = written {
            let _ = fs::unlinkat(&leaf, key.as_str(), AtFlags::empty());
            return Err(fail()(error.into()));
        }
        folder::sync_folder(&leaf, self.sync)?;
        Ok(true)
    }

    fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<ValueStep<Created>> {
        let root = self.root()?;
        for _ in 0..folder::RETRIES {
            if self.make(&root.0, key, value, life)? {
                return Ok(ValueStep::Done(Created::Done));
            }
            match self.lock_any(&root.0, key)? {
                ValueLock::Locked(held) if self.is_live(&held.found) => {
                    return Ok(ValueStep::Done(Created::Taken));
                }
                ValueLock::Locked(_expired) => {
                    self.replace(&root.0, key, value, life)?;
                    return Ok(ValueStep::Done(Created::Done));
                }
                ValueLock::Missing => {}
                ValueLock::Busy => return Ok(ValueStep::Busy),
            }
        }
        Ok(ValueStep::Done(Created::Taken))
    }

    fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<ValueStep<Updated>> {
        let root = self.root()?;
        let _held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) if held.found.value == former => held,
            ValueLock::Locked(_) => return Ok(ValueStep::Done(Updated::Stale)),
            ValueLock::Missing => return Ok(ValueStep::Done(Updated::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        self.replace(&root.0, key, value, life)?;
        Ok(ValueStep::Done(Updated::Done))
    }

    fn touch(&self, key: &StoreKey, used: Millis) -> Result<ValueStep<Touched>> {
        let root = self.root()?;
        let held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) => held,
            ValueLock::Missing => return Ok(ValueStep::Done(Touched::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        set_used(&held.file, used.max(held.found.life.used))
            .map_err(FileError::io("noting the use of a session"))?;
        Ok(ValueStep::Done(Touched::Done))
    }

    fn rename(
        &self,
        keys: [&StoreKey; 2],
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<ValueStep<Renamed>> {
        let root = self.root()?;
        let [old, new] = keys;
        let _held = match self.lock_live(&root.0, old)? {
            ValueLock::Locked(held) if held.found.value == former => held,
            ValueLock::Locked(_) => return Ok(ValueStep::Done(Renamed::Stale)),
            ValueLock::Missing => return Ok(ValueStep::Done(Renamed::Gone)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        match self.insert(new, value, life)? {
            ValueStep::Done(Created::Done) => {}
            ValueStep::Done(Created::Taken) => return Ok(ValueStep::Done(Renamed::Taken)),
            ValueStep::Busy => return Ok(ValueStep::Busy),
        }
        if let Err(error) = self.unlink(&root.0, old) {
            // The caller keeps the old key. A session under the new key would have no owner to end it.
            let _ = self.unlink(&root.0, new);
            return Err(error.into());
        }
        Ok(ValueStep::Done(Renamed::Done))
    }

    fn unlink(&self, root: &OwnedFd, key: &StoreKey) -> Result<(), FileError> {
        match folder::find_folder(root.as_fd(), KeyPath::of(key).leaf())? {
            Some(leaf) => folder::remove(&leaf, key.as_str(), self.sync),
            None => Ok(()),
        }
    }

    fn remove(&self, key: &StoreKey) -> Result<ValueStep<bool>> {
        let root = self.root()?;
        let _held = match self.lock_live(&root.0, key)? {
            ValueLock::Locked(held) => held,
            ValueLock::Missing => return Ok(ValueStep::Done(false)),
            ValueLock::Busy => return Ok(ValueStep::Busy),
        };
        self.unlink(&root.0, key)?;
        Ok(ValueStep::Done(true))
    }

    fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<ValueStep<()>> {
        let root = self.root()?;
        match self.lock_any(&root.0, key)? {
            ValueLock::Locked(held) if held.found.value == value => {
                tree::put_aside(&root.0, key, self.clock.millis())?;
                tracing::warn!("a Beego session cannot be read; it was moved to .corrupt");
                Ok(ValueStep::Done(()))
            }
            ValueLock::Locked(_) | ValueLock::Missing => Ok(ValueStep::Done(())),
            ValueLock::Busy => Ok(ValueStep::Busy),
        }
    }

    /// Calls `visit` for each value after `after`, in the order of the keys, expired ones too. It skips records in the native format.
    /// A call is one bounded step. It returns the key after which the next step begins, or `None` at the end.
    #[expect(clippy::type_complexity, reason = "the parameters of a visitor, written once")]
    fn for_each(
        &self,
        after: &str,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, Found) -> Result<ControlFlow<()>>,
    ) -> Result<Option<String>> {
        let root = self.root()?;
        let (mut last, mut budget, mut next) = (after.to_owned(), RECORDS_PER_STEP, None);
        walk(&root.0, after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                let visited =
                    if budget == 0 { ControlFlow::Break(()) } else { self.visit(leaf, key, &root.0, visit)? };
                if visited.is_break() {
                    next = Some(last.clone());
                    return Ok(ControlFlow::Break(()));
                }
                budget -= 1;
                last = key.as_str().to_owned();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(next)
    }

    #[expect(clippy::type_complexity, reason = "the parameters of a visitor, written once")]
    fn visit(
        &self,
        leaf: &Leaf,
        key: &StoreKey,
        root: &OwnedFd,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, Found) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        match self.read_file(&leaf.folder, key.as_str()) {
            Ok(Some(found)) if !found.value.starts_with(Record::BEGINNING) => visit(root, key, found),
            Ok(_) => Ok(ControlFlow::Continue(())),
            // A link or a pipe in a file's place is no session.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(ControlFlow::Continue(())),
            Err(error) => Err(error),
        }
    }

    fn count(&self, after: &str, until: Option<&str>) -> Result<CountStep> {
        let (mut count, mut over) = (0, false);
        let next = self.for_each(after, &mut |_, key, found| {
            over = until.is_some_and(|until| key.as_str() >= until);
            if over {
                return Ok(ControlFlow::Break(()));
            }
            count += u64::from(self.is_live(&found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(CountStep { count, next: next.filter(|_| !over) })
    }

    fn remove_expired(&self, last: &mut String, limit: usize) -> Result<Collected> {
        let mut removed = 0;
        let next = self.for_each(&std::mem::take(last), &mut |root, key, found| {
            if self.is_live(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if removed == limit {
                return Ok(ControlFlow::Break(()));
            }
            // Advance before the lock, which may fail, so that the next step does not fail at the same value.
            *last = key.as_str().to_owned();
            // A use since the first read keeps the value.
            if let ValueLock::Locked(held) = self.lock_any(root, key)?
                && !self.is_live(&held.found)
            {
                self.unlink(root, key)?;
                removed += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let more = next.is_some();
        *last = next.unwrap_or_default();
        Ok(Collected { removed, more })
    }

    #[expect(clippy::type_complexity, reason = "the return type of `Values::scan`")]
    fn scan(&self, after: &str, limit: usize) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        let mut page = Vec::new();
        let next = self.for_each(after, &mut |_, key, found| {
            if !self.is_live(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if page.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            page.push((key.clone(), found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((page, next.map(Cursor::new)))
    }
}

/// Opens the folder of a key, and creates it with Beego's mode, less the umask, if it is missing.
fn leaf(root: &OwnedFd, key: &StoreKey, sync: Flush) -> Result<OwnedFd, FileError> {
    KeyPath::of(key).make_with(root, FOLDER_MODE, sync)
}

fn used(stat: &Stat) -> Millis {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000))
}

fn set_used(file: &OwnedFd, used: Millis) -> Result<(), Errno> {
    let time = Timespec { tv_sec: (used.0 / 1000) as i64, tv_nsec: (used.0 % 1000 * 1_000_000) as _ };
    fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

impl Values for BeegoFiles {
    fn capabilities(&self) -> Capabilities {
        let shared = true;
        Capabilities { shared, max_record: Some(folder::MAX_FILE as usize), ..Capabilities::new("file") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<Found>> {
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
    ) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        self.run(&self.0.threads.walks, move |tree| {
            tree.scan(cursor.as_ref().map_or("", Cursor::as_str), limit)
        })
        .await
    }
}
