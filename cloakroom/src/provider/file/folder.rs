//! Operations on files and folders: open without following links, replace atomically, list.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::error::FileError;
use crate::provider::private_folder::{FOLDER_MODE, undo_umask};

/// The largest file that is read. Records are far smaller.
pub(super) const MAX_FILE: u64 = 32 << 20;

/// The largest file that is read on the caller's thread. Copying it takes some microseconds.
#[cfg(target_os = "linux")]
const MAX_CACHED: usize = 64 << 10;

/// The prefix of temporary files. No key holds a dot, so no temporary file is mistaken for a record.
const TEMP_PREFIX: &str = ".tmp-";
/// The age at which a temporary file is removed. No write takes this long, so its process has died.
const TEMP_AGE: Duration = Duration::from_secs(3600);

/// The most retries of a step that another process keeps undoing.
pub(super) const RETRIES: usize = 100;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Non-blocking, since the open of a planted pipe would wait for ever.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const EMPTY: OFlags = OFlags::CREATE.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The part of a write that is synced, and so survives a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Nothing,
    /// The file's content, so that the name never refers to half a file.
    Content,
    /// The content and the folder entry.
    All,
}

/// Opens `path` below `dir`. A symbolic link at any part of the path is an error.
pub(super) fn open_below(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match retry_on_intr(|| fs::openat2(dir, path, flags, Mode::empty(), resolve)) {
            // The kernel is older than 5.6, or a sandbox does not allow the call.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
            answer => return answer,
        }
    }
    open_by_steps(dir, path, flags)
}

pub(super) fn open_by_steps(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (folder, name) = match path.rsplit_once('/') {
        Some((above, name)) => (Some(open_by_steps(dir, above, FOLDER)?), name),
        None => (None, path),
    };
    let folder = folder.as_ref().map_or(dir, AsFd::as_fd);
    retry_on_intr(|| fs::openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty()))
}

/// Opens the folder again, for a descriptor with its own read position and its own locks.
pub(super) fn open_again(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| fs::openat(dir, ".", FOLDER, Mode::empty()))
}

/// Opens the folder `path` below `dir`, if it exists.
pub(super) fn find_folder(dir: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, FileError> {
    match open_below(dir, path, FOLDER) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(FileError::Branch { found: "is a symbolic link" }),
        Err(Errno::NOTDIR) => Err(FileError::Branch { found: "is no folder" }),
        Err(error) => Err(FileError::io("opening a folder")(error)),
    }
}

/// Opens the folder `name` in `dir` and creates it if it is missing.
pub(super) fn make_folder(dir: BorrowedFd<'_>, name: &str, sync: Flush) -> Result<OwnedFd, FileError> {
    make_folder_of(dir, name, FOLDER_MODE, sync)
}

/// Opens the folder `name` in `dir` and creates it with `mode` if it is missing. The umask is undone for the provider's own mode only.
pub(super) fn make_folder_of(
    dir: BorrowedFd<'_>,
    name: &str,
    mode: Mode,
    sync: Flush,
) -> Result<OwnedFd, FileError> {
    let settle = || if mode == FOLDER_MODE { undo_umask(dir, name) } else { Ok(()) };
    // Another process may remove the new folder at once: it removes the empty folder of a user's index.
    for _ in 0..RETRIES {
        if let Some(folder) = find_folder(dir, name)? {
            return Ok(folder);
        }
        match fs::mkdirat(dir, name, mode).map(|()| settle()) {
            Ok(Ok(()) | Err(Errno::NOENT)) => {}
            // Another process created it first.
            Err(Errno::EXIST) => {}
            Ok(Err(error)) | Err(error) => return Err(FileError::io("making a folder")(error)),
        }
        if sync == Flush::All {
            fs::fsync(dir).map_err(FileError::io("making a folder durable"))?;
        }
    }
    Err(FileError::io("making a folder")(Errno::NOENT))
}

/// Opens `path` below `dir` for reading and checks its type, owner and size. Returns `None` if nothing is there.
pub(super) fn open_file(dir: BorrowedFd<'_>, path: &str) -> Result<Option<(OwnedFd, usize)>, FileError> {
    let file = match open_below(dir, path, READ) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(open_error(dir, path, error)),
    };
    let stat = fs::fstat(&file).map_err(FileError::io("reading a session"))?;
    check_file(&stat)?;
    Ok(Some((file, stat.st_size as usize)))
}

