//! The file provider: sessions in a folder that several processes may share.
//!
//! | file | part |
//! |---|---|
//! | `root.rs` | opens the folder, and refuses one in which another user could plant sessions |
//! | `tree.rs`, `folder.rs` | the files below it: opened without following links, replaced atomically |
//! | `locks.rs` | locks on keys: a queue in the process, and an `flock` between processes; neither blocks a thread |
//! | `store.rs` | the methods of the contract, under these locks |
//! | `walk.rs`, `round.rs`, `count.rs`, `listing.rs` | walks over all keys: pages, garbage collection, counts, and the sessions of a user |
//! | `threads.rs` | limits on blocking threads |
//! | `beego/` | Beego's layout |
//!
//! A change takes the lock of its key, reads the record, compares the version, and renames a new file into place. A read takes no
//! lock.
//!
//! # The folder
//!
//! | path | holds |
//! |---|---|
//! | `x/s/xsnk..` | the record of the key `xsnk..`, then its CRC-32; two levels keep folders small |
//! | `.principals/DIGEST/KEY` | an empty file: the user whose name has this SHA-256 has a session under this key |
//! | `.labels/DIGEST/KEY` | the same for a label |
//! | `.locks/` | 64 lock files; the hash of a key selects one |
//! | `.corrupt/KEY.TIME` | a file that could not be read; never deleted here |
//! | `.tmp-..` | a file that is being written; collection removes one that is an hour old, since its process has died |
//!
//! # The order of the steps
//!
//! A process may be killed between any two system calls. So the steps of a change are in an order in which each prefix is harmless:
//!
//! - **Write:** the index entry, then the file, then the removal of former index entries. An entry without a session is found and
//!   removed by the next list. A session without an entry would be missed by "log out everywhere".
//! - **Replace:** a temporary file, then a `rename` over the old one. A reader has either file, whole.
//! - **Rename of a session:** the new record, then the tombstone or the removal of the old one. If that fails while the old session
//!   lives, the new record is removed.
//! - **Delete:** the file, then its index entries.
//!
//! # Locks and threads
//!
//! A stripe's lock is first a mutex of this process, awaited in order, and then an `flock` that is tried again after a pause. So a
//! process that was stopped while it held a lock delays the keys of its stripe, blocks no thread, and ends no other wait. A rename takes
//! two locks, and holds neither while it waits for the other: no order is needed.
//!
//! A change is one step on a blocking thread: it locks, reads, compares, writes and unlocks. If its caller drops the future before the
//! step begins, nothing happens; later, it runs to its end. Reads, changes and walks have limits of their own, so that requests do not
//! wait behind a count.
//!
//! Walks run in steps of at most 4,096 records. If a collection finds a lock taken for too long, it leaves the keys of that lock to a
//! later round.

#[cfg(feature = "beego")]
mod beego;
mod count;
mod error;
mod folder;
mod listing;
mod locks;
mod root;
mod round;
mod store;
mod threads;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::durability::Durability;
#[cfg(feature = "beego")]
use super::foreign::Foreign;
use super::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::record::{IndexEntry, Record};

use count::KEY_RANGES;
use error::FileError;
use listing::{Listing, ListingPause};
use locks::Backoff;
use store::{FileStore, LockedStep};
use tree::Tree;
use walk::CollectionStep;

