//! Files as Beego's `file` provider keeps them: the value alone under the id, and when it was last used as the file's mtime.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use super::Durability;
use super::error::FileError;
use super::folder::{self, FILE_MODE, Flush};
use super::lanes::{Lane, Lanes};
use super::locks::{Pauses, same_file};
use super::root;
use super::tally::{PARTS, Stretch, Tally};
use super::tree::{self, Place};
use super::walk::{Leaf, STEP, walk};
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
    lanes: Lanes,
    tally: Tally,
    turns: Turns,
    /// Behind which key garbage collection goes on.
    last: Arc<tokio::sync::Mutex<String>>,
}

/// The tasks of this process that want to change the same value, in a queue: one of them at a time tries the file's lock.
#[derive(Default)]
struct Turns(Mutex<HashMap<StoreKey, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, key: &StoreKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        // Before the map would grow, those that nobody holds go.
        if turns.len() == turns.capacity() {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        turns.insert(key.clone(), Arc::downgrade(&turn));
        turn
    }
}

/// The outcome of a step that needs the lock of a value.
enum Tried<T> {
    Done(T),
    /// Another process or task holds a lock; nothing was changed.
    Busy,
}

/// The content of a key.
enum Grip {
    Held(Held),
    Nothing,
    Busy,
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
        let (lanes, tally, turns, last) = (Lanes::new(), Tally::default(), Turns::default(), Arc::default());
        Ok(Files(Arc::new(Tree { path, clock, lifetime, sync, root, lanes, tally, turns, last })))
    }

    /// Does `step` where it may block, to its end even if the caller goes away meanwhile.
    async fn run<T: Send + 'static>(
        &self,
        lane: &Lane,
        step: impl FnOnce(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.0);
        lane.run(move || step(&tree)).await
    }

    /// The same with a step that changes the value of `key`, again and again until the lock is free. Whoever is dropped while it waits
    /// has done nothing.
    async fn change<T: Send + 'static>(
        &self,
        key: &StoreKey,
        step: impl Fn(&Tree) -> Result<Tried<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        let (turn, step) = (self.0.turns.of(key), Arc::new(step));
        let _turn = turn.lock().await;
        let mut pauses = Pauses::default();
        loop {
            let step = Arc::clone(&step);
            match self.run(&self.0.lanes.changes, move |tree| step(tree)).await? {
                Tried::Done(answer) => return Ok(answer),
                Tried::Busy => pauses.next().await,
            }
        }
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

    /// The value in the file at `path` below `dir`, expired or not.
    fn look(&self, dir: &OwnedFd, path: &str) -> Result<Option<Found>> {
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
        for look in 1.. {
            let found = self.look(&root.0, &Place::of(key).path())?.filter(|found| self.lives(found));
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

    /// The live value under `key` and its lock, if that is free.
    fn hold(&self, root: &OwnedFd, key: &StoreKey) -> Result<Grip> {
        Ok(match self.hold_any(root, key)? {
            Grip::Held(held) if !self.lives(&held.found) => Grip::Nothing,
            grip => grip,
        })
    }

    /// The same of a value that may have expired.
    fn hold_any(&self, root: &OwnedFd, key: &StoreKey) -> Result<Grip> {
        let fail = || FileError::io::<Errno>("locking a session");
        let path = Place::of(key).path();
        for _ in 0..folder::RETRIES {
            let Some((file, _)) = folder::open_file(root.as_fd(), &path)? else { return Ok(Grip::Nothing) };
            match retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Grip::Busy),
                Err(error) => return Err(fail()(error).into()),
            }
            // Whoever held it before may have put another file in its place.
            let stat = fs::fstat(&file).map_err(fail())?;
            match fs::statat(root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(present) if same_file(&present, &stat) => {
                    let size = usize::try_from(stat.st_size).unwrap_or(0);
                    return Ok(Grip::Held(Held { found: self.found(&file, size)?, file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error).into()),
            }
        }
        Ok(Grip::Busy)
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

    fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Tried<Created>> {
        let root = self.root()?;
        for _ in 0..folder::RETRIES {
            if self.make(&root.0, key, value, life)? {
                return Ok(Tried::Done(Created::Done));
            }
            match self.hold_any(&root.0, key)? {
                Grip::Held(held) if self.lives(&held.found) => return Ok(Tried::Done(Created::Taken)),
                Grip::Held(_expired) => {
                    self.replace(&root.0, key, value, life)?;
                    return Ok(Tried::Done(Created::Done));
                }
                Grip::Nothing => {}
                Grip::Busy => return Ok(Tried::Busy),
            }
        }
        Ok(Tried::Done(Created::Taken))
    }

    fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Tried<Updated>> {
        let root = self.root()?;
        let _held = match self.hold(&root.0, key)? {
            Grip::Held(held) if held.found.value == former => held,
            Grip::Held(_) => return Ok(Tried::Done(Updated::Stale)),
            Grip::Nothing => return Ok(Tried::Done(Updated::Gone)),
            Grip::Busy => return Ok(Tried::Busy),
        };
        self.replace(&root.0, key, value, life)?;
        Ok(Tried::Done(Updated::Done))
    }

    fn touch(&self, key: &StoreKey, life: Life) -> Result<Tried<Touched>> {
        let root = self.root()?;
        let held = match self.hold(&root.0, key)? {
            Grip::Held(held) => held,
            Grip::Nothing => return Ok(Tried::Done(Touched::Gone)),
            Grip::Busy => return Ok(Tried::Busy),
        };
        set_used(&held.file, life.used).map_err(FileError::io("noting the use of a session"))?;
        Ok(Tried::Done(Touched::Done))
    }

    fn rename(
        &self,
        keys: [&StoreKey; 2],
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Tried<Renamed>> {
        let root = self.root()?;
        let [old, new] = keys;
        let _held = match self.hold(&root.0, old)? {
            Grip::Held(held) if held.found.value == former => held,
            Grip::Held(_) => return Ok(Tried::Done(Renamed::Stale)),
            Grip::Nothing => return Ok(Tried::Done(Renamed::Gone)),
            Grip::Busy => return Ok(Tried::Busy),
        };
        match self.insert(new, value, life)? {
            Tried::Done(Created::Done) => {}
            Tried::Done(Created::Taken) => return Ok(Tried::Done(Renamed::Taken)),
            Tried::Busy => return Ok(Tried::Busy),
        }
        if let Err(error) = self.unlink(&root.0, old) {
            // The caller keeps the old key, and nobody would ever end the session under the new one.
            let _ = self.unlink(&root.0, new);
            return Err(error.into());
        }
        Ok(Tried::Done(Renamed::Done))
    }

    fn unlink(&self, root: &OwnedFd, key: &StoreKey) -> Result<(), FileError> {
        match folder::find_folder(root.as_fd(), Place::of(key).leaf())? {
            Some(leaf) => folder::remove(&leaf, key.as_str(), self.sync),
            None => Ok(()),
        }
    }

    fn remove(&self, key: &StoreKey) -> Result<Tried<bool>> {
        let root = self.root()?;
        let _held = match self.hold(&root.0, key)? {
            Grip::Held(held) => held,
            Grip::Nothing => return Ok(Tried::Done(false)),
            Grip::Busy => return Ok(Tried::Busy),
        };
        self.unlink(&root.0, key)?;
        Ok(Tried::Done(true))
    }

    fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<Tried<()>> {
        let root = self.root()?;
        match self.hold_any(&root.0, key)? {
            Grip::Held(held) if held.found.value == value => {
                tree::put_aside(&root.0, key, self.clock.millis())?;
                tracing::warn!("a session of Beego's cannot be read; it was put aside");
                Ok(Tried::Done(()))
            }
            Grip::Held(_) | Grip::Nothing => Ok(Tried::Done(())),
            Grip::Busy => Ok(Tried::Busy),
        }
    }

    /// Hands `visit` the values behind `after` that are no records of ours, in the order of the keys, expired ones too. One step is
    /// bounded: answers the key behind which the next goes on, or `None` at the end.
    #[expect(clippy::type_complexity, reason = "a visitor's parameters, said once")]
    fn each(
        &self,
        after: &str,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, Found) -> Result<ControlFlow<()>>,
    ) -> Result<Option<String>> {
        let root = self.root()?;
        let (mut last, mut budget, mut next) = (after.to_owned(), STEP, None);
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

    #[expect(clippy::type_complexity, reason = "a visitor's parameters, said once")]
    fn visit(
        &self,
        leaf: &Leaf,
        key: &StoreKey,
        root: &OwnedFd,
        visit: &mut dyn FnMut(&OwnedFd, &StoreKey, Found) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        match self.look(&leaf.folder, key.as_str()) {
            Ok(Some(found)) if !found.value.starts_with(Record::BEGINNING) => visit(root, key, found),
            Ok(_) => Ok(ControlFlow::Continue(())),
            // A link or a pipe in a file's place: no session of anybody.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(ControlFlow::Continue(())),
            Err(error) => Err(error),
        }
    }

    fn count(&self, after: &str, until: Option<&str>) -> Result<Stretch> {
        let (mut count, mut over) = (0, false);
        let next = self.each(after, &mut |_, key, found| {
            over = until.is_some_and(|until| key.as_str() >= until);
            if over {
                return Ok(ControlFlow::Break(()));
            }
            count += u64::from(self.lives(&found));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Stretch { count, next: next.filter(|_| !over) })
    }

    fn remove_expired(&self, last: &mut String, limit: usize) -> Result<Collected> {
        let mut removed = 0;
        let next = self.each(&std::mem::take(last), &mut |root, key, found| {
            if self.lives(&found) {
                return Ok(ControlFlow::Continue(()));
            }
            if removed == limit {
                return Ok(ControlFlow::Break(()));
            }
            // Noted before what may fail: the next step does not stumble over the same value.
            *last = key.as_str().to_owned();
            // Used again since it was looked at, or just now, it stays.
            if let Grip::Held(held) = self.hold_any(root, key)?
                && !self.lives(&held.found)
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

    #[expect(clippy::type_complexity, reason = "what `Values::scan` answers")]
    fn scan(&self, after: &str, limit: usize) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        let mut page = Vec::new();
        let next = self.each(after, &mut |_, key, found| {
            if !self.lives(&found) {
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
        self.run(&self.0.lanes.reads, move |tree| tree.read(&key)).await
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let (name, value) = (key.clone(), value.to_vec());
        self.change(key, move |tree| tree.insert(&name, &value, life)).await
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let (name, former, value) = (key.clone(), former.to_vec(), value.to_vec());
        self.change(key, move |tree| tree.swap(&name, &former, &value, life)).await
    }

    async fn touch(&self, key: &StoreKey, life: Life) -> Result<Touched> {
        let name = key.clone();
        self.change(key, move |tree| tree.touch(&name, life)).await
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
        self.0.tally.ask(&self.0.lanes.walks, PARTS, move |after, until| tree.count(after, until)).await
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected> {
        let mut last = Arc::clone(&self.0.last).lock_owned().await;
        self.run(&self.0.lanes.walks, move |tree| tree.remove_expired(&mut last, limit)).await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, Found)>, Option<Cursor>)> {
        self.run(&self.0.lanes.walks, move |tree| {
            tree.scan(cursor.as_ref().map_or("", Cursor::as_str), limit)
        })
        .await
    }
}
