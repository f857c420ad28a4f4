//! The environment of the folder: paths, rights, volumes, backups, full and read-only disks.

use crate::record::base;
use std::os::unix::fs::chown;

use super::*;

const NOBODY: u32 = 65_534;

/// Runs a test in a child process that is not root, since permission bits do not stop root.
fn as_nobody(test: &str, role: &Path) -> std::process::Child {
    let setup = "[ \"$(id -u)\" != 0 ] || set -- setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    in_a_child(test, role, setup)
}

/// Gives `path` and everything below it to the user of [`as_nobody`], and sets the modes of folders and files.
fn hand_over(path: &Path, folder: u32, file: u32) {
    let is_folder = fs::symlink_metadata(path).unwrap().is_dir();
    if is_folder {
        names(path).iter().for_each(|name| hand_over(&path.join(name), folder, file));
    }
    if geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(if is_folder { folder } else { file })).unwrap();
}

#[test]
fn a_path_that_cannot_be_created_is_refused() {
    let rig = Rig::new();
    let at = |path: &str| rig.folder.path().join(path);
    symlink("/nowhere/x", at("dangling")).unwrap();
    symlink(at("two"), at("one")).unwrap();
    symlink(at("one"), at("two")).unwrap();
    fs::write(at("file"), "").unwrap();
    let refused = |path: &Path, kind: ErrorKind, reason: &str| {
        let error = FileProvider::connect(path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    for below in ["sessions", "deep/down/sessions"] {
        refused(
            &at("dangling").join(below),
            ErrorKind::Config,
            "dangling\" is a symbolic link that leads nowhere",
        );
        refused(&at("one").join(below), ErrorKind::Config, "in a circle");
        refused(&at("file").join(below), ErrorKind::Config, "file\" is not a folder");
        refused(&Path::new("/proc/nothing").join(below), ErrorKind::Unavailable, "\"/proc/nothing\" failed");
        refused(&at(&"x".repeat(300)).join(below), ErrorKind::Unavailable, "cannot be opened or created");
    }
    refused(Path::new("/proc/nothing"), ErrorKind::Unavailable, "\"/proc/nothing\" failed");
    refused(&at(&"d/".repeat(3000)), ErrorKind::Unavailable, "cannot be opened or created");
    refused(&at("a\0b"), ErrorKind::Unavailable, "cannot be opened or created");
    let deep = at(&"d/".repeat(900));
    FileProvider::connect(&deep).unwrap();
    assert_eq!(mode(&deep), 0o700);

    // A valid link above the folder is followed.
    fs::create_dir(at("real")).unwrap();
    symlink(at("real"), at("link")).unwrap();
    FileProvider::connect(at("link/deep/sessions")).unwrap();
    assert!(at("real/deep/sessions").is_dir());
}

#[cfg(feature = "beego")]
#[test]
fn a_beego_folder_is_refused_for_the_same_reasons() {
    let rig = Rig::new();
    symlink("/nowhere/x", rig.folder.path().join("dangling")).unwrap();
    let builder = FileProvider::builder(rig.folder.path().join("dangling/tmp"));
    let error = builder.connect_beego(Duration::from_secs(60)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

/// Does what Kubernetes does at every start to a volume with an `fsGroup`.
fn give_to_group(path: &Path) {
    let bits = if fs::symlink_metadata(path).unwrap().is_dir() { 0o2070 } else { 0o060 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode(path) | bits)).unwrap();
    names(path).iter().for_each(|name| give_to_group(&path.join(name)));
}

#[tokio::test]
async fn a_folder_writable_to_its_group_is_closed() {
    let rig = Rig::new();
    let record = rig.of("alice");
    assert_eq!(rig.provider().create(&key("ab12"), &record).await.unwrap(), Created::Done);
    for _ in 0..2 {
        give_to_group(&rig.path());
        assert_eq!(mode(&rig.path()), 0o2770);
        let provider = rig.provider();
        for folder in ["", "a", "a/b", ".locks", ".principals"] {
            assert_eq!(
                mode(&rig.path().join(folder)) & 0o077,
                0o050 * u32::from(folder.is_empty()),
                "{folder}"
            );
        }
        assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(record.clone()));
        assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
    }
    // A folder that is writable to everybody, or holds other files, is still refused.
    for (foreign, open) in [(None, 0o2777), (Some("of somebody else"), 0o2770)] {
        foreign.iter().for_each(|name| fs::write(rig.path().join(name), "").unwrap());
        fs::set_permissions(rig.path(), fs::Permissions::from_mode(open)).unwrap();
        let error = FileProvider::connect(rig.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("mode {open:04o}")), "{error}");
        assert_eq!(mode(&rig.path()), open, "its mode is unchanged");
    }
}

#[cfg(feature = "beego")]
#[tokio::test]
async fn a_beego_folder_writable_to_its_group_is_closed() {
    use crate::provider::AnyProvider;
    let rig = Rig::new();
    let open = || -> AnyProvider {
        FileProvider::builder(rig.path()).connect_beego(Duration::from_secs(3600)).unwrap()
    };
    open();
    rig.plant(&key("ab12"), b"a value");
    give_to_group(&rig.path());
    assert_eq!(open().count().await.unwrap(), 1);
    assert_eq!((mode(&rig.path()) & 0o022, mode(&rig.path().join("a/b")) & 0o022), (0, 0));
}

/// Copies a folder as `cp -al` does: new folders, and a hard link for each file.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { link_all(&from, &to) } else { fs::hard_link(&from, &to).unwrap() }
    }
}

