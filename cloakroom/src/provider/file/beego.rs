//! Files as Beego's `file` provider keeps them: the value alone under the id, and when it was last used as the file's mtime.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use super::Durability;
use super::error::FileError;
use super::folder::{self, FILE_MODE, Flush};
use super::locks::same_file;
use super::root;
use super::tree::{self, Place};
use super::walk::walk;
use crate::clock::{Clock, Millis};
use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::foreign::{Found, Life, Values};
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};
use crate::record::Record;

/// Beego's, in both its lines.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Beego empties a file and then fills it. One that was emptied just now is looked at again.
const FILLING: Duration = Duration::from_secs(1);
const LOOKS: u32 = 5;

/// The values below one folder. A clone is a handle on the same.
#[derive(Clone)]
pub(super) struct Files(Arc<Tree>);

struct Tree {
    path: PathBuf,
    clock: Clock,
    /// How long a value lives unused.
    lifetime: Duration,
    sync: Flush,
    root: RwLock<Arc<(OwnedFd, Stat)>>,
    /// Behind which key garbage collection goes on.
    last: Mutex<String>,
}

impl Files {
    pub(super) fn open(
        path: &Path,
        lifetime: Duration,
        durability: Durability,
        clock: Clock,
    ) -> Result<Files, FileError> {
        let path: PathBuf = std::path::absolute(path)
            .map_err(|cause| FileError::Root { path: path.to_owned(), cause })?
            .components()
            .collect();
        let root = RwLock::new(Arc::new(root::open(&path)?));
        let sync = match durability {
            Durability::Atomic => Flush::Nothing,
            Durability::Durable => Flush::All,
        };
        Ok(Files(Arc::new(Tree { path, clock, lifetime, sync, root, last: Mutex::default() })))
    }

    /// Does `step` where it may block, to its end even if the caller goes away meanwhile.
    async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.0);
        super::run(move || step(&tree)).await
    }
}

/// A value's file, whose lock is held until this is dropped.
struct Held {
    file: OwnedFd,
    found: Found,
}