/// Returns the error for a `path` that could not be opened: a foreign thing in the record's place, or a failure of the store.
fn open_error(dir: BorrowedFd<'_>, path: &str, error: Errno) -> FileError {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let folder = match find_folder(dir, above) {
        Ok(Some(folder)) => folder,
        Ok(None) => return FileError::io("reading a session")(error),
        Err(branch) => return branch,
    };
    match fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match check_file(&stat) {
            Err(foreign) => foreign,
            // The file's own mode forbids reading.
            Ok(()) if error == Errno::ACCESS && stat.st_mode & 0o400 == 0 => {
                FileError::FileMode { mode: stat.st_mode & 0o7777 }
            }
            Ok(()) => FileError::io("reading a session")(error),
        },
        Err(_) => FileError::io("reading a session")(error),
    }
}

fn check_file(stat: &Stat) -> Result<(), FileError> {
    let expected = rustix::process::geteuid().as_raw();
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_uid != expected => {
            Err(FileError::Owner { expected, found: stat.st_uid })
        }
        // The number of links does not matter: a backup by hard links (`cp -al`) adds one, and no record is written in place.
        FileType::RegularFile if size > MAX_FILE => Err(FileError::Size { limit: MAX_FILE, found: size }),
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(FileError::Kind { found: "a symbolic link" }),
        FileType::Directory => Err(FileError::Kind { found: "a folder" }),
        _ => Err(FileError::Kind { found: "a pipe, a socket or a device" }),
    }
}

