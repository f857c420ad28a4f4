//! Sessions in a folder, which processes may share.

#[cfg(feature = "beego")]
mod beego;
mod error;
mod folder;
mod lanes;
mod lap;
mod listing;
mod locks;
mod root;
mod store;
mod tally;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

#[cfg(feature = "beego")]
use super::foreign::Foreign;
use super::{
    AnyProvider, Capabilities, Collected, Created, Cursor, Page, Provider, Renamed, Touched, Updated,
};
use crate::clock::Clock;
use crate::config::{Config, Format};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::record::Record;

use error::FileError;
use listing::{Listing, Stop};
use locks::Pauses;
use store::{Store, Tried};
use tally::PARTS;
use tree::Tree;
use walk::Step;

/// Sessions in a folder, one file each, which any number of processes on one machine may share.
///
/// The record of key `xsnk..` is the file `x/s/xsnk..` below the folder, mode 0600, in folders of mode 0700: the record in the native
/// format (`docs/format.md`) and its CRC-32. Beside them are `.locks`, `.principals` (which sessions a user has) and
/// `.corrupt` (files that could not be read, put aside for inspection and never deleted).
///
/// - **A file is replaced, never written to.** Whoever reads it, and whenever the process is killed, sees the old record or
///   the new one. [`Durability`] says what the loss of power may cost.
/// - **Changes take a lock** (`flock`) on the key, between processes too, so that no update is lost. Reads take none.
///   The system releases the locks of a process that dies. Waiting for one blocks no thread, and ends when the caller gives up.
/// - **A store takes at most 68 threads** of tokio's at the same time, so a disk that hangs leaves the application its own.
/// - **A count is exact** where it takes less than a second; else it may be up to a minute old. One walk counts for all who ask.
/// - **A read waits for a disk on another thread.** What the kernel has in memory (Linux 5.12 and later can tell, on file systems of this
///   machine) is read in place; everything else is done on tokio's threads for that.
/// - **Nobody else may plant a session:** the folder must belong to this process's user and be writable to no other, and
///   symbolic links below it are not followed. A folder that is writable to its group and holds sessions alone is closed to it.
///
/// The folder should be on a local disk: over NFS and SMB, `flock` and `rename` promise less. To end every session,
/// remove the folder; it is made anew, also while the program runs.
///
/// A clone is a handle on the same store.
///
/// ```
/// use cloakroom::{FileProvider, Provider};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions");
/// let provider = FileProvider::open(&path)?;
/// assert!(provider.capabilities().persistent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FileProvider(Arc<Store>);