/// A provider that keeps each session in a file of one folder.
///
/// Any number of processes on one machine may share the folder. The record of the key `xsnk..` is the file `x/s/xsnk..` below the
/// folder: the record in the native format (`docs/format.md`) and its CRC-32. Files have mode 0600, folders 0700. The folder
/// also holds `.locks`, `.principals` and `.labels` (the sessions of each user and label) and `.corrupt` (files that could not be read; the provider never deletes them).
///
/// - **A file is replaced, never written in place.** A reader sees the old record or the new one, also if the writer is killed.
///   [`Durability`] says what a power failure may undo.
/// - **A change locks its key** (`flock`), between processes too, so that no update is lost. A read takes no lock.
///   The kernel releases the locks of a process that dies. A wait for a lock blocks no thread and ends when the caller drops the future.
/// - **A provider uses at most 68 of tokio's blocking threads** at the same time. A disk that hangs leaves the others to the application.
/// - **A count is exact** if it takes less than a second. Otherwise it may be up to a minute old. Concurrent calls share one walk.
/// - **A read in a tokio runtime never waits for the disk on the caller's thread.** If the kernel has the file in memory, the read happens in
///   place (Linux 5.12 and later, local file systems). Every other read runs on a blocking thread.
/// - **Other users cannot plant a session.** The folder must belong to the user of this process and be writable to no other user. The provider
///   follows no symbolic link below it. It removes the group's right to write from a folder that holds nothing but sessions.
///
/// Use a local disk: over NFS and SMB, `flock` and `rename` promise less. To end every session, remove the folder. The provider makes
/// it again, also while the program runs.
///
/// A clone is a handle on the same store.
///
/// ```
/// use cloakroom::{FileProvider, Provider};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions");
/// let provider = FileProvider::connect(&path)?;
/// assert!(provider.capabilities().persistent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FileProvider(Arc<FileStore>);

