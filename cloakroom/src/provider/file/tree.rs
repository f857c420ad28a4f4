//! The files below one root: a record under each key, and the marks that find a user's records.

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
use crate::principal::Principal;
use crate::record::Record;

const CORRUPT: &str = ".corrupt";
const PRINCIPALS: &str = ".principals";
/// The CRC-32 after the record, big-endian.
const CHECKSUM: usize = 4;
/// The largest record that fits into a file that is read back.
pub(super) const MAX_RECORD: usize = folder::MAX_FILE as usize - CHECKSUM;

/// One root folder, as it was opened. If another takes its path, a new tree takes this one's place.
pub(super) struct Tree {
    root: OwnedFd,
    stat: Stat,
    is_local: bool,
    /// Whether system and file system can say what they have at hand. Those that cannot are asked once.
    tells_at_hand: AtomicBool,
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Tree, FileError> {
        let (root, stat) = root::open(path)?;
        locks::make_all(&root)?;
        let is_local = root::is_local(&root);
        Ok(Tree { root, stat, is_local, tells_at_hand: AtomicBool::new(is_local) })
    }

    /// Whether this is still the folder at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::lstat(path).is_ok_and(|stat| locks::same_file(&stat, &self.stat))
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// What is under `key`, expired or not. Needs no lock: a name stands for the old file or for the new one, each whole.
    pub(super) fn read(&self, key: &StoreKey) -> Result<Option<Record>> {
        read(self.root.as_fd(), &Place::of(key).path())
    }

    /// True if the files are on a disk of this machine.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether it is worth asking for what is at hand.
    pub(super) fn tells_at_hand(&self) -> bool {
        self.tells_at_hand.load(Ordering::Relaxed)
    }

