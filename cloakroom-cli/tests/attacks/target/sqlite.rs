//! A file of SQLite for each row.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cloakroom::{Clock, ErrorKind, SqliteProvider, providers::AnyProvider};
use rusqlite::Connection;
use tempfile::TempDir;

/// The deadline of a call, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

fn database(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("sessions").join("sessions.db")
}

pub(super) async fn open(folder: &TempDir, clock: &Clock) -> AnyProvider {
    let builder = SqliteProvider::builder(database(folder)).clock(clock.clone()).deadline(PATIENCE);
    AnyProvider::new(builder.connect().await.expect("a new folder"))
}

/// Returns the files of the database, without the reserve, which holds zeros.
pub(super) fn dump(folder: &TempDir) -> Vec<u8> {
    let files = super::files(folder.path()).into_iter().filter(|path| !path.ends_with("sessions.db-reserve"));
    files.flat_map(|path| std::fs::read(path).expect("a file")).collect()
}

pub(super) fn plant(folder: &TempDir, bytes: &[u8]) {
    let connection = Connection::open(database(folder)).expect("the database");
    connection.busy_timeout(PATIENCE).expect("a setting");
    connection.execute("UPDATE cloakroom_sessions SET record = ?1", (bytes,)).expect("the table");
}

/// Asserts that a file which others may write to is refused, and that stored sessions are the owner's alone.
pub(crate) async fn files_are_the_owners_alone(folder: &TempDir) {
    for path in super::files(folder.path()) {
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
    let other = folder.path().join("sessions").join("other.db");
    std::fs::write(&other, "").expect("a file");
    for mode in [0o666, 0o602, 0o620] {
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(mode)).expect("a mode");
        let refused = SqliteProvider::connect(&other).await.expect_err("a file that others can write to");
        assert_eq!(refused.kind(), ErrorKind::Config, "{mode:o}: {refused}");
    }
    std::fs::remove_file(&other).expect("a file");
}
