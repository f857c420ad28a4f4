//! A value as Beego stores it: a file named by the key, its mode, its folders and its time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use crate::clock::Millis;
use crate::id::StoreKey;
use crate::provider::file::error::FileError;
use crate::provider::file::folder::{self, FILE_MODE, Flush};
use crate::provider::file::tree::KeyPath;

/// The mode that Beego 1 and 2 give their folders.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Replaces the value of `key`, whose file the caller has locked.
pub(super) fn replace(
    root: &OwnedFd,
    key: &StoreKey,
    value: &[u8],
    used: Millis,
    sync: Flush,
) -> Result<(), FileError> {
    let leaf = leaf(root, key, sync)?;
    folder::replace_after(&leaf, key.as_str(), value, sync, |file| set_used(file, used))
}

/// Creates the file of a new key, and returns false if the file exists. The file is written in place: no client knows the key yet.
pub(super) fn make(
    root: &OwnedFd,
    key: &StoreKey,
    value: &[u8],
    used: Millis,
    sync: Flush,
) -> Result<bool, FileError> {
    let fail = || FileError::io::<io::Error>("making a session");
    let leaf = leaf(root, key, sync)?;
    let file = match retry_on_intr(|| fs::openat(&leaf, key.as_str(), CREATE, FILE_MODE)) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(false),
        Err(error) => return Err(fail()(error.into())),
    };
    let written = folder::write_all(&file, value).and_then(|()| set_used(&file, used));
    let written = written.and_then(|()| if sync == Flush::Nothing { Ok(()) } else { fs::fsync(&file) });
    if let Err(error) = written {
        let _ = fs::unlinkat(&leaf, key.as_str(), AtFlags::empty());
        return Err(fail()(error.into()));
    }
    folder::sync_folder(&leaf, sync)?;
    Ok(true)
}

/// Removes the file of a key. It does nothing if there is none.
pub(super) fn unlink(root: &OwnedFd, key: &StoreKey, sync: Flush) -> Result<(), FileError> {
    match folder::find_folder(root.as_fd(), KeyPath::of(key).leaf())? {
        Some(leaf) => folder::remove(&leaf, key.as_str(), sync),
        None => Ok(()),
    }
}

/// Opens the folder of a key, and creates it with Beego's mode, less the umask, if it is missing.
fn leaf(root: &OwnedFd, key: &StoreKey, sync: Flush) -> Result<OwnedFd, FileError> {
    KeyPath::of(key).make_with(root, FOLDER_MODE, sync)
}

/// Returns the time of the last use, which is the file's mtime.
pub(super) fn used(stat: &Stat) -> Millis {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    Millis(seconds.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000))
}

pub(super) fn set_used(file: &OwnedFd, used: Millis) -> Result<(), Errno> {
    let time = Timespec { tv_sec: (used.0 / 1000) as i64, tv_nsec: (used.0 % 1000 * 1_000_000) as _ };
    fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}