    /// [`read`](Self::read) where that waits for no disk; `None` where it might, and where what is there cannot be read.
    pub(super) fn read_at_hand(&self, key: &StoreKey) -> Option<Option<Record>> {
        match folder::read_at_hand(self.root.as_fd(), &Place::of(key).path()) {
            Ok(None) => Some(None),
            Ok(Some(bytes)) => decode(&bytes).ok().map(Some),
            // A kernel before 5.12, a sandbox that does not know the calls, a file system that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.tells_at_hand.store(false, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }

    /// Whether the file of `key` begins as a record does.
    pub(super) fn is_ours(&self, key: &StoreKey) -> Result<bool> {
        let Some((file, size)) = folder::open_file(self.root.as_fd(), &Place::of(key).path())? else {
            return Ok(false);
        };
        Ok(folder::read_all(&file, size.min(Record::BEGINNING.len()))? == Record::BEGINNING)
    }

    /// [`read`](Self::read) by one who holds the lock: what cannot be read is put aside, so that the error comes once.
    pub(super) fn read_held(&self, key: &StoreKey, now: Millis) -> Result<Option<Record>> {
        let answer = self.read(key);
        if let Err(error) = &answer
            && error.kind() == ErrorKind::Corrupt
        {
            match self.put_aside(key, now) {
                Ok(()) => {
                    tracing::warn!(%error, "a stored session cannot be read; it was put aside in {CORRUPT}")
                }
                Err(cause) => {
                    tracing::warn!(%error, %cause, "a stored session cannot be read, nor put aside in {CORRUPT}");
                }
            }
        }
        answer
    }

    /// Writes `bytes`, which are those of `record`, under `key`, where `before` was. The lock is held.
    pub(super) fn write(
        &self,
        key: &StoreKey,
        record: &Record,
        bytes: &[u8],
        before: Option<&Record>,
        sync: Flush,
    ) -> Result<(), FileError> {
        let (from, to) = (before.and_then(indexed), indexed(record));
        let moved = from != to;
        if let Some(principal) = to.as_ref().filter(|_| moved) {
            // Before the record, so that no session is there that its user's list does not show.
            self.mark(principal, key, sync)?;
        }
        // If this fails, the mark stays: one too many does no harm, and whether the file took its place is not known.
        let place = Place::of(key);
        let leaf = place.make(&self.root, sync)?;
        folder::replace(&leaf, place.key, bytes, sync)?;
        if let Some(principal) = from.as_ref().filter(|_| moved) {
            self.unmark(principal, key);
        }
        Ok(())
    }

    /// Removes what is under `key`, which is `before`. The lock is held.
    pub(super) fn remove(&self, key: &StoreKey, before: &Record, sync: Flush) -> Result<(), FileError> {
        let place = Place::of(key);
        if let Some(leaf) = folder::find_folder(self.root.as_fd(), place.leaf())? {
            folder::remove(&leaf, place.key, sync)?;
        }
        if let Some(principal) = indexed(before) {
            self.unmark(&principal, key);
        }
        Ok(())
    }

    /// Moves what is under `key`, whatever it is, into the folder for inspection. The lock is held.
    fn put_aside(&self, key: &StoreKey, now: Millis) -> Result<(), FileError> {
        put_aside(&self.root, key, now)
    }

    /// The keys that are marked as sessions of `principal`, in order.
    pub(super) fn marked(&self, principal: &Principal) -> Result<Vec<StoreKey>, FileError> {
        let Some(folder) = folder::find_folder(self.root.as_fd(), &marks_of(principal))? else {
            return Ok(Vec::new());
        };
        let names = folder::list(&folder).map_err(FileError::io("listing a user's sessions"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn mark(&self, principal: &Principal, key: &StoreKey, sync: Flush) -> Result<(), FileError> {
        let fail = || FileError::io::<Errno>("noting a user's session");
        let all = folder::make_folder(self.root.as_fd(), PRINCIPALS, sync)?;
        let name = digest(principal);
        // The folder goes with its last mark, perhaps between the two steps.
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

    /// Takes a mark away. A mark too many is seen and removed by whoever lists the user's sessions, so a failure is none.
    pub(super) fn unmark(&self, principal: &Principal, key: &StoreKey) {
        let path = marks_of(principal);
        if let Ok(Some(folder)) = folder::find_folder(self.root.as_fd(), &path) {
            let _ = fs::unlinkat(&folder, key.as_str(), AtFlags::empty());
            if let Ok(Some(all)) = folder::find_folder(self.root.as_fd(), PRINCIPALS) {
                let _ = fs::unlinkat(&all, digest(principal).as_str(), AtFlags::REMOVEDIR);
            }
        }
    }
}

/// The record in the file at `path` below `dir`.
pub(super) fn read(dir: BorrowedFd<'_>, path: &str) -> Result<Option<Record>> {
    let Some((file, size)) = folder::open_file(dir, path)? else { return Ok(None) };
    decode(&folder::read_all(&file, size)?).map(Some)
}

/// Moves what is under `key`, whatever it is, into the folder for inspection. The lock is held.
pub(super) fn put_aside(root: &OwnedFd, key: &StoreKey, now: Millis) -> Result<(), FileError> {
    let fail = || FileError::io::<Errno>("putting a session aside");
    let place = Place::of(key);
    let Some(leaf) = folder::find_folder(root.as_fd(), place.leaf())? else { return Ok(()) };
    let aside = folder::make_folder(root.as_fd(), CORRUPT, Flush::Nothing)?;
    let free = |name: &String| {
        matches!(fs::statat(&aside, name.as_str(), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    };
    // The key's lock is held, so no other process takes the same name.
    let name = (0..1000).map(|more| format!("{}.{}", place.key, now.0.saturating_add(more))).find(free);
    let name = name.ok_or(Errno::EXIST).map_err(fail())?;
    fs::renameat(&leaf, place.key, &aside, name.as_str()).map_err(fail())?;
    let stat = fs::statat(&aside, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(fail())?;
    // Only of a file of our own: a link's mode is that of whatever else it leads to.
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

/// The bytes of a record's file: the record in the native format, and the CRC-32 of that.
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

/// The user in whose list a record stands. A tombstone is no session, so it stands in none.
pub(super) fn indexed(record: &Record) -> Option<Principal> {
    record.principal().filter(|_| !record.is_tombstone())
}

fn digest(principal: &Principal) -> String {
    HEXLOWER.encode(&Sha256::digest(principal.as_str()))
}

fn marks_of(principal: &Principal) -> String {
    format!("{PRINCIPALS}/{}", digest(principal))
}

/// Where a key's record is: `a/b/abcd` for `abcd`.
pub(super) struct Place<'a> {
    key: &'a str,
    leaf: [u8; 3],
}

impl<'a> Place<'a> {
    pub(super) fn of(key: &'a StoreKey) -> Self {
        // A key has at least two characters, all of them ASCII.
        let bytes = key.as_bytes();
        Place { key: key.as_str(), leaf: [bytes[0], b'/', bytes[1]] }
    }

    pub(super) fn leaf(&self) -> &str {
        std::str::from_utf8(&self.leaf).unwrap_or_default()
    }

    pub(super) fn path(&self) -> String {
        [self.leaf(), "/", self.key].concat()
    }

    /// The leaf folder, made if need be.
    fn make(&self, root: &OwnedFd, sync: Flush) -> Result<OwnedFd, FileError> {
        self.make_with(root, folder::FOLDER_MODE, sync)
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
