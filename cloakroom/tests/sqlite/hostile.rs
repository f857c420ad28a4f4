//! Hostile and broken files: links, owners, modes, damage, removal, and disks that are full or read-only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use cloakroom::providers::Created;
use cloakroom::{ErrorKind, Provider, SqliteProvider};
use rustix::process::geteuid;

use crate::folder::{DataFolder, TABLE, a_record, in_a_child, key, number, part, run};

const NOBODY: u32 = 65_534;

/// The time after which a read notices that its file was removed or replaced: 10 ms, and some more.
const NOTICED: std::time::Duration = std::time::Duration::from_millis(30);

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn refused(path: &Path, kind: ErrorKind, reason: &str) {
    let error = SqliteProvider::connect(path).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// Returns a folder with a database that a provider has made and closed.
async fn a_database() -> DataFolder {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    assert_eq!(provider.create(&key("there"), &a_record(1)).await.unwrap(), Created::Done);
    drop(provider);
    let log = folder.path().with_extension("db-wal");
    crate::folder::wait_until("the database is closed", || !log.exists()).await;
    folder
}

#[test]
fn files_are_their_owners_alone_under_any_umask() {
    for mask in ["000", "022", "777"] {
        let folder = DataFolder::new();
        let setup = format!("umask {mask}");
        let mut child = in_a_child("hostile::child_that_creates", &folder.path(), &setup);
        assert!(child.wait().unwrap().success(), "{mask}");
    }
}

#[tokio::test]
#[ignore = "a part of files_are_their_owners_alone_under_any_umask: the umask is the whole process's"]
async fn child_that_creates() {
    let Some(path) = part() else { return };
    let provider = SqliteProvider::connect(&path).await.unwrap();
    assert_eq!(provider.create(&key("one"), &a_record(1)).await.unwrap(), Created::Done);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for suffix in ["db", "db-wal", "db-shm", "db-reserve"] {
        assert_eq!(mode(&path.with_extension(suffix)), 0o600, "{suffix}");
    }
    let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 4, "no temporary file is left");
}

#[tokio::test]
async fn a_hostile_place_is_refused() {
    let folder = a_database().await;
    let data = folder.path().parent().unwrap().to_owned();
    let link = data.join("link.db");
    symlink(folder.path(), &link).unwrap();
    refused(&link, ErrorKind::Config, "is a symbolic link").await;
    let dangling = data.join("dangling.db");
    symlink("/nowhere/x", &dangling).unwrap();
    refused(&dangling, ErrorKind::Config, "is a symbolic link").await;
    let linked = data.with_extension("link");
    symlink(&data, &linked).unwrap();
    refused(&linked.join("sessions.db"), ErrorKind::Config, "is a symbolic link").await;
    fs::create_dir(data.join("folder.db")).unwrap();
    refused(&data.join("folder.db"), ErrorKind::Config, "is a folder").await;
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket.db")).unwrap();
    refused(&data.join("socket.db"), ErrorKind::Config, "a pipe, a socket or a device").await;
    refused(Path::new("/"), ErrorKind::Config, "a folder").await;
    fs::write(
        data.join("text.db"),
        "a text that is longer than the header of a database is, as texts are wont to be",
    )
    .unwrap();
    set_mode(&data.join("text.db"), 0o600);
    refused(&data.join("text.db"), ErrorKind::Config, "not a SQLite database").await;
    set_mode(&folder.path(), 0o602);
    refused(&folder.path(), ErrorKind::Config, "mode 0602").await;
    // The folder holds more than the database, so the right of the group stays and is refused.
    set_mode(&folder.path(), 0o660);
    refused(&folder.path(), ErrorKind::Config, "mode 0660").await;
    set_mode(&folder.path(), 0o600);
    set_mode(&data, 0o777);
    refused(&folder.path(), ErrorKind::Config, "mode 0777").await;
    set_mode(&data, 0o700);
    // Only root can give files away.
    if geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), None).unwrap();
        refused(&folder.path(), ErrorKind::Config, "belongs to user 65534").await;
        chown(&data, Some(NOBODY), None).unwrap();
        refused(&folder.path(), ErrorKind::Config, "belongs to user 65534").await;
    }
}