impl FileProvider {
    /// Opens the folder at `path`, and makes it if it is missing.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](crate::ErrorKind::Config) if `path` is a symbolic link, is no folder, belongs to another user, is writable
    /// to everybody, or is writable to its group and holds more than sessions; or if a part of the way to it is a file or a link
    /// that leads nowhere. Of kind [`Unavailable`](crate::ErrorKind::Unavailable) if it cannot be made or read.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, FileProvider};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let provider = FileProvider::open(folder.path().join("sessions"))?;
    ///
    /// std::fs::write(folder.path().join("file"), "no folder")?;
    /// let error = FileProvider::open(folder.path().join("file")).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<FileProvider> {
        FileProvider::builder(path).open()
    }

    /// Begins a provider for the folder at `path` with other settings than the defaults.
    ///
    /// ```
    /// use cloakroom::{FileProvider, providers::Durability};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("sessions");
    /// let provider = FileProvider::builder(&path).durability(Durability::Durable).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> FileProviderBuilder {
        FileProviderBuilder {
            path: path.as_ref().to_owned(),
            durability: Durability::default(),
            clock: Clock::system(),
            beside_others: false,
        }
    }

    /// Does `step` under the lock of `key`. Whoever is dropped while it waits for the lock has done nothing; a step that has begun
    /// runs to its end.
    async fn under_lock<T, S>(&self, key: &StoreKey, mut step: S) -> Result<T>
    where
        T: Send + 'static,
        S: FnOnce(&Store, &Tree) -> Result<T> + Send + 'static,
    {
        let mut turn = self.0.locks.turn(locks::stripe(key)).await;
        let mut pauses = Pauses::default();
        loop {
            let store = Arc::clone(&self.0);
            match self.0.lanes.changes.run(move || store.under(turn, step)).await? {
                Tried::Done(answer) => return Ok(answer),
                Tried::Busy(again, not_begun) => (turn, step) = (again, not_begun),
            }
            pauses.next().await;
        }
    }

    /// The same under the locks of two keys.
    async fn under_locks<T, S>(&self, one: &StoreKey, other: &StoreKey, mut step: S) -> Result<T>
    where
        T: Send + 'static,
        S: FnOnce(&Store, &Tree) -> Result<T> + Send + 'static,
    {
        let (mut first, mut second) = (locks::stripe(one), locks::stripe(other));
        if first == second {
            return self.under_lock(one, step).await;
        }
        let mut pauses = Pauses::default();
        loop {
            let turns = self.0.locks.turns(first, second).await;
            let store = Arc::clone(&self.0);
            match self.0.lanes.changes.run(move || store.under_both(turns, step)).await? {
                Tried::Done(answer) => return Ok(answer),
                Tried::Busy(turn, not_begun) => {
                    // The next wait is for this one, and holds up nobody who wants the other.
                    if turn.stripe() == second {
                        (first, second) = (second, first);
                    }
                    step = not_begun;
                }
            }
            pauses.next().await;
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
            shared: true,
            max_record: Some(tree::MAX_RECORD),
            ..Capabilities::new("file")
        }
    }

    async fn create(&self, key: &StoreKey, record: &Record) -> Result<Created> {
        let (name, record) = (key.clone(), record.clone());
        self.under_lock(key, move |store, tree| store.create(tree, &name, &record)).await
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<Record>> {
        if let Some(found) = self.0.load_at_hand(key) {
            return Ok(found);
        }
        let (store, name) = (Arc::clone(&self.0), key.clone());
        match self.0.lanes.reads.run(move || store.load(&name)).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let name = key.clone();
                self.under_lock(key, move |store, tree| store.load_held(tree, &name)).await
            }
            answer => answer,
        }
    }

    async fn update(&self, key: &StoreKey, record: &Record, expected: u64) -> Result<Updated> {
        let (name, record) = (key.clone(), record.clone());
        self.under_lock(key, move |store, tree| store.update(tree, &name, &record, expected)).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        at: SystemTime,
        deadline: SystemTime,
        expected: u64,
    ) -> Result<Touched> {
        let name = key.clone();
        self.under_lock(key, move |store, tree| store.touch(tree, &name, at, deadline, expected)).await
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
        self.0.tally.ask(&self.0.lanes.walks, PARTS, move |after, until| store.count(after, until)).await
    }

    async fn delete_expired(&self, limit: usize) -> Result<Collected> {
        // Two collections at the same time would read everything twice.
        let mut lap = Arc::clone(&self.0.lap).lock_owned().await;
        let (mut step, mut pauses) = (Step::of(limit), Pauses::default());
        loop {
            let store = Arc::clone(&self.0);
            let walked = self.0.lanes.walks.run(move || {
                let answer = store.delete_expired(&mut lap, &mut step)?;
                Ok((lap, step, answer))
            });
            let answer;
            (lap, step, answer) = walked.await?;
            match answer {
                Ok(collected) => return Ok(collected),
                Err(stripe) if step.waits_for(stripe) => pauses.next().await,
                Err(_) => {}
            }
        }
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let store = Arc::clone(&self.0);
        self.0.lanes.walks.run(move || store.scan(cursor.as_ref(), limit)).await
    }

    async fn of_principal(
        &self,
        principal: &Principal,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let mut listing = Listing::new(principal, cursor, limit);
        let (mut turn, mut pauses) = (None, Pauses::default());
        loop {
            let (store, has_waited) = (Arc::clone(&self.0), turn.is_some());
            let read = self.0.lanes.changes.run(move || {
                let answer = store.of_principal(&mut listing, turn)?;
                Ok((listing, answer))
            });
            let answer;
            (listing, answer) = read.await?;
            turn = match answer {
                Ok(page) => return Ok(page),
                Err(Stop::Tired) => None,
                Err(Stop::Locked(stripe)) => {
                    if has_waited {
                        pauses.next().await;
                    }
                    Some(self.0.locks.turn(stripe).await)
                }
            };
        }
    }
}

