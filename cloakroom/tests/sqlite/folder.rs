//! A temporary folder for a database, and what other programs do to the database.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloakroom::Clock;
use cloakroom::providers::{Record, StoreKey};
use cloakroom::testkit::record;
use rusqlite::Connection;
use tempfile::TempDir;

/// The provider's default table.
pub(crate) const TABLE: &str = "cloakroom_sessions";

pub(crate) struct DataFolder(TempDir);

impl DataFolder {
    pub(crate) fn new() -> DataFolder {
        DataFolder(tempfile::tempdir().unwrap())
    }

    /// Returns the path of the database, in a folder that the provider creates.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("data/sessions.db")
    }
}

/// Opens a database as another program does.
pub(crate) fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection
}

/// Runs statements as another program does.
pub(crate) fn run(path: &Path, sql: &str) {
    open(path).execute_batch(sql).unwrap();
}

/// Returns the one number that a query answers.
pub(crate) fn number(path: &Path, sql: &str) -> i64 {
    open(path).query_row(sql, (), |row| row.get(0)).unwrap()
}

/// Overwrites the record of a row.
pub(crate) fn plant(path: &Path, key: &str, bytes: &[u8]) {
    let sql = format!("UPDATE {TABLE} SET record = ?1 WHERE id = ?2");
    assert_eq!(open(path).execute(&sql, (bytes, key)).unwrap(), 1);
}

/// Makes the tables refuse new and changed rows, as a full disk does, or accept them again.
pub(crate) fn fill(path: &Path, full: bool) {
    refuse(path, &["INSERT", "UPDATE"], full);
}

/// Makes the tables refuse every change, or accept changes again.
pub(crate) fn lock(path: &Path, locked: bool) {
    refuse(path, &["INSERT", "UPDATE", "DELETE"], locked);
}

fn refuse(path: &Path, changes: &[&str], refuse: bool) {
    for change in changes {
        for table in [TABLE.to_owned(), format!("{TABLE}_index")] {
            let name = format!("refuse_{change}_{table}");
            let sql = if refuse {
                format!(
                    "CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
                )
            } else {
                format!("DROP TRIGGER {name}")
            };
            run(path, &sql);
        }
    }
}

/// The variable that tells a child process its part.
const PART: &str = "CLOAKROOM_SQLITE_CHILD";

/// Starts the ignored test `test` of this program in a process of its own, after the shell commands of `setup`. The test finds `part`
/// with [`part`].
pub(crate) fn in_a_child(test: &str, part: &Path, setup: &str) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{setup}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--test-threads=1"])
        .env(PART, part)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the part of this process, if it is a child.
pub(crate) fn part() -> Option<PathBuf> {
    std::env::var_os(PART).map(PathBuf::from)
}

/// Returns a key.
pub(crate) fn key(name: &str) -> StoreKey {
    name.parse().unwrap()
}

/// Returns a new record with the number `n`.
pub(crate) fn a_record(n: u64) -> Record {
    record(&Clock::system()).principal("alice").value("n", n).build()
}

/// Waits until `condition` holds.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The time in which everything happens, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