#[tokio::test]
async fn a_volume_writable_to_its_group_is_closed() {
    let folder = a_database().await;
    let data = folder.path().parent().unwrap().to_owned();
    set_mode(&data, 0o2770);
    set_mode(&folder.path(), 0o660);
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    assert_eq!((mode(&data), mode(&folder.path())), (0o2750, 0o600));
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_damaged_database_is_an_outage_and_no_empty_store() {
    let folder = a_database().await;
    let mut bytes = fs::read(folder.path()).unwrap();
    bytes[4096..].fill(0xee);
    fs::write(folder.path(), &bytes).unwrap();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    let error = provider.load(&key("there")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
    let error = provider.create(&key("new"), &a_record(1)).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(provider.count().await.unwrap_err().to_string().contains("damaged"));
}

#[tokio::test]
async fn a_truncated_database_is_an_outage() {
    let folder = a_database().await;
    let bytes = fs::read(folder.path()).unwrap();
    fs::write(folder.path(), &bytes[..4096]).unwrap();
    let error = match SqliteProvider::connect(folder.path()).await {
        Ok(provider) => provider.load(&key("there")).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
}

fn remove(folder: &DataFolder, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::remove_file(folder.path().with_extension(suffix)).unwrap();
    }
}

#[tokio::test]
async fn a_change_after_the_removal_goes_to_a_new_file() {
    for removed in [&["db"][..], &["db", "db-wal", "db-shm"], &["db-wal"]] {
        let folder = DataFolder::new();
        let provider = SqliteProvider::connect(folder.path()).await.unwrap();
        assert_eq!(provider.create(&key("old"), &a_record(1)).await.unwrap(), Created::Done);
        assert!(provider.load(&key("old")).await.unwrap().is_some());
        remove(&folder, removed);
        assert_eq!(provider.create(&key("new"), &a_record(1)).await.unwrap(), Created::Done, "{removed:?}");
        let other = SqliteProvider::connect(folder.path()).await.unwrap();
        assert!(other.load(&key("new")).await.unwrap().is_some(), "{removed:?}: it was acknowledged");
        assert!(provider.load(&key("new")).await.unwrap().is_some(), "{removed:?}");
        assert_eq!(mode(&folder.path()), 0o600);
    }
}

#[tokio::test]
async fn a_read_after_the_removal_finds_nothing_of_the_old_file() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    assert_eq!(provider.create(&key("old"), &a_record(1)).await.unwrap(), Created::Done);
    assert!(provider.load(&key("old")).await.unwrap().is_some());
    remove(&folder, &["db", "db-wal", "db-shm"]);
    tokio::time::sleep(NOTICED).await;
    assert_eq!(provider.load(&key("old")).await.unwrap(), None);
    assert_eq!(provider.count().await.unwrap(), 0);
}

#[tokio::test]
async fn no_process_reads_a_log_that_was_removed() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    assert_eq!(provider.create(&key("old"), &a_record(1)).await.unwrap(), Created::Done);
    assert!(provider.load(&key("old")).await.unwrap().is_some());
    remove(&folder, &["db-wal", "db-shm"]);
    let mut child = in_a_child("hostile::child_that_begins_a_log", &folder.path(), "true");
    let begun = folder.path().with_extension("begun");
    crate::folder::wait_until("the child has written", || begun.exists()).await;
    tokio::time::sleep(NOTICED).await;
    assert!(provider.load(&key("new")).await.unwrap().is_some(), "the other process has acknowledged it");
    assert_eq!(provider.count().await.unwrap(), 1);
    assert!(provider.delete(&key("new")).await.unwrap());
    assert_eq!(number(&folder.path(), &format!("SELECT COUNT(*) FROM {TABLE}")), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
#[ignore = "a part of no_process_reads_a_log_that_was_removed: another process begins the log"]
async fn child_that_begins_a_log() {
    let Some(path) = part() else { return };
    let provider = SqliteProvider::connect(&path).await.unwrap();
    assert_eq!(provider.create(&key("new"), &a_record(1)).await.unwrap(), Created::Done);
    fs::write(path.with_extension("begun"), "").unwrap();
    tokio::time::sleep(crate::folder::PATIENCE).await;
}

#[tokio::test]
async fn a_replaced_file_is_opened_again() {
    let (folder, other) = (DataFolder::new(), a_database().await);
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    assert_eq!(provider.create(&key("old"), &a_record(1)).await.unwrap(), Created::Done);
    remove(&folder, &["db-wal", "db-shm"]);
    fs::rename(other.path(), folder.path()).unwrap();
    tokio::time::sleep(NOTICED).await;
    assert!(provider.load(&key("there")).await.unwrap().is_some());
    assert_eq!(provider.load(&key("old")).await.unwrap(), None);
    assert!(provider.delete(&key("there")).await.unwrap());
    assert_eq!(number(&folder.path(), &format!("SELECT COUNT(*) FROM {TABLE}")), 0);
}

#[tokio::test]
async fn a_place_that_became_hostile_is_an_outage() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    remove(&folder, &["db"]);
    symlink("/nowhere/x", folder.path()).unwrap();
    let error = provider.create(&key("new"), &a_record(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("while in use") && error.to_string().contains("symbolic link"),
        "{error}"
    );
    assert_eq!(provider.load(&key("new")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    fs::remove_file(folder.path()).unwrap();
    assert_eq!(provider.create(&key("new"), &a_record(1)).await.unwrap(), Created::Done);
}

#[tokio::test]
async fn a_dropped_table_is_an_error_that_names_the_cure() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    run(&folder.path(), &format!("DROP TABLE {TABLE}"));
    for error in [
        provider.create(&key("one"), &a_record(1)).await.unwrap_err(),
        provider.load(&key("one")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("cloakroom schema sqlite"), "{error}");
    }
}

#[tokio::test]
async fn a_read_only_file_is_an_outage_that_says_so() {
    let folder = a_database().await;
    let data = folder.path().parent().unwrap().to_owned();
    set_mode(data.parent().unwrap(), 0o755);
    set_mode(&folder.path(), 0o400);
    if geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), None).unwrap();
        chown(&data, Some(NOBODY), None).unwrap();
    }
    // Rights do not stop root.
    let setup = "[ \"$(id -u)\" != 0 ] || set -- setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let mut child = in_a_child("hostile::child_that_may_not_write", &folder.path(), setup);
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "a part of a_read_only_file_is_an_outage_that_says_so: rights do not stop root"]
async fn child_that_may_not_write() {
    let Some(path) = part() else { return };
    let error = match SqliteProvider::connect(&path).await {
        Ok(provider) => provider.create(&key("one"), &a_record(1)).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn a_full_disk_ends_sessions_and_begins_none() {
    let folder = DataFolder::new();
    let data = folder.path().parent().unwrap().to_owned();
    fs::create_dir(&data).unwrap();
    // A mount of the child's own, which ends with it.
    let mount = format!("mount -t tmpfs -o size=20m,mode=700 tmpfs '{}'", data.display());
    let setup = format!(
        "set -- unshare --user --map-root-user --mount sh -c '{}; exec \"$@\"' sh \"$@\"",
        mount.replace('\'', "")
    );
    let mut child = in_a_child("hostile::child_on_a_small_disk", &folder.path(), &setup);
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "a part of a_full_disk_ends_sessions_and_begins_none: it has a disk of its own"]
async fn child_on_a_small_disk() {
    let Some(path) = part() else { return };
    let provider = SqliteProvider::connect(&path).await.unwrap();
    let large =
        cloakroom::testkit::record(&cloakroom::Clock::system()).principal("alice").filled(6_000).build();
    for round in 0..3 {
        let mut stored = Vec::new();
        let error = loop {
            let name = key(&format!("r{round}-n{}", stored.len()));
            match provider.create(&name, &large).await {
                Ok(created) => assert_eq!(created, Created::Done),
                Err(error) => break error,
            }
            stored.push(name);
            assert!(stored.len() < 10_000, "the disk is small");
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("full"), "{error}");
        assert!(stored.len() > 20, "{}", stored.len());
        assert_eq!(provider.count().await.unwrap(), stored.len() as u64);
        for name in &stored {
            assert_eq!(provider.load(name).await.unwrap().as_ref(), Some(&large), "acknowledged");
        }
        for name in &stored {
            assert!(provider.delete(name).await.unwrap(), "a logout needs no room");
        }
        assert_eq!(provider.count().await.unwrap(), 0);
        // The provider takes its reserve again, once a second at most.
        let again = key(&format!("r{round}-again"));
        let start = std::time::Instant::now();
        while provider.create(&again, &large).await.is_err() {
            assert!(start.elapsed() < crate::folder::PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(provider.delete(&again).await.unwrap());
    }
}
