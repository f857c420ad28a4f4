//! A folder for sessions: created if missing, and refused if another user could plant sessions in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::ErrorKind;

pub(crate) const FOLDER_MODE: Mode = Mode::RWXU;

/// Opens the folder at `path` and creates it, and the folders above it, if they are missing.
///
/// A folder in which other users could have planted sessions is refused. If only its group may write to it and `holds_only_sessions` is
/// true, the function removes that right instead: Kubernetes grants it at every start on a volume with an `fsGroup`.
pub(crate) fn open(
    path: &Path,
    holds_only_sessions: impl FnOnce(&OwnedFd) -> Result<bool, Errno>,
) -> Result<(OwnedFd, Stat), FolderError> {
    let fail = |cause: io::Error| FolderError::Unusable { path: path.to_owned(), cause };
    const FLAGS: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let folder = match fs::open(path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => {
            make(path)?;
            fs::open(path, FLAGS, Mode::empty())
        }
        answer => answer,
    };
    let folder =
        folder.map_err(|error| match fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => FolderError::Link { path: path.to_owned() },
            // A part of the path above is no folder; the error of `make` names it.
            Err(Errno::NOTDIR | Errno::LOOP) => make(path).err().unwrap_or_else(|| fail(error.into())),
            Ok(FileType::Directory) | Err(_) => fail(error.into()),
            Ok(_) => FolderError::NoFolder { path: path.to_owned() },
        })?;
    let stat = fs::fstat(&folder).map_err(|error| fail(error.into()))?;
    check(path, &folder, &stat, holds_only_sessions)?;
    Ok((folder, stat))
}

/// Creates the folder and the missing folders above it, from the top down.
fn make(path: &Path) -> Result<(), FolderError> {
    let wrong =
        |above: &Path, found| FolderError::Above { path: path.to_owned(), above: above.to_owned(), found };
    let mut missing = Vec::new();
    for above in path.ancestors() {
        match fs::stat(above) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => break,
            Ok(_) => return Err(wrong(above, "is not a folder")),
            // `stat` of a broken link fails with NOENT, but `lstat` finds the link. No folder can be created in its place.
            Err(Errno::NOENT) if fs::lstat(above).is_ok() => {
                return Err(wrong(above, "is a symbolic link that leads nowhere"));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => missing.push(above),
            Err(Errno::LOOP) => return Err(wrong(above, "leads through symbolic links in a circle")),
            Err(error) => return Err(FolderError::Unusable { path: path.to_owned(), cause: error.into() }),
        }
    }
    for missing in missing.into_iter().rev() {
        let made = match fs::mkdir(missing, FOLDER_MODE) {
            // Another process was first.
            Err(Errno::EXIST) => Ok(()),
            Ok(()) => undo_umask(CWD, missing),
            Err(error) => Err(error),
        };
        made.map_err(|error| FolderError::Make {
            path: path.to_owned(),
            missing: missing.to_owned(),
            cause: error.into(),
        })?;
    }
    Ok(())
}

/// Sets a new folder's mode to [`FOLDER_MODE`] if the umask has changed it.
pub(crate) fn undo_umask(
    dir: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg + Copy,
) -> Result<(), Errno> {
    let stat = fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match Mode::from_raw_mode(stat.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO) {
        FOLDER_MODE => Ok(()),
        _ => fs::chmodat(&dir, name, FOLDER_MODE, AtFlags::empty()),
    }
}

/// Refuses a folder of another user, or one that others may write to: such a user could put a session file into it, and log in with that.
///
/// The group's right to write is removed where the folder holds nothing but sessions, as a `umask` of 002 leaves it.
fn check(
    path: &Path,
    folder: &OwnedFd,
    stat: &Stat,
    holds_only_sessions: impl FnOnce(&OwnedFd) -> Result<bool, Errno>,
) -> Result<(), FolderError> {
    let path = path.to_owned();
    let expected = rustix::process::geteuid().as_raw();
    if stat.st_uid != expected {
        return Err(FolderError::Owner { path, expected, found: stat.st_uid });
    }
    if !is_writable_to_others(stat) {
        return Ok(());
    }
    let mode = stat.st_mode & 0o7777;
    let failed = |doing: &'static str| move |cause: Errno| FolderError::Io { doing, cause: cause.into() };
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH)
        || !holds_only_sessions(folder).map_err(failed("listing a folder"))?
    {
        return Err(FolderError::Mode { path, mode });
    }
    let closed = Mode::from_raw_mode(stat.st_mode).difference(Mode::WGRP);
    fs::fchmod(folder, closed).map_err(failed("closing the session folder to its group"))?;
    tracing::warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "the session folder was writable to its group; it is no longer");
    Ok(())
}

pub(crate) fn is_writable_to_others(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}

/// Returns true if the folder is on a network file system, where locks, renames and shared memory promise less.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_on_network(folder: &OwnedFd) -> bool {
    // NFS, SMB, CIFS and SMB2, by linux/magic.h.
    const NETWORK: [u32; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42];
    fs::fstatfs(folder).is_ok_and(|stat| NETWORK.contains(&(stat.f_type as u32)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_on_network(_: &OwnedFd) -> bool {
    false
}

/// The reason why a folder cannot hold sessions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("expected a session folder, found that {path:?} is a symbolic link; name the folder it leads to")]
    Link { path: PathBuf },
    #[error(
        "expected a session folder, found that {path:?} is not a folder; name another path or move the file away"
    )]
    NoFolder { path: PathBuf },
    #[error(
        "expected a session folder of user {expected}, who runs this process, found that {path:?} belongs to user {found}; \
         chown it or name another folder"
    )]
    Owner { path: PathBuf, expected: u32, found: u32 },
    #[error(
        "expected a session folder that only its owner may write to, found that {path:?} has mode {mode:04o}, so that other \
         users could plant sessions; run chmod go-w, or name a folder that holds only sessions"
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "the session folder {path:?} cannot be opened or created; name a folder that this process may use"
    )]
    Unusable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the session folder {path:?} cannot be created: {above:?} {found}; name another path or repair that one"
    )]
    Above { path: PathBuf, above: PathBuf, found: &'static str },
    #[error(
        "the session folder {path:?} cannot be created, since creating {missing:?} failed; create it by hand or name another path"
    )]
    Make {
        path: PathBuf,
        missing: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "{doing} failed; check that the disk works and has room, and that no other program changes the session folder"
    )]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}

impl FolderError {
    pub(crate) fn kind(&self) -> ErrorKind {
        use FolderError as F;
        match self {
            F::Link { .. } | F::NoFolder { .. } | F::Owner { .. } | F::Mode { .. } | F::Above { .. } => {
                ErrorKind::Config
            }
            F::Unusable { .. } | F::Make { .. } | F::Io { .. } => ErrorKind::Unavailable,
        }
    }
}
