//! The files below one root: the record of each key, and the index files of each user.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use data_encoding::HEXLOWER;
use rustix::fs::{self, AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::error::FileError;
use super::folder::{self, FILE_MODE, Flush};
use super::locks;
use super::root;
use crate::clock::Millis;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::private_folder::FOLDER_MODE;
use crate::record::{IndexEntry, IndexKind, Record};

const CORRUPT: &str = ".corrupt";
/// The CRC-32 after the record, big-endian.
const CHECKSUM: usize = 4;
/// The largest record: the largest file that is read, less the checksum.
pub(super) const MAX_RECORD: usize = folder::MAX_FILE as usize - CHECKSUM;

/// An open root folder. If another folder takes its path, the store opens a new tree.
pub(super) struct Tree {
    root: OwnedFd,
    stat: Stat,
    is_local: bool,
    /// True while the kernel and the file system can tell what is in memory. Set to false at the first call that they do not know.
    reports_cached: AtomicBool,
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Tree, FileError> {
        let (root, stat) = root::open(path)?;
        locks::make_all(&root)?;
        let is_local = root::is_local(&root);
        Ok(Tree { root, stat, is_local, reports_cached: AtomicBool::new(is_local) })
    }

    /// Returns true if this is still the folder at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::lstat(path).is_ok_and(|stat| locks::same_file(&stat, &self.stat))
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Reads the record of `key`, expired or not. It needs no lock: the name refers to the old file or to the new one, each complete.
    pub(super) fn read(&self, key: &StoreKey) -> Result<Option<Record>> {
        read(self.root.as_fd(), &KeyPath::of(key).path())
    }

    /// Returns true if the folder is on a local file system.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Returns true if [`read_cached`](Self::read_cached) may succeed.
    pub(super) fn reports_cached(&self) -> bool {
        self.reports_cached.load(Ordering::Relaxed)
    }

    /// Reads the record of `key` if the kernel has it in memory. Returns `None` if a read might wait for the disk, or if the file is unreadable.
    pub(super) fn read_cached(&self, key: &StoreKey) -> Option<Option<Record>> {
        match folder::read_cached(self.root.as_fd(), &KeyPath::of(key).path()) {
            Ok(None) => Some(None),
            Ok(Some(bytes)) => decode(&bytes).ok().map(Some),
            // The kernel is older than 5.12, a sandbox does not allow the calls, or the file system does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.reports_cached.store(false, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }

    /// Returns true if the file of `key` begins like a record.
    pub(super) fn is_ours(&self, key: &StoreKey) -> Result<bool> {
        let Some((file, size)) = folder::open_file(self.root.as_fd(), &KeyPath::of(key).path())? else {
            return Ok(false);
        };
        Ok(folder::read_all(&file, size.min(Record::BEGINNING.len()))? == Record::BEGINNING)
    }

    /// Reads the record of `key`, and moves an unreadable file to the corrupt ones, so that the error comes once. The caller holds the lock.
    pub(super) fn read_held(&self, key: &StoreKey, now: Millis) -> Result<Option<Record>> {
        let answer = self.read(key);
        if let Err(error) = &answer
            && error.kind() == ErrorKind::Corrupt
        {
            match self.put_aside(key, now) {
                Ok(()) => {
                    tracing::warn!(%error, "a stored session cannot be read; it was moved to {CORRUPT}")
                }
                Err(cause) => {
                    tracing::warn!(%error, %cause, "a stored session cannot be read, nor moved to {CORRUPT}");
                }
            }
        }
        answer
    }

    /// Writes `bytes`, those of `record`, under `key`, in the place of `before`. The caller holds the lock.
    pub(super) fn write(
        &self,
        key: &StoreKey,
        record: &Record,
        bytes: &[u8],
        before: Option<&Record>,
        sync: Flush,
    ) -> Result<(), FileError> {
        let from: Vec<IndexEntry> = before.into_iter().flat_map(Record::index_entries).collect();
        let to: Vec<IndexEntry> = record.index_entries().collect();
        for entry in to.iter().filter(|entry| !from.contains(entry)) {
            // Index first, so that no session exists that a list of its entries does not show.
            self.mark(entry, key, sync)?;
        }
        // If this fails, the index entry stays: the file may be in place, and a stale entry does no harm.
        let place = KeyPath::of(key);
        let leaf = place.make(&self.root, sync)?;
        folder::replace(&leaf, place.key, bytes, sync)?;
        from.iter().filter(|entry| !to.contains(entry)).for_each(|entry| self.unmark(entry, key));
        Ok(())
    }

    /// Removes the record `before` of `key`. The caller holds the lock.
    pub(super) fn remove(&self, key: &StoreKey, before: &Record, sync: Flush) -> Result<(), FileError> {
        let place = KeyPath::of(key);
        if let Some(leaf) = folder::find_folder(self.root.as_fd(), place.leaf())? {
            folder::remove(&leaf, place.key, sync)?;
        }
        before.index_entries().for_each(|entry| self.unmark(&entry, key));
        Ok(())
    }

    /// Moves the file of `key` to the corrupt ones. The caller holds the lock.
    fn put_aside(&self, key: &StoreKey, now: Millis) -> Result<(), FileError> {
        put_aside(&self.root, key, now)
    }

    /// Returns the keys in the index of `entry`, in order.
    pub(super) fn marked(&self, entry: &IndexEntry) -> Result<Vec<StoreKey>, FileError> {
        let Some(folder) = folder::find_folder(self.root.as_fd(), &marks_of(entry))? else {
            return Ok(Vec::new());
        };
        let names =
            folder::list(&folder).map_err(FileError::io("listing the sessions of a user or a label"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn mark(&self, entry: &IndexEntry, key: &StoreKey, sync: Flush) -> Result<(), FileError> {
        let fail = || FileError::io::<Errno>("indexing a session");
        let all = folder::make_folder(self.root.as_fd(), marks(entry.kind()), sync)?;
        let name = digest(entry);
        // Another step may remove the folder with its last entry, between these two calls.
        for _ in 0..folder::RETRIES {
            let folder = folder::make_folder(all.as_fd(), &name, sync)?;
            match folder::make_empty(&folder, key.as_str(), sync) {
                Ok(_) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(fail()(error)),
            }
        }
        Err(fail()(Errno::NOENT))
    }

    /// Removes an index entry. Errors are ignored: a later listing of the entry finds and removes a stale entry.
    pub(super) fn unmark(&self, entry: &IndexEntry, key: &StoreKey) {
        let path = marks_of(entry);
        if let Ok(Some(folder)) = folder::find_folder(self.root.as_fd(), &path) {
            let _ = fs::unlinkat(&folder, key.as_str(), AtFlags::empty());
            if let Ok(Some(all)) = folder::find_folder(self.root.as_fd(), marks(entry.kind())) {
                let _ = fs::unlinkat(&all, digest(entry).as_str(), AtFlags::REMOVEDIR);
            }
        }
    }
}

/// Reads the record in the file at `path` below `dir`.
pub(super) fn read(dir: BorrowedFd<'_>, path: &str) -> Result<Option<Record>> {
    let Some((file, size)) = folder::open_file(dir, path)? else { return Ok(None) };
    decode(&folder::read_all(&file, size)?).map(Some)
}

/// Moves whatever is under `key` to the corrupt files. The caller holds the lock.
pub(super) fn put_aside(root: &OwnedFd, key: &StoreKey, now: Millis) -> Result<(), FileError> {
    let fail = || FileError::io::<Errno>("putting a session aside");
    let place = KeyPath::of(key);
    let Some(leaf) = folder::find_folder(root.as_fd(), place.leaf())? else { return Ok(()) };
    let aside = folder::make_folder(root.as_fd(), CORRUPT, Flush::Nothing)?;
    let free = |name: &String| {
        matches!(fs::statat(&aside, name.as_str(), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    };
    // The caller holds the key's lock, so no other process takes the same name.
    let name = (0..1000).map(|more| format!("{}.{}", place.key, now.0.saturating_add(more))).find(free);
    let name = name.ok_or(Errno::EXIST).map_err(fail())?;
    fs::renameat(&leaf, place.key, &aside, name.as_str()).map_err(fail())?;
    let stat = fs::statat(&aside, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(fail())?;
    // Only for a plain file with one name: the mode of a link is that of its target.
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1 {
        fs::chmodat(&aside, name.as_str(), FILE_MODE, AtFlags::empty()).map_err(fail())?;
    }
    Ok(())
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

/// Encodes a record's file: the record in the native format and its CRC-32.
pub(super) fn encode(record: &Record) -> Result<Vec<u8>, FileError> {
    let bytes = record.as_bytes();
    if bytes.len() > MAX_RECORD {
        return Err(FileError::TooLarge { limit: MAX_RECORD, found: bytes.len() });
    }
    let checksum = crc32fast::hash(bytes).to_be_bytes();
    Ok([bytes, &checksum].concat())
}

fn decode(bytes: &[u8]) -> Result<Record> {
    match bytes.split_last_chunk::<CHECKSUM>() {
        Some((record, checksum)) if crc32fast::hash(record) == u32::from_be_bytes(*checksum) => {
            Record::from_bytes(record)
        }
        _ => Err(Error::from(FileError::Checksum { found: bytes.len() })),
    }
}

/// Returns the folder of the indexes of one kind.
fn marks(kind: IndexKind) -> &'static str {
    match kind {
        IndexKind::Principal => ".principals",
        IndexKind::Label => ".labels",
    }
}

fn digest(entry: &IndexEntry) -> String {
    HEXLOWER.encode(&Sha256::digest(entry.value()))
}

fn marks_of(entry: &IndexEntry) -> String {
    format!("{}/{}", marks(entry.kind()), digest(entry))
}

/// The path of a key's record: `a/b/abcd` for `abcd`.
pub(super) struct KeyPath<'a> {
    key: &'a str,
    leaf: [u8; 3],
}

impl<'a> KeyPath<'a> {
    pub(super) fn of(key: &'a StoreKey) -> Self {
        // A key has at least two characters, and all are ASCII.
        let bytes = key.as_bytes();
        KeyPath { key: key.as_str(), leaf: [bytes[0], b'/', bytes[1]] }
    }

    pub(super) fn leaf(&self) -> &str {
        std::str::from_utf8(&self.leaf).unwrap_or_default()
    }

    pub(super) fn path(&self) -> String {
        [self.leaf(), "/", self.key].concat()
    }

    /// Opens the leaf folder and creates it if it is missing.
    fn make(&self, root: &OwnedFd, sync: Flush) -> Result<OwnedFd, FileError> {
        self.make_with(root, FOLDER_MODE, sync)
    }

    pub(super) fn make_with(&self, root: &OwnedFd, mode: Mode, sync: Flush) -> Result<OwnedFd, FileError> {
        if let Some(leaf) = folder::find_folder(root.as_fd(), self.leaf())? {
            return Ok(leaf);
        }
        let (first, second) = (&self.leaf()[..1], &self.leaf()[2..]);
        let branch = folder::make_folder_of(root.as_fd(), first, mode, sync)?;
        folder::make_folder_of(branch.as_fd(), second, mode, sync)
    }
}
