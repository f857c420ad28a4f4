//! Files and folders: opened without following a link, replaced whole, listed at one instant.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::error::FileError;

/// The largest file that is read. A record is bounded far below it; what is larger is no record of ours.
pub(super) const MAX_FILE: u64 = 32 << 20;

/// The largest file that is read without leaving the thread: copying it takes some microseconds.
#[cfg(target_os = "linux")]
const AT_HAND: usize = 64 << 10;

/// How temporary files begin. No key holds a dot, so none is ever taken for a record.
const TEMP_PREFIX: &str = ".tmp-";
/// No write takes this long: what is older was left by a process that died.
const TEMP_AGE: Duration = Duration::from_secs(3600);

/// How often a step is tried again that another process undid in between: more is no coincidence.
pub(super) const RETRIES: usize = 100;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Not blocking, or a planted pipe would hold the reader for ever.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const EMPTY: OFlags = OFlags::CREATE.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

pub(super) const FOLDER_MODE: Mode = Mode::RWXU;
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// How much of a write has to survive the loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Nothing,
    /// The file's content, so that its name never stands for half of it.
    Content,
    /// The content and the folder's entry.
    All,
}

/// Opens `path`, some names below `dir`, and refuses a symbolic link at every one of them.
pub(super) fn open_below(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match retry_on_intr(|| fs::openat2(dir, path, flags, Mode::empty(), resolve)) {
            // A kernel before 5.6, or a sandbox that does not know the call.
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

/// The same folder, with a position and locks of its own.
pub(super) fn open_again(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| fs::openat(dir, ".", FOLDER, Mode::empty()))
}

/// The folder `path` below `dir`, if there is one.
pub(super) fn find_folder(dir: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, FileError> {
    match open_below(dir, path, FOLDER) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(FileError::Branch { found: "is a symbolic link" }),
        Err(Errno::NOTDIR) => Err(FileError::Branch { found: "is no folder" }),
        Err(error) => Err(FileError::io("opening a folder")(error)),
    }
}

/// The folder `name` in `dir`, made if need be.
pub(super) fn make_folder(dir: BorrowedFd<'_>, name: &str, sync: Flush) -> Result<OwnedFd, FileError> {
    make_folder_of(dir, name, FOLDER_MODE, sync)
}

/// The same with another mode than ours, of which the umask may take some away.
pub(super) fn make_folder_of(
    dir: BorrowedFd<'_>,
    name: &str,
    mode: Mode,
    sync: Flush,
) -> Result<OwnedFd, FileError> {
    let settle = || if mode == FOLDER_MODE { undo_umask(dir, name) } else { Ok(()) };
    // Another process may remove it as soon as it is made, as it does with an empty one of a user's marks.
    for _ in 0..RETRIES {
        if let Some(folder) = find_folder(dir, name)? {
            return Ok(folder);
        }
        match fs::mkdirat(dir, name, mode).map(|()| settle()) {
            Ok(Ok(()) | Err(Errno::NOENT)) => {}
            // Another process was first, which is as good.
            Err(Errno::EXIST) => {}
            Ok(Err(error)) | Err(error) => return Err(FileError::io("making a folder")(error)),
        }
        if sync == Flush::All {
            fs::fsync(dir).map_err(FileError::io("making a folder durable"))?;
        }
    }
    Err(FileError::io("making a folder")(Errno::NOENT))
}

/// Gives a folder just made the mode that was asked for, if the umask took some of it away.
pub(super) fn undo_umask(dir: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
    let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO) {
        FOLDER_MODE => Ok(()),
        _ => fs::chmodat(dir, name, FOLDER_MODE, AtFlags::empty()),
    }
}

/// Opens `path` below `dir` for reading, and checks that it is a file of ours; `None` if nothing is there.
pub(super) fn open_file(dir: BorrowedFd<'_>, path: &str) -> Result<Option<(OwnedFd, usize)>, FileError> {
    let file = match open_below(dir, path, READ) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(why_not_opened(dir, path, error)),
    };
    let stat = fs::fstat(&file).map_err(FileError::io("reading a session"))?;
    check_file(&stat)?;
    Ok(Some((file, stat.st_size as usize)))
}

/// What is at `path` that cannot be opened: something foreign in a record's place, or a failure of the store.
fn why_not_opened(dir: BorrowedFd<'_>, path: &str, error: Errno) -> FileError {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let folder = match find_folder(dir, above) {
        Ok(Some(folder)) => folder,
        Ok(None) => return FileError::io("reading a session")(error),
        Err(branch) => return branch,
    };
    match fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match check_file(&stat) {
            Err(foreign) => foreign,
            // Nothing but this file's own mode is in the way.
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
        // A file may have several names: a backup by hard links (`cp -al`) gives it one more, and no record is written in place.
        FileType::RegularFile if size > MAX_FILE => Err(FileError::Size { limit: MAX_FILE, found: size }),
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(FileError::Kind { found: "a symbolic link" }),
        FileType::Directory => Err(FileError::Kind { found: "a folder" }),
        _ => Err(FileError::Kind { found: "a pipe, a socket or a device" }),
    }
}