#[tokio::test]
async fn a_backup_by_hard_links_loses_no_session() {
    let rig = Rig::new();
    let (provider, record) = (rig.provider(), rig.of("alice"));
    for name in ["ab12", "cd34"] {
        assert_eq!(provider.create(&key(name), &record).await.unwrap(), Created::Done);
    }
    let backup = rig.folder.path().join("backup");
    link_all(&rig.path(), &backup);
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(record.clone()));
    assert_eq!(provider.count().await.unwrap(), 2);
    assert_eq!(keys_of(&provider, "alice").await, ["ab12", "cd34"]);
    let mut next = record.clone();
    next.edit(|meta| meta.times.version = 2);
    assert_eq!(provider.update(&key("ab12"), &next, &base(1)).await.unwrap(), Updated::Done);
    let now = rig.time.clock().now();
    assert_eq!(provider.touch(&key("cd34"), now).await.unwrap(), Touched::Done);
    assert!(provider.delete(&key("cd34")).await.unwrap());
    assert_eq!(rig.aside(), [""; 0]);
    for name in ["a/b/ab12", "c/d/cd34"] {
        assert_eq!(fs::read(backup.join(name)).unwrap(), file_bytes(&record), "the backup is unchanged");
    }
    // Restore: open a provider on the linked copy.
    let restored = FileProvider::builder(&backup).clock(rig.time.clock()).connect().unwrap();
    assert_eq!(restored.load(&key("cd34")).await.unwrap(), Some(record));
    assert_eq!(restored.count().await.unwrap(), 2);
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[cfg(feature = "beego")]
#[tokio::test]
async fn a_backup_of_beego_files_loses_no_session() {
    let rig = Rig::new();
    let provider = FileProvider::builder(rig.path()).connect_beego(Duration::from_secs(3600)).unwrap();
    rig.plant(&key("ab12"), b"a value");
    link_all(&rig.path(), &rig.folder.path().join("backup"));
    assert_eq!(provider.count().await.unwrap(), 1);
    assert!(provider.delete(&key("ab12")).await.unwrap());
    assert_eq!(fs::read(rig.folder.path().join("backup/a/b/ab12")).unwrap(), b"a value");
}

