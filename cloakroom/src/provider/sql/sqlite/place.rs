//! The database file on the disk: created for its owner alone, refused if another user could write to it, and recognized again.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::connection::LOCK_PAUSE;
use super::error::SqliteError;
use crate::provider::private_folder::{self, FolderError};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The path of a database, absolute, so that a later change of the working directory does not move the store.
#[derive(Clone, Debug)]
pub(super) struct DatabasePlace {
    folder: PathBuf,
    name: OsString,
}

/// A file of one file system. A file that replaces another one is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// Returns the file at `path`, without following a link. `None` if there is none.
    pub(super) fn at(path: &Path) -> Option<FileIdentity> {
        FileIdentity::with_size(path).map(|(identity, _)| identity)
    }

    /// Returns the file at `path` and its size in bytes.
    #[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between systems")]
    fn with_size(path: &Path) -> Option<(FileIdentity, u64)> {
        let stat = fs::lstat(path).ok()?;
        let identity = FileIdentity { device: stat.st_dev as u64, inode: stat.st_ino as u64 };
        Some((identity, u64::try_from(stat.st_size).unwrap_or(0)))
    }
}

/// The paths of a database and its log.
#[derive(Clone, Debug)]
pub(super) struct DatabasePaths {
    pub(super) database: PathBuf,
    log: PathBuf,
}

/// The files in these paths. What is committed to one that was removed or replaced is lost, and what is read from it is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatabaseFiles {
    pub(super) database: FileIdentity,
    log: FileIdentity,
}

impl DatabasePaths {
    pub(super) fn new(database: PathBuf) -> DatabasePaths {
        let mut log = database.clone().into_os_string();
        log.push("-wal");
        DatabasePaths { database, log: log.into() }
    }

    /// Returns the files. `None` if one is missing.
    pub(super) fn files(&self) -> Option<DatabaseFiles> {
        self.files_and_log_size().map(|(files, _)| files)
    }

    /// Returns the files and the size of the log in bytes.
    pub(super) fn files_and_log_size(&self) -> Option<(DatabaseFiles, u64)> {
        let (log, size) = FileIdentity::with_size(&self.log)?;
        Some((DatabaseFiles { database: FileIdentity::at(&self.database)?, log }, size))
    }
}

impl DatabasePlace {
    pub(super) fn new(path: &Path) -> Result<DatabasePlace, SqliteError> {
        let unusable = |cause| FolderError::Unusable { path: path.to_owned(), cause };
        let path: PathBuf = std::path::absolute(path).map_err(unusable)?.components().collect();
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => {
                Ok(DatabasePlace { folder: folder.to_owned(), name: name.to_owned() })
            }
            _ => Err(SqliteError::FileKind { path, found: "a folder" }),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Checks the file and its folder, and creates what is missing if `create` is true. Returns the path without symbolic links, as SQLite
    /// needs it to refuse links.
    pub(super) fn prepare(&self, create: bool) -> Result<PathBuf, SqliteError> {
        let (folder, _) = private_folder::open(&self.folder, |folder| self.is_alone(folder))?;
        if private_folder::is_on_network(&folder) {
            return Err(SqliteError::Network { path: self.path() });
        }
        match fs::statat(&folder, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.check(&folder, &stat)?,
            Err(Errno::NOENT) if create => {
                self.create(&folder).map_err(SqliteError::file("creating the database file"))?;
            }
            Err(Errno::NOENT) => return Err(SqliteError::NoFile { path: self.path() }),
            Err(error) => return Err(SqliteError::file("looking for the database file")(error)),
        }
        let unusable = |cause| FolderError::Unusable { path: self.folder.clone(), cause };
        Ok(self.folder.canonicalize().map_err(unusable)?.join(&self.name))
    }

    /// Returns true if the folder holds nothing but this database.
    fn is_alone(&self, folder: &OwnedFd) -> Result<bool, Errno> {
        let own = self.name.as_encoded_bytes();
        for entry in fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let suffix = name.strip_prefix(own);
            let is_ours = matches!(suffix, Some(b"" | b"-wal" | b"-shm" | b"-journal" | b"-reserve"));
            if !is_ours && !matches!(name, b"." | b".." | b"lost+found") && !name.starts_with(TEMP_PREFIX) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check(&self, folder: &OwnedFd, stat: &Stat) -> Result<(), SqliteError> {
        let path = self.path();
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let expected = rustix::process::geteuid().as_raw();
                if stat.st_uid != expected {
                    return Err(SqliteError::FileOwner { path, expected, found: stat.st_uid });
                }
                return self.check_mode(folder, stat);
            }
            FileType::Symlink => "a symbolic link",
            FileType::Directory => "a folder",
            _ => "a pipe, a socket or a device",
        };
        Err(SqliteError::FileKind { path, found })
    }

    /// Refuses a file that every user may write to, and one that its group may write to. In a folder of its own the right of the group is
    /// removed instead.
    fn check_mode(&self, folder: &OwnedFd, stat: &Stat) -> Result<(), SqliteError> {
        if !private_folder::is_writable_to_others(stat) {
            return Ok(());
        }
        let (path, mode) = (self.path(), stat.st_mode & 0o7777);
        let is_alone = self.is_alone(folder).map_err(SqliteError::file("listing the folder"))?;
        let raw = Mode::from_raw_mode(stat.st_mode);
        if raw.contains(Mode::WOTH) || !is_alone {
            return Err(SqliteError::FileMode { path, mode });
        }
        fs::chmodat(folder, &*self.name, raw.difference(Mode::WGRP | Mode::RGRP), AtFlags::empty())
            .map_err(SqliteError::file("closing the database file to its group"))?;
        tracing::warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "the database file was writable to its group; it is no longer");
        Ok(())
    }

    /// Creates an empty file under a name of its own and links it to its place.
    ///
    /// Closing a descriptor of the database would release the locks that SQLite holds elsewhere in this process, as POSIX has it. So the
    /// file is closed before any connection can find it.
    ///
    /// A log and a shared memory without a database are of a removed one, and are removed too. The lock on the folder keeps another process
    /// from removing those of the new database.
    fn create(&self, folder: &OwnedFd) -> Result<(), Errno> {
        lock(folder)?;
        if fs::statat(folder, &*self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        for suffix in ["-wal", "-shm"] {
            let mut name = self.name.clone();
            name.push(suffix);
            match fs::unlinkat(folder, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        let number = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
        let temp = [TEMP_PREFIX, format!("{number:016x}").as_bytes()].concat();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(folder, &*temp, flags, FILE_MODE)?;
        let closed = fs::fchmod(&file, FILE_MODE);
        drop(file);
        let linked = closed.and_then(|()| fs::linkat(folder, &*temp, folder, &*self.name, AtFlags::empty()));
        let removed = fs::unlinkat(folder, &*temp, AtFlags::empty());
        match linked {
            // Another process was first.
            Err(Errno::EXIST) => removed,
            linked => linked.and(removed),
        }
    }
}

/// Locks a folder until its descriptor is closed. Another process holds the lock for some system calls.
fn lock(folder: &OwnedFd) -> Result<(), Errno> {
    const ATTEMPTS: u32 = 1_000;
    for _ in 0..ATTEMPTS {
        match fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
            answer => return answer,
        }
    }
    Err(Errno::WOULDBLOCK)
}

/// The prefix of the name under which a file is created.
const TEMP_PREFIX: &[u8] = b".cloakroom-new-";