impl FileProvider {
    /// Opens the folder at `path` and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// - [`Config`](crate::ErrorKind::Config) if `path` is a symbolic link, is not a folder, belongs to another user or is writable
    ///   to everybody. The same if it is writable to its group and holds more than sessions, or if a part of the path is a file or a
    ///   broken link.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if the folder cannot be created or read.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, FileProvider};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let provider = FileProvider::connect(folder.path().join("sessions"))?;
    ///
    /// std::fs::write(folder.path().join("file"), "no folder")?;
    /// let error = FileProvider::connect(folder.path().join("file")).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(path: impl AsRef<Path>) -> Result<FileProvider> {
        FileProvider::builder(path).connect()
    }

    /// Returns a builder for the folder at `path`, for settings other than the defaults.
    ///
    /// ```
    /// use cloakroom::{FileProvider, providers::Durability};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions");
    /// let provider = FileProvider::builder(&path).durability(Durability::Durable).connect()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> FileProviderBuilder {
        FileProviderBuilder {
            path: path.as_ref().to_owned(),
            durability: Durability::default(),
            clock: Clock::system(),
            shares_folder: false,
        }
    }

    /// Runs `step` under the lock of `key`. A future that is dropped while it waits for the lock has changed nothing. A step that has
    /// begun runs to its end.
    async fn under_lock<T, S>(&self, key: &StoreKey, mut step: S) -> Result<T>
    where
        T: Send + 'static,
        S: FnOnce(&FileStore, &Tree) -> Result<T> + Send + 'static,
    {
        let mut guard = self.0.locks.lock_local(locks::stripe(key)).await;
        let mut backoff = Backoff::default();
        loop {
            let store = Arc::clone(&self.0);
            match self.0.threads.changes.run(move || store.under(guard, step)).await? {
                LockedStep::Done(answer) => return Ok(answer),
                LockedStep::Busy(again, not_begun) => (guard, step) = (again, not_begun),
            }
            backoff.pause().await;
        }
    }

    /// Runs `step` under the locks of two keys.
    async fn under_locks<T, S>(&self, one: &StoreKey, other: &StoreKey, mut step: S) -> Result<T>
    where
        T: Send + 'static,
        S: FnOnce(&FileStore, &Tree) -> Result<T> + Send + 'static,
    {
        let (mut first, mut second) = (locks::stripe(one), locks::stripe(other));
        if first == second {
            return self.under_lock(one, step).await;
        }
        let mut backoff = Backoff::default();
        loop {
            let guards = self.0.locks.lock_both_local(first, second).await;
            let store = Arc::clone(&self.0);
            match self.0.threads.changes.run(move || store.under_both(guards, step)).await? {
                LockedStep::Done(answer) => return Ok(answer),
                LockedStep::Busy(guard, not_begun) => {
                    // Wait for the busy lock next. While waiting, this task holds neither.
                    if guard.stripe() == second {
                        (first, second) = (second, first);
                    }
                    step = not_begun;
                }
            }
            backoff.pause().await;
        }
    }
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileProvider").field(&self.0.path()).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Provider for FileProvider {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            persistent: true,
            durable: self.0.is_durable(),
            shared: true,
            max_record: Some(tree::MAX_RECORD),
            ..Capabilities::new("file").with_clock(self.0.clock.clone())
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let (name, record) = (key.clone(), record.clone());
        self.under_lock(key, move |store, tree| store.create(tree, &name, &record)).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        if let Some(found) = self.0.load_cached(key) {
            return Ok(found);
        }
        let (store, name) = (Arc::clone(&self.0), key.clone());
        match self.0.threads.reads.run(move || store.load(&name)).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let name = key.clone();
                self.under_lock(key, move |store, tree| store.load_held(tree, &name)).await
            }
            answer => answer,
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, base: &Record) -> Result<Updated> {
        let (name, record, base) = (key.clone(), record.clone(), base.clone());
        self.under_lock(key, move |store, tree| store.update(tree, &name, &record, &base)).await
    }

    async fn touch(&self, key: &StoreKey, at: SystemTime) -> Result<Touched> {
        let name = key.clone();
        self.under_lock(key, move |store, tree| store.touch(tree, &name, at)).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed> {
        let (from, to, record, tombstone) = (old.clone(), new.clone(), record.clone(), tombstone.cloned());
        self.under_locks(old, new, move |store, tree| {
            store.rename(tree, &from, &to, &record, expected, tombstone.as_ref())
        })
        .await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool> {
        let name = key.clone();
        self.under_lock(key, move |store, tree| store.delete(tree, &name)).await
    }

    async fn count(&self) -> Result<u64> {
        let store = Arc::clone(&self.0);
        self.0
            .counter
            .count(&self.0.threads.walks, KEY_RANGES, move |after, until| store.count(after, until))
            .await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        // Two concurrent collections would read every record twice.
        let mut round = Arc::clone(&self.0.round).lock_owned().await;
        let (mut step, mut backoff) = (CollectionStep::of(limit), Backoff::default());
        loop {
            let store = Arc::clone(&self.0);
            let walked = self.0.threads.walks.run(move || {
                let answer = store.delete_expired(&mut round, &mut step)?;
                Ok((round, step, answer))
            });
            let answer;
            (round, step, answer) = walked.await?;
            match answer {
                Ok(collected) => return Ok(collected),
                Err(stripe) if step.should_retry(stripe) => backoff.pause().await,
                Err(_) => {}
            }
        }
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let store = Arc::clone(&self.0);
        self.0.threads.walks.run(move || store.scan(cursor.as_ref(), limit)).await
    }

    async fn indexed(&self, entry: &IndexEntry, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut listing = Listing::new(entry, cursor, limit);
        let (mut guard, mut backoff) = (None, Backoff::default());
        loop {
            let (store, has_waited) = (Arc::clone(&self.0), guard.is_some());
            let read = self.0.threads.changes.run(move || {
                let answer = store.indexed(&mut listing, guard)?;
                Ok((listing, answer))
            });
            let answer;
            (listing, answer) = read.await?;
            guard = match answer {
                Ok(page) => return Ok(page),
                Err(ListingPause::BudgetSpent) => None,
                Err(ListingPause::Locked(stripe)) => {
                    if has_waited {
                        backoff.pause().await;
                    }
                    Some(self.0.locks.lock_local(stripe).await)
                }
            };
        }
    }
}

/// Opens the provider that a configuration string names "file"; `providerConfig` is its folder.
#[allow(dead_code, reason = "only the configuration string calls it, which is a feature")]
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    let path = config.provider_config();
    if path.is_empty() {
        return Err(FileError::NoFolder.into());
    }
    let durability = config.durability().map_or(Ok(Durability::default()), str::parse)?;
    let mut builder = FileProvider::builder(path).durability(durability);
    builder.shares_folder = config.migrate_from().is_some();
    match config.format() {
        #[cfg(feature = "beego")]
        Format::Beego => builder.connect_beego(config.idle_timeout()),
        Format::Native => builder.connect().map(AnyProvider::new),
        #[allow(unreachable_patterns, reason = "other formats depend on features")]
        other => Err(FileError::Format { found: other }.into()),
    }
}