#[tokio::test]
async fn the_error_names_what_replaced_a_lock_file() {
    let rig = Rig::new();
    let provider = rig.provider();
    let lock = rig.path().join(".locks/06");
    let outside = rig.folder.path().join("outside");
    type Plant<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let plants: [Plant<'_>; 3] = [
        ("a symbolic link", Box::new(|| symlink(&outside, &lock).unwrap())),
        ("a folder", Box::new(|| fs::create_dir(&lock).unwrap())),
        ("a pipe", Box::new(|| rustix::fs::mkfifoat(rustix::fs::CWD, &lock, FILE_MODE).unwrap())),
    ];
    const FILE_MODE: rustix::fs::Mode = rustix::fs::Mode::RUSR.union(rustix::fs::Mode::WUSR);
    for (found, plant) in plants {
        if fs::remove_file(&lock).is_err() {
            fs::remove_dir(&lock).unwrap();
        }
        plant();
        let error = provider.create(&key("ab12"), &rig.record()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.to_string().contains(&format!("a lock file below the session folder is {found}")),
            "{error}"
        );
        assert_eq!(provider.load(&key("ab12")).await.unwrap(), None, "reads need no lock");
    }
    assert!(!outside.exists());
}

#[tokio::test]
async fn a_delete_works_where_no_file_can_be_written() {
    let rig = Rig::new();
    let provider = rig.provider();
    for (name, user) in [("ab12", "alice"), ("ab13", "bob"), ("ab14", "bob")] {
        assert_eq!(provider.create(&key(name), &rig.of(user)).await.unwrap(), Created::Done);
    }
    fs::remove_dir_all(rig.path().join(".locks")).unwrap();
    hand_over(rig.folder.path(), 0o700, 0o600);
    // No lock file can be created, as on a full disk, but records can be removed from their folder.
    fs::set_permissions(rig.path(), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(as_nobody("environment::child_that_deletes", &rig.path()).wait().unwrap().success());
    assert_eq!(names(&rig.path().join("a/b")), ["ab13"]);
}

#[tokio::test]
#[ignore = "a part of a_delete_works_where_no_file_can_be_written: permission bits do not stop root"]
async fn child_that_deletes() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD").map(PathBuf::from) else { return };
    let rig = Rig::new();
    let open = || FileProvider::builder(&root).clock(rig.time.clock()).connect().unwrap();
    let (one, other) = (open(), open());
    assert!(one.delete(&key("ab12")).await.unwrap());
    assert_eq!(one.load(&key("ab12")).await.unwrap(), None);
    // Without a lock file, the lock on the root folder separates the processes.
    let held = hold(&one, &key("ab14")).await;
    let name = key("ab14");
    let mut deleting = pin!(other.delete(&name));
    let late = tokio::time::timeout(Duration::from_millis(50), deleting.as_mut()).await;
    assert!(late.is_err(), "two deletes held the lock at once");
    drop(held);
    assert!(deleting.await.unwrap());
}