/// Reads a file of `size` bytes. The result is shorter if the file was truncated meanwhile, which the checksum detects.
pub(super) fn read_all(file: &OwnedFd, size: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match retry_on_intr(|| rustix::io::read(file, &mut bytes[filled..])) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => return Err(FileError::io("reading a session")(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the file at `path` below `dir` if the kernel has its name and content in memory, so that no disk is waited for. Returns an
/// error if it has not, if it cannot tell, or if the file is not a plain record.
#[cfg(target_os = "linux")]
pub(super) fn read_cached(dir: BorrowedFd<'_>, path: &str) -> Result<Option<Vec<u8>>, Errno> {
    use rustix::fs::ResolveFlags;
    use rustix::io::{ReadWriteFlags, preadv2};

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    // NOATIME: an update of the access time may wait for the file system's journal.
    let file = match fs::openat2(dir, path, READ | OFlags::NOATIME, Mode::empty(), resolve) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let stat = fs::fstat(&file)?;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > MAX_CACHED || check_file(&stat).is_err() {
        return Err(Errno::AGAIN);
    }
    let mut bytes = vec![0; size];
    match preadv2(&file, &mut [io::IoSliceMut::new(&mut bytes)], 0, ReadWriteFlags::NOWAIT)? {
        all if all == size => Ok(Some(bytes)),
        _ => Err(Errno::AGAIN),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached(_: BorrowedFd<'_>, _: &str) -> Result<Option<Vec<u8>>, Errno> {
    Err(Errno::NOSYS)
}

/// Replaces the file `name` atomically by one with `bytes`.
pub(super) fn replace(dir: &OwnedFd, name: &str, bytes: &[u8], sync: Flush) -> Result<(), FileError> {
    replace_after(dir, name, bytes, sync, |_| Ok(()))
}

/// Replaces the file `name` atomically by one with `bytes`, after `prepare` has run on the new file.
pub(super) fn replace_after(
    dir: &OwnedFd,
    name: &str,
    bytes: &[u8],
    sync: Flush,
    prepare: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), FileError> {
    let (mut temp, file) = TempFile::create(dir).map_err(FileError::io("making a file"))?;
    write_all(&file, bytes).and_then(|()| prepare(&file)).map_err(FileError::io("writing a session"))?;
    if sync != Flush::Nothing {
        fs::fsync(&file).map_err(FileError::io("making a session durable"))?;
    }
    drop(file);
    fs::renameat(dir, temp.name.as_str(), dir, name).map_err(FileError::io("replacing a session"))?;
    temp.in_use = true;
    sync_folder(dir, sync)
}

/// Removes the file `name` if it exists.
pub(super) fn remove(dir: &OwnedFd, name: &str, sync: Flush) -> Result<(), FileError> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => sync_folder(dir, sync),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(FileError::io("removing a session")(error)),
    }
}

/// Creates the empty file `name`, or opens the one that exists.
pub(super) fn make_empty(dir: &OwnedFd, name: &str, sync: Flush) -> Result<OwnedFd, Errno> {
    let file = retry_on_intr(|| fs::openat(dir, name, EMPTY | OFlags::RDWR, FILE_MODE))?;
    fs::fchmod(&file, FILE_MODE)?;
    if sync == Flush::All {
        fs::fsync(dir)?;
    }
    Ok(file)
}

pub(super) fn sync_folder(dir: &OwnedFd, sync: Flush) -> Result<(), FileError> {
    match sync {
        Flush::All => fs::fsync(dir).map_err(FileError::io("making a folder durable")),
        Flush::Nothing | Flush::Content => Ok(()),
    }
}

pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    // The umask applies to the mode given at creation, but not to this one.
    fs::fchmod(file, FILE_MODE)?;
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::write(file, bytes))? {
            0 => return Err(Errno::IO),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// A temporary file, removed on drop unless it has been renamed into place.
struct TempFile<'a> {
    dir: &'a OwnedFd,
    name: String,
    in_use: bool,
}

impl<'a> TempFile<'a> {
    fn create(dir: &'a OwnedFd) -> io::Result<(Self, OwnedFd)> {
        const CREATE: OFlags = OFlags::WRONLY
            .union(OFlags::CREATE)
            .union(OFlags::EXCL)
            .union(OFlags::NOFOLLOW)
            .union(OFlags::CLOEXEC);
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            // The counter separates threads, the process id processes, the random part containers and forks.
            let mut random = [0; 8];
            crate::id::system_random(&mut random)?;
            let name = format!(
                "{TEMP_PREFIX}{}-{}-{:016x}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed),
                u64::from_ne_bytes(random)
            );
            match retry_on_intr(|| fs::openat(dir, name.as_str(), CREATE, FILE_MODE)) {
                Ok(file) => return Ok((TempFile { dir, name, in_use: false }, file)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if !self.in_use {
            // If this fails, garbage collection removes the file after an hour.
            let _ = fs::unlinkat(self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Removes those temporary files among `names` whose process has died.
pub(super) fn remove_old_temps(dir: &OwnedFd, names: &[String]) {
    let aged = |stat: Stat| {
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > TEMP_AGE)
    };
    for name in names.iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
        if fs::statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok_and(aged) {
            let _ = fs::unlinkat(dir, name.as_str(), AtFlags::empty());
        }
    }
}

/// Returns the sorted names in a folder. It leaves out names that are not UTF-8, which the provider never writes.
///
/// The listing opens its own descriptor, because the read position belongs to the descriptor and two tasks may list `dir` at the same time.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn list(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    use rustix::fs::{RawDir, SeekFrom};
    let dir = open_again(dir.as_fd())?;
    // The folder is unchanged during one call, but not between two calls: some file systems move a replaced entry behind
    // the read position. So the buffer grows until one call returns all names, up to a bound.
    const FIRST: usize = 32 << 10;
    const MOST: usize = 16 << 20;
    let mut size = FIRST;
    loop {
        fs::seek(&dir, SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(size);
        let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
        let (mut names, mut calls) = (Vec::new(), 0);
        loop {
            calls += u32::from(entries.is_buffer_empty());
            let Some(entry) = entries.next() else { break };
            match entry {
                Ok(entry) => names.extend(own_name(entry.file_name())),
                // The folder was removed after it was opened, so it is empty.
                Err(Errno::NOENT) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        // The second call reports the end.
        if calls <= 2 || size >= MOST {
            names.sort_unstable();
            names.dedup();
            return Ok(names);
        }
        size *= 8;
    }
}

/// Returns the sorted names in a folder. It leaves out names that are not UTF-8, which the provider never writes.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn list(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    // `read_from` opens the folder again, so the listing has its own descriptor.
    for entry in fs::Dir::read_from(dir)? {
        names.extend(own_name(entry?.file_name()));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn own_name(name: &std::ffi::CStr) -> Option<String> {
    name.to_str().ok().filter(|name| *name != "." && *name != "..").map(str::to_owned)
}
