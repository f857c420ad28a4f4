//! The root folder: created if missing, and refused if another user could plant sessions in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::FileError;
use super::folder::{self, FOLDER_MODE};

/// Opens the root at `path` and creates it, and the folders above it, if they are missing.
pub(super) fn open(path: &Path) -> Result<(OwnedFd, Stat), FileError> {
    let fail = |cause: io::Error| FileError::Root { path: path.to_owned(), cause };
    const FLAGS: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let root = match fs::open(path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => {
            make(path)?;
            fs::open(path, FLAGS, Mode::empty())
        }
        answer => answer,
    };
    let root =
        root.map_err(|error| match fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => FileError::RootLink { path: path.to_owned() },
            // A part of the path above is no folder; the error of `make` names it.
            Err(Errno::NOTDIR | Errno::LOOP) => make(path).err().unwrap_or_else(|| fail(error.into())),
            Ok(FileType::Directory) | Err(_) => fail(error.into()),
            Ok(_) => FileError::RootKind { path: path.to_owned() },
        })?;
    let stat = fs::fstat(&root).map_err(|error| fail(error.into()))?;
    check_root(path, &root, &stat)?;
    close_folders(&root)?;
    warn_if_network(path, &root);
    Ok((root, stat))
}

/// Warns if the root is on a network file system, where locks and renames promise less.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn warn_if_network(path: &Path, root: &OwnedFd) {
    // NFS, SMB, CIFS and SMB2, by linux/magic.h.
    const NETWORK: [u32; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42];
    if fs::fstatfs(root).is_ok_and(|stat| NETWORK.contains(&(stat.f_type as u32))) {
        tracing::warn!(path = %path.display(), "the session folder is on a network file system; use a local disk");
    }
}

/// Returns true if the root is on a local file system, whose page cache is this machine's own.
#[cfg(target_os = "linux")]
pub(super) fn is_local(root: &OwnedFd) -> bool {
    // ext2 to 4, XFS, Btrfs, F2FS, tmpfs and overlayfs, by linux/magic.h.
    const LOCAL: [u32; 6] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994, 0x794C_7630];
    fs::fstatfs(root).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_local(_: &OwnedFd) -> bool {
    false
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn warn_if_network(_: &Path, _: &OwnedFd) {}

/// Creates the folder and the missing folders above it, from the top down.
fn make(path: &Path) -> Result<(), FileError> {
    let wrong =
        |above: &Path, found| FileError::Above { path: path.to_owned(), above: above.to_owned(), found };
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
            Err(error) => return Err(FileError::Root { path: path.to_owned(), cause: error.into() }),
        }
    }
    for missing in missing.into_iter().rev() {
        let made = match fs::mkdir(missing, FOLDER_MODE) {
            // Another process was first.
            Err(Errno::EXIST) => Ok(()),
            Ok(()) => folder::undo_umask(CWD, missing),
            Err(error) => Err(error),
        };
        made.map_err(|error| FileError::Make {
            path: path.to_owned(),
            missing: missing.to_owned(),
            cause: error.into(),
        })?;
    }
    Ok(())
}

/// Refuses a folder in which other users could have planted sessions. If the folder holds only sessions, it removes the group's right to
/// write instead: Kubernetes grants that right at every start on a volume with an `fsGroup`.
fn check_root(path: &Path, root: &OwnedFd, stat: &Stat) -> Result<(), FileError> {
    let path = path.to_owned();
    let expected = rustix::process::geteuid().as_raw();
    if stat.st_uid != expected {
        return Err(FileError::RootOwner { path, expected, found: stat.st_uid });
    }
    if !is_writable_to_others(stat) {
        return Ok(());
    }
    let mode = stat.st_mode & 0o7777;
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) || !holds_only_sessions(root)? {
        return Err(FileError::RootMode { path, mode });
    }
    let closed = Mode::from_raw_mode(stat.st_mode).difference(Mode::WGRP);
    fs::fchmod(root, closed).map_err(FileError::io("closing the session folder to its group"))?;
    tracing::warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "the session folder was writable to its group; it is no longer");
    Ok(())
}

/// Returns true if every name in the folder is the provider's own, or that of a new file system.
fn holds_only_sessions(root: &OwnedFd) -> Result<bool, FileError> {
    let names = folder::list(root).map_err(FileError::io("listing a folder"))?;
    let known = |name: &String| {
        is_branch(name)
            || matches!(name.as_str(), ".locks" | ".principals" | ".labels" | ".corrupt" | "lost+found")
    };
    Ok(names.iter().all(known))
}

fn is_writable_to_others(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}

/// Closes the folders below the root to other users. A user who may write there could put one visitor's session under the key of
/// another.
fn close_folders(root: &OwnedFd) -> Result<(), FileError> {
    let names = |dir: &OwnedFd| folder::list(dir).map_err(FileError::io("listing a folder"));
    for name in names(root)?.iter().filter(|name| is_branch(name) || name.starts_with('.')) {
        let Some(branch) = close_folder(root, name)? else { continue };
        for name in names(&branch)?.iter().filter(|name| is_branch(name)) {
            close_folder(&branch, name)?;
        }
    }
    Ok(())
}

fn is_branch(name: &str) -> bool {
    name.len() == 1
}

fn close_folder(above: &OwnedFd, name: &str) -> Result<Option<OwnedFd>, FileError> {
    // Ignore a link or a file in a folder's place here. A step that needs the folder reports it.
    let Ok(Some(folder)) = folder::find_folder(above.as_fd(), name) else { return Ok(None) };
    let stat = fs::fstat(&folder).map_err(FileError::io("checking a folder"))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(FileError::Branch { found: "belongs to another user" });
    }
    if is_writable_to_others(&stat) {
        fs::fchmod(&folder, FOLDER_MODE).map_err(FileError::io("closing a folder to others"))?;
        tracing::warn!(
            mode = stat.st_mode & 0o7777,
            "a folder below the session folder was open to other users"
        );
    }
    Ok(Some(folder))
}
