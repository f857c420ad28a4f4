//! The root folder, and the folders below it, which are closed to other users.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Stat};
use rustix::io::Errno;

use super::error::FileError;
use super::folder;
use crate::provider::private_folder::{self, FOLDER_MODE};

/// Opens the root at `path` and creates it, and the folders above it, if they are missing.
pub(super) fn open(path: &Path) -> Result<(OwnedFd, Stat), FileError> {
    let (root, stat) = private_folder::open(path, holds_only_sessions)?;
    close_folders(&root)?;
    if private_folder::is_on_network(&root) {
        tracing::warn!(path = %path.display(), "the session folder is on a network file system; use a local disk");
    }
    Ok((root, stat))
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

/// Returns true if every name in the folder is the provider's own, or that of a new file system.
fn holds_only_sessions(root: &OwnedFd) -> Result<bool, Errno> {
    let names = folder::list(root)?;
    let known = |name: &String| {
        is_branch(name)
            || matches!(name.as_str(), ".locks" | ".principals" | ".labels" | ".corrupt" | "lost+found")
    };
    Ok(names.iter().all(known))
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
    if private_folder::is_writable_to_others(&stat) {
        fs::fchmod(&folder, FOLDER_MODE).map_err(FileError::io("closing a folder to others"))?;
        tracing::warn!(
            mode = stat.st_mode & 0o7777,
            "a folder below the session folder was open to other users"
        );
    }
    Ok(Some(folder))
}