impl Tree {
    fn root(&self) -> Result<Arc<(OwnedFd, Stat)>, FileError> {
        let is_current =
            |root: &(OwnedFd, Stat)| fs::lstat(&self.path).is_ok_and(|stat| same_file(&stat, &root.1));
        let root = Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner));
        if is_current(&root) {
            return Ok(root);
        }
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        if !is_current(&root) {
            tracing::warn!(path = %self.path.display(), "the session folder is another one or gone; opening it anew");
            *root = Arc::new(root::open(&self.path).map_err(|cause| FileError::Lost(Box::new(cause)))?);
        }
        Ok(Arc::clone(&root))
    }

    fn life(&self, used: Millis) -> Life {
        Life { used, deadline: used.after(self.lifetime) }
    }

    fn lives(&self, found: &Found) -> bool {
        found.life.deadline > self.clock.millis()
    }

    /// What is under `key`, expired or not.
    fn look(&self, root: &OwnedFd, key: &StoreKey) -> Result<Option<Found>> {
        let Some((file, size)) = folder::open_file(root.as_fd(), &Place::of(key).path())? else {
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
        for look in 1.. {
            let found = self.look(&root.0, key)?.filter(|found| self.lives(found));
            let filling = found.as_ref().is_some_and(|found| {
                found.value.is_empty() && self.clock.millis().since(found.life.used) < FILLING
            });
            if !filling || look == LOOKS {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(u64::from(look)));
        }
        Ok(None)
    }

    /// The live value under `key` and its lock.
    fn hold(&self, root: &OwnedFd, key: &StoreKey) -> Result<Option<Held>> {
        Ok(self.hold_any(root, key)?.filter(|held| self.lives(&held.found)))
    }

    /// The same of a value that may have expired.
    fn hold_any(&self, root: &OwnedFd, key: &StoreKey) -> Result<Option<Held>> {
        let fail = || FileError::io::<Errno>("locking a session");
        let path = Place::of(key).path();
        loop {
            let Some((file, _)) = folder::open_file(root.as_fd(), &path)? else { return Ok(None) };
            retry_on_intr(|| fs::flock(&file, FlockOperation::LockExclusive)).map_err(fail())?;
            // Whoever held it before may have put another file in its place.
            let stat = fs::fstat(&file).map_err(fail())?;
            match fs::statat(root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(present) if same_file(&present, &stat) => {
                    let size = usize::try_from(stat.st_size).unwrap_or(0);
                    return Ok(Some(Held { found: self.found(&file, size)?, file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error).into()),
            }
        }
    }

    /// Puts `value` in the place of what is held under `key`.
    fn replace(&self, root: &OwnedFd, key: &StoreKey, value: &[u8], life: Life) -> Result<(), FileError> {
        let leaf = leaf(root, key, self.sync)?;
        folder::replace_after(&leaf, key.as_str(), value, self.sync, |file| set_used(file, life.used))
    }

    /// Makes the file of a key that is not there. Nobody knows the key yet, so nobody sees it half written.
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

    fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let root = self.root()?;
        for _ in 0..folder::RETRIES {
            if self.make(&root.0, key, value, life)? {
                return Ok(Created::Done);
            }
            match self.hold_any(&root.0, key)? {
                Some(held) if self.lives(&held.found) => return Ok(Created::Taken),
                Some(_expired) => {
                    self.replace(&root.0, key, value, life)?;
                    return Ok(Created::Done);
                }
                None => {}
            }
        }
        Ok(Created::Taken)
    }

    fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let root = self.root()?;
        let Some(held) = self.hold(&root.0, key)? else { return Ok(Updated::Gone) };
        if held.found.value != former {
            return Ok(Updated::Stale);
        }
        self.replace(&root.0, key, value, life)?;
        Ok(Updated::Done)
    }

    fn touch(&self, key: &StoreKey, life: Life) -> Result<Touched> {
        let root = self.root()?;
        let Some(held) = self.hold(&root.0, key)? else { return Ok(Touched::Gone) };
        set_used(&held.file, life.used).map_err(FileError::io("noting the use of a session"))?;
        Ok(Touched::Done)
    }

    fn rename(&self, keys: [&StoreKey; 2], former: &[u8], value: &[u8], life: Life) -> Result<Renamed> {
        let root = self.root()?;
        let [old, new] = keys;
        let Some(held) = self.hold(&root.0, old)? else { return Ok(Renamed::Gone) };
        if held.found.value != former {
            return Ok(Renamed::Stale);
        }
        if self.insert(new, value, life)? == Created::Taken {
            return Ok(Renamed::Taken);
        }
        if let Err(error) = self.unlink(&root.0, old) {
            // The caller keeps the old key, and nobody would ever end the session under the new one.
            let _ = self.unlink(&root.0, new);
            return Err(error.into());
        }
        Ok(Renamed::Done)
    }

    fn unlink(&self, root: &OwnedFd, key: &StoreKey) -> Result<(), FileError> {
        match folder::find_folder(root.as_fd(), Place::of(key).leaf())? {
            Some(leaf) => folder::remove(&leaf, key.as_str(), self.sync),
            None => Ok(()),
        }
    }

    fn remove(&self, key: &StoreKey) -> Result<bool> {
        let root = self.root()?;
        let Some(_held) = self.hold(&root.0, key)? else { return Ok(false) };
        self.unlink(&root.0, key)?;
        Ok(true)
    }

    fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let root = self.root()?;
        match self.hold_any(&root.0, key)? {
            Some(held) if held.found.value == value => {
                tree::put_aside(&root.0, key, self.clock.millis())?;
                tracing::warn!("a session of Beego's cannot be read; it was put aside");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Hands `visit` every value behind `after` that is no record of ours, in the order of the keys, expired ones too.
    #[expect(clippy::type_complexity, reason = "a visitor's parameters, said once")]
    fn each(
        &self,
        after: &str,
        visit: &mut dyn FnMut(&OwnedFd, StoreKey, Found) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let root = self.root()?;
        walk(&root.0, after, &mut |leaf| {
            for key in leaf.keys.iter().filter(|key| key.as_str() > after) {
                let found = match self.look(&root.0, key) {
                    // A link or a pipe in a file's place: no session of anybody.
                    Err(error) if error.kind() == ErrorKind::Corrupt => continue,
                    found => found?,
                };
                let Some(found) = found.filter(|found| !found.value.starts_with(Record::BEGINNING)) else {
                    continue;
                };
                if visit(&root.0, key.clone(), found)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn count(&self) -> Result<u64> {
        let mut count = 0;
        self.each("", &mut |_, _, found| {
            count += u64::from(self.lives(&found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    fn remove_expired(&self, limit: usize) -> Result<Collected> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let start = std::mem::take(&mut *last);
        let mut removed = 0;
        self.each(&start, &mut |root, key, found| {
            if self.lives(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if removed == limit {
                return Ok(ControlFlow::Break(()));
            }
            *last = key.as_str().to_owned();
            // Used again since it was looked at, it stays.
            if self.hold_any(root, &key)?.is_some_and(|held| !self.lives(&held.found)) {
                self.unlink(root, &key)?;
                removed += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let more = removed == limit;
        if !more {
            last.clear();
        }
        Ok(Collected { removed, more })
    }

    #[expect(clippy::type_complexity, reason = "what `Values::scan` answers")]
    fn scan(&self, after: &str, limit: usize) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        let (mut page, mut next) = (Vec::new(), None);
        self.each(after, &mut |_, key, found| {
            if !self.lives(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if page.len() == limit {
                let last = page.last().map_or(after, |(last, _): &(StoreKey, Found)| last.as_str());
                next = Some(Cursor::new(last));
                return Ok(ControlFlow::Break(()));
            }
            page.push((key, found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((page, next))
    }
}

/// The folder of a key, made if need be: with the mode that Beego gives it, unless the umask takes some of it away.
fn leaf(root: &OwnedFd, key: &StoreKey, sync: Flush) -> Result<OwnedFd, FileError> {
    Place::of(key).make_with(root, FOLDER_MODE, sync)
}

fn used(stat: &Stat) -> Millis {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000))
}

fn set_used(file: &OwnedFd, used: Millis) -> Result<(), Errno> {
    let time = Timespec { tv_sec: (used.0 / 1000) as i64, tv_nsec: (used.0 % 1000 * 1_000_000) as _ };
    fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

impl Values for Files {
    fn capabilities(&self) -> Capabilities {
        let shared = true;
        Capabilities { shared, max_record: Some(folder::MAX_FILE as usize), ..Capabilities::new("file") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<Found>> {
        let key = key.clone();
        self.run(move |tree| tree.read(&key)).await
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let (key, value) = (key.clone(), value.to_vec());
        self.run(move |tree| tree.insert(&key, &value, life)).await
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let (key, former, value) = (key.clone(), former.to_vec(), value.to_vec());
        self.run(move |tree| tree.swap(&key, &former, &value, life)).await
    }

    async fn touch(&self, key: &StoreKey, life: Life) -> Result<Touched> {
        let key = key.clone();
        self.run(move |tree| tree.touch(&key, life)).await
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed> {
        let (old, new, former, value) = (old.clone(), new.clone(), former.to_vec(), value.to_vec());
        self.run(move |tree| tree.rename([&old, &new], &former, &value, life)).await
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        let key = key.clone();
        self.run(move |tree| tree.remove(&key)).await
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let (key, value) = (key.clone(), value.to_vec());
        self.run(move |tree| tree.put_aside(&key, &value)).await
    }

    async fn count(&self) -> Result<u64> {
        self.run(Tree::count).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected> {
        self.run(move |tree| tree.remove_expired(limit)).await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        self.run(move |tree| tree.scan(cursor.as_ref().map_or("", Cursor::as_str), limit)).await
    }
}