/// The settings of a [`FileProvider`]; [`FileProvider::builder`] returns it.
///
/// ```
/// use cloakroom::{FileProvider, ManualClock};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions");
/// let time = ManualClock::default();
/// let provider = FileProvider::builder(&path).clock(time.clock()).connect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing before `open`"]
pub struct FileProviderBuilder {
    path: PathBuf,
    durability: Durability,
    clock: Clock,
    /// True if another library's files may be in the same folder. They are left alone.
    shares_folder: bool,
}

impl FileProviderBuilder {
    /// Sets what a power failure may undo; [`Durability::Atomic`] by default.
    ///
    /// [`Durability::Durable`] syncs the disk at each change, which takes some milliseconds. The chapter [files](crate::guide::files) compares
    /// the two.
    ///
    /// ```
    /// use cloakroom::{FileProvider, Provider, providers::Durability};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions");
    /// let provider = FileProvider::builder(&path).durability(Durability::Durable).connect()?;
    /// assert!(provider.capabilities().durable, "no power failure undoes a logout");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the clock that deadlines are compared with; the system's clock by default. It must be the manager's clock.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, FileProvider, Manager, ManualClock};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions");
    /// let time = ManualClock::default();
    /// let provider = FileProvider::builder(&path).clock(time.clock()).connect()?;
    /// let error = Manager::builder(provider.clone()).build().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config, "the manager's clock is another");
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the folder, and creates it if it is missing.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, FileProvider};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions");
    /// let provider = FileProvider::builder(&path).connect()?;
    /// assert!(path.is_dir(), "it was created");
    ///
    /// let file = folder.path().join("file");
    /// std::fs::write(&file, "no folder")?;
    /// assert_eq!(FileProvider::builder(&file).connect().unwrap_err().kind(), ErrorKind::Config);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`FileProvider::connect`].
    pub fn connect(self) -> Result<FileProvider> {
        let store = FileStore::open(&self.path, self.durability, self.clock, self.shares_folder)?;
        Ok(FileProvider(Arc::new(store)))
    }

    /// Opens the folder of a Beego application's `file` provider, in Beego's layout. The application may run at the same time.
    /// A session ends when it was unused for `lifetime`, which must be the manager's idle timeout.
    ///
    /// The application must run as the same user, and no other user may write to the folder. A manager built with the builder needs
    /// the codec [`Codec::GOB`](crate::config::Codec::GOB), ids in clear and no absolute timeout.
    ///
    /// ```
    /// use cloakroom::{FileProvider, Manager, config::Codec};
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tmp");
    /// let hour = Duration::from_secs(3600);
    /// let sessions = Manager::builder(FileProvider::builder(&path).connect_beego(hour)?)
    ///     .cookie_name("gosessionid")
    ///     .codec(Codec::GOB)
    ///     .idle_timeout(hour)
    ///     .absolute_timeout(None)
    ///     .danger_store_ids_in_clear()
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`FileProvider::connect`].
    #[cfg(feature = "beego")]
    pub fn connect_beego(self, lifetime: std::time::Duration) -> Result<AnyProvider> {
        let files = beego::BeegoFiles::open(&self.path, lifetime, self.durability, self.clock)?;
        Ok(AnyProvider::new(Foreign::beego(files)))
    }
}