/// The provider that a configuration text names "file"; `providerConfig` is its folder.
pub(crate) async fn from_config(config: Config) -> Result<AnyProvider> {
    let path = config.provider_config();
    if path.is_empty() {
        return Err(FileError::NoFolder.into());
    }
    let durability = config.durability().map_or(Ok(Durability::default()), str::parse)?;
    let mut builder = FileProvider::builder(path).durability(durability);
    builder.beside_others = config.migrate_from().is_some();
    match config.format() {
        #[cfg(feature = "beego")]
        Format::Beego => builder.open_beego(config.idle_timeout()),
        Format::Native => builder.open().map(AnyProvider::new),
        #[allow(unreachable_patterns, reason = "the other formats are a feature")]
        other => Err(FileError::Format { found: other }.into()),
    }
}

/// The settings of a [`FileProvider`]; begun by [`FileProvider::builder`].
///
/// ```
/// use cloakroom::{FileProvider, ManualClock};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions");
/// let time = ManualClock::default();
/// let provider = FileProvider::builder(&path).clock(time.clock()).open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct FileProviderBuilder {
    path: PathBuf,
    durability: Durability,
    clock: Clock,
    /// Files of another library's lie in the same folder, and are left alone.
    beside_others: bool,
}

impl FileProviderBuilder {
    /// What the loss of power may cost; [`Durability::Atomic`] if not set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The clock that deadlines are compared with, which must be the manager's; the system's if not set.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the folder, and makes it if it is missing; [`FileProvider::open`] lists the errors.
    pub fn open(self) -> Result<FileProvider> {
        let store = Store::open(&self.path, self.durability, self.clock, self.beside_others)?;
        Ok(FileProvider(Arc::new(store)))
    }

    /// Opens the folder of a Beego service's `file` provider: sessions in its layout, which it reads and changes at the same time.
    /// A session unused for `lifetime` has ended; that must be the manager's idle timeout.
    ///
    /// Beego's process must run as the same user, and the folder may be writable to nobody else. For a manager that is built by hand
    /// the settings are [`Codec::GOB`](crate::config::Codec::GOB), ids in clear, and no absolute timeout.
    ///
    /// ```
    /// use cloakroom::{FileProvider, Manager, config::Codec};
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tmp");
    /// let hour = Duration::from_secs(3600);
    /// let sessions = Manager::builder(FileProvider::builder(&path).open_beego(hour)?)
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
    /// Those of [`FileProvider::open`].
    #[cfg(feature = "beego")]
    pub fn open_beego(self, lifetime: std::time::Duration) -> Result<AnyProvider> {
        let files = beego::Files::open(&self.path, lifetime, self.durability, self.clock)?;
        Ok(AnyProvider::new(Foreign::beego(files)))
    }
}

/// What the loss of power may cost. A killed process costs nothing in either mode.
///
/// ```
/// use cloakroom::{ErrorKind, providers::Durability};
///
/// assert_eq!("durable".parse::<Durability>()?, Durability::Durable);
/// assert_eq!("sometimes".parse::<Durability>().unwrap_err().kind(), ErrorKind::Config);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Files are replaced whole and left to the system to write down, some 30 s later. The loss of power may undo
    /// the latest changes, a logout among them, and leave a record that is reported as corrupt.
    #[default]
    Atomic,
    /// What was answered is on the disk: file and folder are synced (`fsync`) by every step that creates, changes, renames or deletes.
    /// A `touch` syncs the file alone, so that a lost one costs no more than the touch. Some milliseconds a change.
    Durable,
}

impl FromStr for Durability {
    type Err = crate::error::Error;

    /// Takes `atomic` and `durable`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "atomic" => Ok(Durability::Atomic),
            "durable" => Ok(Durability::Durable),
            _ => Err(FileError::Durability { found: name.chars().take(40).collect() }.into()),
        }
    }
}