/// The whole of a file that is `size` bytes long; less if somebody cut it, which its checksum will tell.
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

/// The whole of the file at `path` below `dir`, where the kernel has name and content in memory: no disk is waited for. An error
/// where it has not, where it cannot tell, or where something out of the ordinary is there.
#[cfg(target_os = "linux")]
pub(super) fn read_at_hand(dir: BorrowedFd<'_>, path: &str) -> Result<Option<Vec<u8>>, Errno> {
    use rustix::fs::ResolveFlags;
    use rustix::io::{ReadWriteFlags, preadv2};

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    // To note the time of a read, the file system may have to wait for its journal.
    let file = match fs::openat2(dir, path, READ | OFlags::NOATIME, Mode::empty(), resolve) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let stat = fs::fstat(&file)?;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > AT_HAND || check_file(&stat).is_err() {
        return Err(Errno::AGAIN);
    }
    let mut bytes = vec![0; size];
    match preadv2(&file, &mut [io::IoSliceMut::new(&mut bytes)], 0, ReadWriteFlags::NOWAIT)? {
        all if all == size => Ok(Some(bytes)),
        _ => Err(Errno::AGAIN),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_at_hand(_: BorrowedFd<'_>, _: &str) -> Result<Option<Vec<u8>>, Errno> {
    Err(Errno::NOSYS)
}

/// Puts a file of `bytes` in the place of `name`: at no time is anything else there than the old or the new one.
pub(super) fn replace(dir: &OwnedFd, name: &str, bytes: &[u8], sync: Flush) -> Result<(), FileError> {
    replace_after(dir, name, bytes, sync, |_| Ok(()))
}

/// [`replace`], once `prepare` has done to the new file what it has to.
pub(super) fn replace_after(
    dir: &OwnedFd,
    name: &str,
    bytes: &[u8],
    sync: Flush,
    prepare: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<(), FileError> {
    let (mut temp, file) = Temp::create(dir).map_err(FileError::io("making a file"))?;
    write_all(&file, bytes).and_then(|()| prepare(&file)).map_err(FileError::io("writing a session"))?;
    if sync != Flush::Nothing {
        fs::fsync(&file).map_err(FileError::io("making a session durable"))?;
    }
    drop(file);
    fs::renameat(dir, temp.name.as_str(), dir, name).map_err(FileError::io("replacing a session"))?;
    temp.in_use = true;
    sync_folder(dir, sync)
}

/// Removes the file `name`, if there is one.
pub(super) fn remove(dir: &OwnedFd, name: &str, sync: Flush) -> Result<(), FileError> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => sync_folder(dir, sync),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(FileError::io("removing a session")(error)),
    }
}

/// An empty file `name`; one that is there already will do.
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
    // The mode given at creation goes through the umask, this one does not.
    fs::fchmod(file, FILE_MODE)?;
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::write(file, bytes))? {
            0 => return Err(Errno::IO),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// A temporary file, removed unless it came into use.
struct Temp<'a> {
    dir: &'a OwnedFd,
    name: String,
    in_use: bool,
}

impl<'a> Temp<'a> {
    fn create(dir: &'a OwnedFd) -> io::Result<(Self, OwnedFd)> {
        const CREATE: OFlags = OFlags::WRONLY
            .union(OFlags::CREATE)
            .union(OFlags::EXCL)
            .union(OFlags::NOFOLLOW)
            .union(OFlags::CLOEXEC);
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            // The number keeps threads apart, the process id processes, the random part containers and forks.
            let mut random = [0; 8];
            crate::id::system_random(&mut random)?;
            let name = format!(
                "{TEMP_PREFIX}{}-{}-{:016x}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed),
                u64::from_ne_bytes(random)
            );
            match retry_on_intr(|| fs::openat(dir, name.as_str(), CREATE, FILE_MODE)) {
                Ok(file) => return Ok((Temp { dir, name, in_use: false }, file)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.in_use {
            // If even this fails, garbage collection removes it in an hour.
            let _ = fs::unlinkat(self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Removes the temporary files among `names` that a dead process has left.
pub(super) fn sweep_temps(dir: &OwnedFd, names: &[String]) {
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

/// The names in a folder, sorted; those that are not UTF-8 are none of ours.
///
/// The listing owns its descriptor: how far it has read is in the descriptor, and `dir` may be listed twice at the same time.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn list(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    use rustix::fs::{RawDir, SeekFrom};
    let dir = open_again(dir.as_fd())?;
    // The kernel holds the folder still for one call but not between two, when some file systems move an entry that
    // is being replaced to where the reader has been. So the buffer grows until one call gives all, within reason.
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
                // Removed since it was opened, and so empty.
                Err(Errno::NOENT) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        // The second call is the one that says that there is no more.
        if calls <= 2 || size >= MOST {
            names.sort_unstable();
            names.dedup();
            return Ok(names);
        }
        size *= 8;
    }
}

/// The names in a folder, sorted; those that are not UTF-8 are none of ours.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn list(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    // `read_from` opens the folder again, so the listing owns its descriptor.
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