#[tokio::test]
async fn a_read_only_store_can_be_read() {
    let rig = Rig::new();
    let provider = rig.provider();
    for (name, user) in [("ab12", "alice"), ("cd34", "bob")] {
        assert_eq!(provider.create(&key(name), &rig.of(user)).await.unwrap(), Created::Done);
    }
    for with_locks in [true, false] {
        if !with_locks {
            fs::remove_dir_all(rig.path().join(".locks")).unwrap();
        }
        hand_over(rig.folder.path(), 0o500, 0o400);
        fs::set_permissions(rig.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(as_nobody("environment::child_that_reads", &rig.path()).wait().unwrap().success());
        if geteuid().is_root() {
            continue;
        }
        hand_over(rig.folder.path(), 0o700, 0o600);
    }
}

#[tokio::test]
#[ignore = "a part of a_read_only_store_can_be_read: permission bits do not stop root"]
async fn child_that_reads() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD").map(PathBuf::from) else { return };
    let rig = Rig::new();
    let provider = FileProvider::builder(root).clock(rig.time.clock()).connect().unwrap();
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.of("alice")));
    assert_eq!(provider.load(&key("in-no-file")).await.unwrap(), None);
    assert_eq!(provider.count().await.unwrap(), 2);
    assert_eq!(provider.scan(None, 9).await.unwrap().entries.len(), 2);
    assert_eq!(keys_of(&provider, "bob").await, ["cd34"]);
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 0, more: false });
    let mut next = rig.of("alice");
    next.edit(|meta| meta.times.version = 2);
    let now = rig.time.clock().now();
    let refused = [
        provider.update(&key("ab12"), &next, &base(1)).await.map(drop),
        provider.touch(&key("ab12"), now).await.map(drop),
        provider.create(&key("ef56"), &next).await.map(drop),
        provider.delete(&key("ab12")).await.map(drop),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("denied"), "{cause}");
    }
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.of("alice")));
    assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
}

#[test]
fn an_unreadable_mode_is_an_error_once() {
    let rig = Rig::new();
    rig.provider();
    rig.plant(&key("ab12"), &file_bytes(&rig.record()));
    hand_over(rig.folder.path(), 0o700, 0o600);
    fs::set_permissions(rig.file(&key("ab12")), fs::Permissions::from_mode(0o200)).unwrap();
    assert!(as_nobody("environment::child_that_may_not_read", &rig.path()).wait().unwrap().success());
    assert_eq!(rig.aside().len(), 1);
}

#[tokio::test]
#[ignore = "a part of an_unreadable_mode_is_an_error_once: permission bits do not stop root"]
async fn child_that_may_not_read() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD") else { return };
    let rig = Rig::new();
    let provider = FileProvider::builder(root).clock(rig.time.clock()).connect().unwrap();
    let error = provider.load(&key("ab12")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("mode 0200"), "{error}");
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), None);
}

#[test]
fn a_full_disk_allows_reads_and_deletes() {
    let rig = Rig::new();
    let full = "trap '' XFSZ; ulimit -f 0";
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let provider = rig.provider();
    for name in ["ab12", "cd34"] {
        let created = runtime.block_on(provider.create(&key(name), &rig.of("alice")));
        assert_eq!(created.unwrap(), Created::Done);
    }
    assert!(in_a_child("environment::child_on_a_full_disk", &rig.path(), full).wait().unwrap().success());
    assert_eq!((names(&rig.path().join("a/b")), names(&rig.path().join("c/d")).len()), (vec![], 1));
}

#[tokio::test]
#[ignore = "a part of a_full_disk_allows_reads_and_deletes: the limit is the whole process's"]
async fn child_on_a_full_disk() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD") else { return };
    let rig = Rig::new();
    let provider = FileProvider::builder(root).clock(rig.time.clock()).connect().unwrap();
    let now = rig.time.clock().now();
    let stone = rig.of("alice").tombstone(&Mark::Ended, Millis(1), Millis::NEVER);
    for refused in [
        provider.update(&key("ab12"), &stone, &base(1)).await.map(drop),
        provider.touch(&key("ab12"), now).await.map(drop),
        provider.rename(&key("ab12"), &key("ef56"), &rig.of("alice"), 1, None).await.map(drop),
        provider.create(&key("ef56"), &rig.record()).await.map(drop),
    ] {
        assert_eq!(kind(refused), ErrorKind::Unavailable);
    }
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.of("alice")));
    assert_eq!(provider.load(&key("ef56")).await.unwrap(), None);
    assert_eq!(keys_of(&provider, "alice").await, ["ab12", "cd34"]);
    assert!(provider.delete(&key("ab12")).await.unwrap());
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), None);
    assert_eq!(keys_of(&provider, "alice").await, ["cd34"]);
    assert_eq!(provider.count().await.unwrap(), 1);
}
