//! Tests of the file provider's own behaviour. The conformance suite tests the contract.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::*;
use crate::clock::{ManualClock, Millis};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind};
use crate::principal::Principal;
use crate::record::base;
use crate::record::{IndexEntry, Mark, Meta, Times};

mod concurrent;
mod counting;
mod environment;
mod waiting;

/// The session id in Beego's documentation of its file provider.
const BEEGO_KEY: &str = "xsnkjklkjjkh27hjh78908";
const EMPTY_MAP: &[u8] = b"\x80";

struct Rig {
    folder: TempDir,
    time: ManualClock,
}

impl Rig {
    fn new() -> Self {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Rig { folder: tempfile::tempdir().unwrap(), time: ManualClock::starting_at(start) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions")
    }

    fn provider(&self) -> FileProvider {
        FileProvider::builder(self.path()).clock(self.time.clock()).connect().unwrap()
    }

    /// Returns a live record that expires in a minute.
    fn record(&self) -> Record {
        let now = self.time.clock().millis();
        let times = Times {
            version: 1,
            created: now,
            issued: now,
            last_active: now,
            idle_deadline: now.after(Duration::from_secs(60)),
            absolute_deadline: Millis::NEVER,
            authenticated: None,
        };
        Record::new(&Meta::new(times, None), Codec::MESSAGE_PACK, EMPTY_MAP)
    }

    fn of(&self, user: &str) -> Record {
        let mut record = self.record();
        record.edit(|meta| meta.principal = Some(principal(user)));
        record
    }

    fn file(&self, key: &StoreKey) -> PathBuf {
        let text = key.as_str();
        self.path().join(&text[..1]).join(&text[1..2]).join(text)
    }

    /// Writes `bytes` to the file of `key`.
    fn plant(&self, key: &StoreKey, bytes: &[u8]) {
        fs::create_dir_all(self.file(key).parent().unwrap()).unwrap();
        fs::write(self.file(key), bytes).unwrap();
    }

    fn aside(&self) -> Vec<String> {
        names(&self.path().join(".corrupt"))
    }
}

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.into_iter().collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Encodes a record's file without the code under test.
fn file_bytes(record: &Record) -> Vec<u8> {
    let mut bytes = record.as_bytes().to_vec();
    let mut crc = u32::MAX;
    for byte in &bytes {
        crc ^= u32::from(*byte);
        (0..8).for_each(|_| crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()));
    }
    bytes.extend_from_slice(&(!crc).to_be_bytes());
    bytes
}

fn kind<T: fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.unwrap_err().kind()
}

async fn keys_of(provider: &FileProvider, user: &str) -> Vec<String> {
    let listed = provider.indexed(&IndexEntry::from(&principal(user)), None, 1000).await.unwrap().entries;
    listed.into_iter().map(|listed| listed.key.as_str().to_owned()).collect()
}

/// Takes the lock of `key`. Another process that opens the folder may hold it for a moment.
async fn hold(provider: &FileProvider, key: &StoreKey) -> locks::LockGuard {
    let tree = provider.0.tree().unwrap();
    for _ in 0..1000 {
        let local = provider.0.locks.lock_local(locks::stripe(key)).await;
        if let locks::LockAttempt::Locked(held) = local.try_lock_file(tree.root().as_fd()).unwrap() {
            return held;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the lock stays taken");
}

/// Returns every index entry, as the first eight digits of the user's digest and the key.
fn index_entries(rig: &Rig) -> Vec<String> {
    let all = rig.path().join(".principals");
    let mut marks = Vec::new();
    for user in names(&all) {
        marks.extend(names(&all.join(&user)).iter().map(|key| format!("{}/{key}", &user[..8])));
    }
    marks
}

/// Keeps the only blocking thread busy until the end of the test, as on a machine whose disk hangs.
#[test]
fn a_cached_file_is_read_without_a_thread() {
    let (rig, known, unknown) = (Rig::new(), key("inmemory"), key("in-no-file"));
    let (provider, record) = (rig.provider(), rig.record());
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    assert_eq!(runtime.block_on(provider.create(&known, &record)).unwrap(), Created::Done);
    assert_eq!(
        runtime.block_on(provider.load(&unknown)).unwrap(),
        None,
        "now the kernel has that name in memory too"
    );
    let tree = provider.0.tree().unwrap();
    let cached = folder::read_cached(tree.root().as_fd(), "i/n/inmemory").is_ok();

    let (free, taken) = std::sync::mpsc::channel::<()>();
    let blocked = runtime.spawn_blocking(move || taken.recv());
    let _inside = runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    for (key, there) in [(&known, true), (&unknown, false)] {
        let mut load = pin!(provider.load(key));
        match load.as_mut().poll(&mut context) {
            Poll::Ready(found) => {
                assert!(cached, "read in place, though the kernel cannot tell what it has");
                assert_eq!(found.unwrap(), there.then(|| record.clone()));
            }
            Poll::Pending => {
                assert!(!cached, "waited for a thread, though the kernel can tell what it has")
            }
        }
    }
    // An unreadable file is moved under a lock, which the load may have to wait for.
    rig.plant(&known, b"no record");
    let mut load = pin!(provider.load(&known));
    assert!(load.as_mut().poll(&mut context).is_pending());
    drop(free);
    runtime.block_on(blocked).unwrap().unwrap_err();
    assert_eq!(runtime.block_on(load).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(rig.aside().len(), 1);
}

#[tokio::test]
async fn a_record_has_the_documented_path_and_content() {
    let rig = Rig::new();
    let provider = rig.provider();
    let key = key(BEEGO_KEY);
    assert_eq!(provider.create(&key, &rig.record()).await.unwrap(), Created::Done);
    let file = rig.path().join("x/s").join(BEEGO_KEY);
    assert_eq!(fs::read(&file).unwrap(), file_bytes(&rig.record()));
    assert_eq!(names(&rig.path()), [".locks", "x"]);
    assert_eq!(names(&rig.path().join("x")), ["s"]);
    assert_eq!(names(&rig.path().join("x/s")), [BEEGO_KEY], "no temporary file is left");
}

#[tokio::test]
async fn a_file_is_replaced_and_never_written_in_place() {
    let rig = Rig::new();
    let provider = rig.provider();
    let (old, new) = (key("ab12"), key("cd34"));
    assert_eq!(provider.create(&old, &rig.record()).await.unwrap(), Created::Done);
    let read_after_replace = |mut file: fs::File| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        bytes
    };
    let mut record = rig.record();
    for step in 0..3 {
        let (reader, before) = (fs::File::open(rig.file(&old)).unwrap(), file_bytes(&record));
        match step {
            0 => {
                record.edit(|meta| meta.times.version = 2);
                assert_eq!(provider.update(&old, &record, &base(1)).await.unwrap(), Updated::Done);
            }
            1 => {
                record.touch(rig.time.clock().now());
                assert_eq!(provider.touch(&old, rig.time.clock().now()).await.unwrap(), Touched::Done);
            }
            _ => {
                let mark = Mark::Rotated { successor: new.clone(), until: Millis::NEVER };
                let stone = record.tombstone(&mark, Millis(1), Millis::NEVER);
                let done = provider.rename(&old, &new, &record, 2, Some(&stone)).await.unwrap();
                assert_eq!(done, Renamed::Done);
                assert_eq!(provider.load(&new).await.unwrap(), Some(record.clone()));
                record = stone;
            }
        }
        assert_eq!(read_after_replace(reader), before, "{step}");
        assert_eq!(fs::read(rig.file(&old)).unwrap(), file_bytes(&record), "{step}");
    }
}

#[tokio::test]
async fn sessions_outlive_the_process() {
    let rig = Rig::new();
    let record = rig.of("alice");
    assert_eq!(rig.provider().create(&key("ab12"), &record).await.unwrap(), Created::Done);
    let provider = rig.provider();
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(record));
    assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[tokio::test]
async fn expiry_follows_the_record_and_not_the_file_time() {
    let rig = Rig::new();
    let provider = rig.provider();
    let key = key("ab12");
    let record = rig.record();
    assert_eq!(provider.create(&key, &record).await.unwrap(), Created::Done);
    let set_modified = |time| fs::File::open(rig.file(&key)).unwrap().set_modified(time).unwrap();
    set_modified(SystemTime::UNIX_EPOCH);
    rig.time.advance(Duration::from_millis(59_999));
    assert_eq!(provider.load(&key).await.unwrap(), Some(record));
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 0, more: false });
    set_modified(SystemTime::now() + Duration::from_secs(86_400));
    rig.time.advance(Duration::from_millis(1));
    assert_eq!(provider.load(&key).await.unwrap(), None);
    assert_eq!(provider.count().await.unwrap(), 0);
    assert!(rig.file(&key).exists(), "a read removes nothing");
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 1, more: false });
    assert!(!rig.file(&key).exists());
}

/// Runs one test of this module in a process of its own, after the shell has run `setup`. The test reads `role` from its environment.
fn in_a_child(test: &str, role: &Path, setup: &str) -> std::process::Child {
    std::process::Command::new("sh")
        .args(["-c", &format!("{setup}; exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("provider::file::tests::{test}"), "--ignored", "--test-threads=1"])
        .env("CLOAKROOM_CHILD", role)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for mask in ["000", "022", "777"] {
        let folder = tempfile::tempdir().unwrap();
        let role = folder.path().join(mask);
        assert!(in_a_child("child_with_a_umask", &role, "true").wait().unwrap().success());
        let root = role.join("deep/sessions");
        let mut seen = 0;
        let mut open = vec![folder.path().join(mask)];
        while let Some(path) = open.pop() {
            let folder = path.is_dir();
            assert_eq!(mode(&path), if folder { 0o700 } else { 0o600 }, "{path:?} under {mask}");
            open.extend(names(&path).iter().filter(|_| folder).map(|name| path.join(name)));
            seen += 1;
        }
        let file = |path: &str| assert!(root.join(path).is_file(), "{path}");
        file("a/b/ab12");
        file(".corrupt/cd34.1000000000");
        assert!(seen > 12, "{seen}");
    }
}

#[tokio::test]
#[ignore = "a part of modes_do_not_depend_on_the_umask: the umask is the whole process's"]
async fn child_with_a_umask() {
    let Some(role) = std::env::var_os("CLOAKROOM_CHILD").map(PathBuf::from) else { return };
    let mask = u32::from_str_radix(role.file_name().unwrap().to_str().unwrap(), 8).unwrap();
    let rig = Rig::new();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    let provider = FileProvider::builder(role.join("deep/sessions"))
        .clock(rig.time.clock())
        .durability(Durability::Durable)
        .connect()
        .unwrap();
    for name in ["ab12", "cd34"] {
        assert_eq!(provider.create(&key(name), &rig.of("alice")).await.unwrap(), Created::Done);
    }
    let mut next = rig.of("alice");
    next.edit(|meta| meta.times.version = 2);
    assert_eq!(provider.update(&key("ab12"), &next, &base(1)).await.unwrap(), Updated::Done);
    let file = role.join("deep/sessions/c/d/cd34");
    fs::write(&file, "foreign").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(kind(provider.load(&key("cd34")).await), ErrorKind::Corrupt);
}

#[test]
fn a_root_that_others_may_write_to_is_refused() {
    let rig = Rig::new();
    let refused = |path: &Path, reason: &str| {
        let error = FileProvider::connect(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    };
    let real = rig.folder.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("of somebody else"), "").unwrap();
    for open in [0o770, 0o702, 0o1777] {
        fs::set_permissions(&real, fs::Permissions::from_mode(open)).unwrap();
        refused(&real, &format!("mode {open:04o}"));
    }
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    FileProvider::connect(&real).unwrap();

    let link = rig.folder.path().join("link");
    symlink(&real, &link).unwrap();
    refused(&link, "symbolic link");
    refused(&link.join(""), "symbolic link");
    refused(&link.join("."), "symbolic link");
    let dangling = rig.folder.path().join("dangling");
    symlink(rig.folder.path().join("nowhere"), &dangling).unwrap();
    refused(&dangling, "symbolic link");
    assert!(!rig.folder.path().join("nowhere").exists());
    let file = rig.folder.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file, "not a folder");

    if geteuid().is_root() {
        std::os::unix::fs::chown(&real, Some(12_345), None).unwrap();
        refused(&real, "belongs to user 12345");
    } else {
        refused(Path::new("/"), "belongs to user 0");
    }
}

#[tokio::test]
async fn open_folders_below_the_root_are_closed() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path().join("a/b")).unwrap();
    for folder in ["a", "a/b"] {
        fs::set_permissions(rig.path().join(folder), fs::Permissions::from_mode(0o777)).unwrap();
    }
    rig.provider();
    assert_eq!((mode(&rig.path().join("a")), mode(&rig.path().join("a/b"))), (0o700, 0o700));
}

#[tokio::test]
async fn a_symbolic_link_to_a_folder_is_not_followed() {
    for link in ["a", "a/b"] {
        let rig = Rig::new();
        let provider = rig.provider();
        let outside = rig.folder.path().join("outside");
        let target = if link == "a" { outside.join("b") } else { outside.clone() };
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("ab12"), file_bytes(&rig.record())).unwrap();
        fs::create_dir_all(rig.path().join(link).parent().unwrap()).unwrap();
        symlink(&outside, rig.path().join(link)).unwrap();
        let key = key("ab12");
        assert_eq!(kind(provider.load(&key).await), ErrorKind::Unavailable);
        assert_eq!(kind(provider.create(&key, &rig.record()).await), ErrorKind::Unavailable);
        assert_eq!(kind(provider.delete(&key).await), ErrorKind::Unavailable);
        assert_eq!(provider.count().await.unwrap(), 0);
        assert_eq!(names(&target), ["ab12"], "nothing outside was written or removed");
    }
}

#[test]
fn the_open_for_old_kernels_follows_no_link() {
    use std::os::fd::AsFd;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/ab"), "x").unwrap();
    symlink("b", folder.path().join("a/l")).unwrap();
    symlink("ab", folder.path().join("a/b/lk")).unwrap();
    let root = fs::File::open(folder.path()).unwrap();
    let open = |path| folder::open_by_steps(root.as_fd(), path, rustix::fs::OFlags::RDONLY);
    open("a/b/ab").unwrap();
    for (path, steps) in [("a/l/ab", rustix::io::Errno::NOTDIR), ("a/b/lk", rustix::io::Errno::LOOP)] {
        assert_eq!(open(path).unwrap_err(), steps);
        assert_eq!(
            folder::open_below(root.as_fd(), path, rustix::fs::OFlags::RDONLY).unwrap_err(),
            rustix::io::Errno::LOOP
        );
    }
}

#[tokio::test]
async fn a_foreign_file_is_put_aside_and_not_followed() {
    let rig = Rig::new();
    let provider = rig.provider();
    let outside = rig.folder.path().join("outside");
    fs::write(&outside, file_bytes(&rig.record())).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
    let key = key("ab12");
    let place = rig.file(&key);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    type Plant<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let mut plants: Vec<Plant<'_>> = vec![
        ("symbolic link", Box::new(|| symlink(&outside, &place).unwrap())),
        (
            "a pipe",
            Box::new(|| rustix::fs::mkfifoat(rustix::fs::CWD, &place, rustix::fs::Mode::RUSR).unwrap()),
        ),
        ("a folder", Box::new(|| fs::create_dir(&place).unwrap())),
        ("a pipe", Box::new(|| drop(std::os::unix::net::UnixListener::bind(&place).unwrap()))),
    ];
    if geteuid().is_root() {
        plants.push((
            "user 12345",
            Box::new(|| {
                fs::write(&place, file_bytes(&rig.record())).unwrap();
                std::os::unix::fs::chown(&place, Some(12_345), None).unwrap();
            }),
        ));
    }
    for (number, (reason, plant)) in plants.iter().enumerate() {
        plant();
        let error = provider.load(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(provider.load(&key).await.unwrap(), None, "{reason}: the error comes once");
        assert_eq!(rig.aside().len(), number + 1);
    }
    assert_eq!(mode(&outside), 0o644, "the target of the link keeps its mode");
    assert_eq!(fs::read(&outside).unwrap(), file_bytes(&rig.record()));
}

#[tokio::test]
async fn an_unreadable_file_is_an_error_once_and_put_aside() {
    let rig = Rig::new();
    let provider = rig.provider();
    let good = file_bytes(&rig.record());
    let mut garbage = b"not a record".to_vec();
    let checksum = crc32fast::hash(&garbage);
    garbage.extend_from_slice(&checksum.to_be_bytes());
    let key = key("ab12");
    let bad = [
        &b""[..],
        b"x",
        b"gob",
        &good[..good.len() - 1],
        &good[..60],
        &[&good[..], b"\0"].concat(),
        &garbage,
    ];
    for (number, bytes) in bad.into_iter().enumerate() {
        for method in 0..5 {
            rig.plant(&key, bytes);
            fs::set_permissions(rig.file(&key), fs::Permissions::from_mode(0o644)).unwrap();
            let failed = match method {
                0 => kind(provider.load(&key).await),
                1 => kind(provider.create(&key, &rig.record()).await),
                2 => kind(provider.update(&key, &rig.record(), &base(1)).await),
                3 => kind(provider.touch(&key, SystemTime::now()).await),
                _ => kind(provider.delete(&key).await),
            };
            assert_eq!(failed, ErrorKind::Corrupt, "{number} {method}");
            assert_eq!(provider.load(&key).await.unwrap(), None);
            // The clock stands still, so each file takes the next free name.
            let aside =
                rig.path().join(".corrupt").join(format!("ab12.{}", 1_000_000_000 + 5 * number + method));
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            assert_eq!(mode(&aside), 0o600);
        }
    }
    assert_eq!(provider.create(&key, &rig.record()).await.unwrap(), Created::Done);
    assert_eq!(provider.load(&key).await.unwrap(), Some(rig.record()));
}

#[tokio::test]
async fn an_enormous_file_is_not_read() {
    let rig = Rig::new();
    let provider = rig.provider();
    rig.plant(&key("ab12"), b"");
    fs::File::options().write(true).open(rig.file(&key("ab12"))).unwrap().set_len((32 << 20) + 1).unwrap();
    let error = provider.load(&key("ab12")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("found one of 33554433"), "{error}");
}

#[tokio::test]
async fn every_flipped_bit_is_seen() {
    let rig = Rig::new();
    let provider = rig.provider();
    let good = file_bytes(&rig.of("alice"));
    for place in 0..good.len() {
        let mut bytes = good.clone();
        bytes[place] ^= 1 << (place % 8);
        rig.plant(&key("ab12"), &bytes);
        assert_eq!(kind(provider.load(&key("ab12")).await), ErrorKind::Corrupt, "byte {place}");
    }
    rig.plant(&key("ab12"), &good);
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.of("alice")));
}

#[tokio::test]
async fn a_record_over_the_size_limit_is_refused() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    let large = Record::new(&rig.record().meta(), Codec::MESSAGE_PACK, &vec![0; 32 << 20]);
    assert_eq!(kind(provider.update(&key("ab12"), &large, &base(1)).await), ErrorKind::TooLarge);
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.record()));
    assert_eq!(provider.capabilities().max_record, Some((32 << 20) - 4));
}

#[test]
fn a_failed_write_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    // rename(2) does not replace a folder by a file.
    fs::create_dir(folder.path().join("ab12")).unwrap();
    let dir = fs::File::open(folder.path()).unwrap().into();
    let error = Error::from(folder::replace(&dir, "ab12", b"new", folder::Flush::All).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().unwrap().is::<std::io::Error>());
    assert_eq!(names(folder.path()), ["ab12"]);
}

#[test]
fn a_full_disk_loses_no_stored_session() {
    let rig = Rig::new();
    // The limit is 32 KiB a file (64 KiB in some shells). With the signal ignored, a larger write fails as on a full disk.
    let mut child = in_a_child("child_that_cannot_write_much", &rig.path(), "trap '' XFSZ; ulimit -f 64");
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&rig.path().join("a/b")), ["ab12"]);
    assert_eq!(names(&rig.path().join("c/d")), [""; 0]);
}

#[tokio::test]
#[ignore = "a part of a_full_disk_loses_no_stored_session: the limit is the whole process's"]
async fn child_that_cannot_write_much() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD") else { return };
    let rig = Rig::new();
    let provider = FileProvider::builder(root).clock(rig.time.clock()).connect().unwrap();
    let (old, new) = (key("ab12"), key("cd34"));
    assert_eq!(provider.create(&old, &rig.of("alice")).await.unwrap(), Created::Done);
    // A map with one key and 200 KiB of bytes.
    let data = [&b"\x81\xa1k\xc6\0\x03\x20\0"[..], &[7; 200 << 10]].concat();
    let large = Record::new(&rig.of("bob").meta(), Codec::MESSAGE_PACK, &data);
    let error = provider.update(&old, &large, &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.source().unwrap().is::<std::io::Error>());
    assert_eq!(kind(provider.create(&new, &large).await), ErrorKind::Unavailable);
    assert_eq!(provider.load(&old).await.unwrap(), Some(rig.of("alice")));
    assert_eq!(
        (keys_of(&provider, "alice").await, keys_of(&provider, "bob").await),
        (vec!["ab12".into()], vec![])
    );

    // The rename writes the new session, fails to end the old one, and undoes the first step.
    let mark = Mark::Rotated { successor: new.clone(), until: Millis::NEVER };
    let stone = large.tombstone(&mark, Millis(1), Millis::NEVER);
    let large = stone.rewritten(stone.times(), data.len(), |out| {
        out.extend_from_slice(&data);
        Ok(())
    });
    let large = large.unwrap();
    let renamed = provider.rename(&old, &new, &rig.of("alice"), 1, Some(&large)).await;
    assert_eq!(kind(renamed), ErrorKind::Unavailable);
    assert_eq!(provider.load(&new).await.unwrap(), None);
    assert_eq!(provider.load(&old).await.unwrap(), Some(rig.of("alice")));
    assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
}

#[tokio::test]
async fn walks_skip_foreign_files_and_put_broken_ones_aside() {
    let rig = Rig::new();
    let provider = rig.provider();
    let mut expected = Vec::new();
    for text in ["ab12", "ab", "aB-_", "-z9", "zz", "aa", "ab13"] {
        assert_eq!(provider.create(&key(text), &rig.record()).await.unwrap(), Created::Done);
        expected.push(text);
    }
    expected.sort_unstable();
    let leaf = rig.path().join("a/b");
    for foreign in ["note.txt", ".tmp-1-2-3", "zz99", "x"] {
        fs::write(leaf.join(foreign), "foreign").unwrap();
    }
    fs::write(leaf.join(std::ffi::OsStr::from_bytes(b"ab\xff")), "").unwrap();
    fs::write(rig.path().join("README"), "").unwrap();
    fs::write(rig.path().join("q"), "").unwrap();
    rig.plant(&key("abroken"), b"CLKR");
    assert_eq!(provider.count().await.unwrap(), 7);
    assert_eq!(rig.aside(), ["abroken.1000000000"]);
    assert!(leaf.join("note.txt").exists() && leaf.join("zz99").exists());
    rig.plant(&key("abroken"), b"CLKR");

    for limit in [1, 2, 3, 7, 100] {
        let (mut cursor, mut met, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = provider.scan(cursor, limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            met.extend(page.entries.into_iter().map(|listed| listed.key.as_str().to_owned()));
            pages += 1;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(met, expected);
        assert_eq!(pages, 7usize.div_ceil(limit), "the last page has no cursor");
    }
    assert_eq!(rig.aside().len(), 2);
    let none = provider.scan(None, 0).await.unwrap();
    assert!(none.entries.is_empty() && none.next.is_some());
    assert!(provider.scan(Some(Cursor::new("~")), 9).await.unwrap().entries.is_empty());
    assert!(provider.scan(Some(Cursor::new("é")), 9).await.unwrap().entries.is_empty());
}

#[test]
fn a_large_folder_is_listed_completely() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<String> = (0..3000).map(|number| format!("ab{number:060}")).collect();
    expected.iter().for_each(|name| drop(fs::write(folder.path().join(name), "")));
    let dir: std::os::fd::OwnedFd = fs::File::open(folder.path()).unwrap().into();
    assert_eq!(folder::list(&dir).unwrap(), expected);
    assert_eq!(folder::list(&dir).unwrap(), expected, "a second listing starts at the beginning");
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(
        folder::list(&dir).unwrap(),
        [""; 0],
        "a folder that was removed after it was opened is empty"
    );
}

#[tokio::test]
async fn collection_in_small_steps_progresses_and_ends() {
    let rig = Rig::new();
    let provider = rig.provider();
    let mut lasting = rig.record();
    lasting.edit(|meta| meta.times.idle_deadline = Millis::NEVER);
    for number in 0..30 {
        let record = if number % 3 == 0 { rig.of("alice") } else { lasting.clone() };
        assert_eq!(provider.create(&key(&format!("{number:02}key")), &record).await.unwrap(), Created::Done);
    }
    rig.time.advance(Duration::from_secs(60));
    let collected = |limit| {
        let provider = provider.clone();
        async move { provider.delete_expired(limit).await.unwrap() }
    };
    assert_eq!(collected(0).await, Collected { removed: 0, more: true });
    for more in [true, true] {
        assert_eq!(collected(3).await, Collected { removed: 3, more });
    }
    // A new session before the position of the collection is found too.
    assert_eq!(provider.create(&key("00aa"), &rig.record()).await.unwrap(), Created::Done);
    rig.time.advance(Duration::from_secs(60));
    assert_eq!(collected(4).await, Collected { removed: 4, more: true });
    assert_eq!(collected(1).await, Collected { removed: 1, more: false });
    assert_eq!(collected(9).await, Collected { removed: 0, more: false });
    assert_eq!(provider.count().await.unwrap(), 20);
    assert_eq!(index_entries(&rig), [""; 0], "the index entries go with the records");
}

#[tokio::test]
async fn collection_steps_are_bounded_and_reach_all_keys() {
    let rig = Rig::new();
    let provider = rig.provider();
    let mut lasting = rig.record();
    lasting.edit(|meta| meta.times.idle_deadline = Millis::NEVER);
    for number in 0..4_200 {
        rig.plant(&key(&format!("aa{number:04}")), &file_bytes(&lasting));
    }
    rig.plant(&key("aa9999"), &file_bytes(&rig.record()));
    rig.time.advance(Duration::from_secs(60));
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 0, more: true });
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 1, more: false });
    assert_eq!(provider.count().await.unwrap(), 4_200);
}

#[tokio::test]
async fn a_record_touched_since_it_was_read_is_not_collected() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    let tree = provider.0.tree().unwrap();
    assert_eq!(provider.0.remove_expired(&tree, &key("ab12")).unwrap(), Some(false), "a live record stays");
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), Some(rig.record()));
    rig.time.advance(Duration::from_secs(60));
    assert_eq!(provider.0.remove_expired(&tree, &key("ab12")).unwrap(), Some(true));
    let again = provider.0.remove_expired(&tree, &key("ab12")).unwrap();
    assert_eq!(again, Some(false), "the record was removed before");
}

#[tokio::test]
async fn only_old_temporary_files_are_removed() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    let leaf = rig.path().join("a/b");
    for (name, age) in [(".tmp-1-0-old", 3_700), (".tmp-1-1-young", 3_500), (".other", 9_999), ("x.y", 9_999)]
    {
        fs::write(leaf.join(name), "half").unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::open(leaf.join(name)).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 0, more: false });
    assert_eq!(names(&leaf), [".other", ".tmp-1-1-young", "ab12", "x.y"]);
}

/// Increments the version `times` times, as the manager's commit does.
async fn count_up(provider: FileProvider, key: StoreKey, times: u64) {
    for _ in 0..times {
        loop {
            let mut record = provider.load(&key).await.unwrap().unwrap();
            let expected = record.version();
            record.edit(|meta| meta.times.version += 1);
            match provider.update(&key, &record, &base(expected)).await.unwrap() {
                Updated::Done => break,
                Updated::Stale => {}
                Updated::Gone => panic!("the session has not ended"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_folder_lose_no_update() {
    let rig = Rig::new();
    let mut record = rig.record();
    record.edit(|meta| meta.times.idle_deadline = Millis::NEVER);
    let key = key("ab12");
    assert_eq!(rig.provider().create(&key, &record).await.unwrap(), Created::Done);
    let mut child = in_a_child("child_that_counts", &rig.path(), "true");
    let counting = [rig.provider(), rig.provider()].map(|one| tokio::spawn(count_up(one, key.clone(), 200)));
    for one in counting {
        one.await.unwrap();
    }
    assert!(tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success());
    assert_eq!(rig.provider().load(&key).await.unwrap().unwrap().version(), 1 + 3 * 200);
    assert_eq!(names(&rig.path().join("a/b")), ["ab12"]);
}

#[tokio::test]
#[ignore = "a part of processes_that_share_a_folder_lose_no_update"]
async fn child_that_counts() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD") else { return };
    count_up(FileProvider::connect(root).unwrap(), key("ab12"), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opposite_renames_do_not_deadlock() {
    let rig = Rig::new();
    let (one, two) = (key("ab12"), key("cd34"));
    let mut record = rig.record();
    record.edit(|meta| meta.times.idle_deadline = Millis::NEVER);
    assert_eq!(rig.provider().create(&one, &record).await.unwrap(), Created::Done);
    let there_and_back = [(one.clone(), two.clone()), (two, one)].map(|(old, new)| {
        let (provider, record) = (rig.provider(), record.clone());
        tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..200 {
                done +=
                    u32::from(provider.rename(&old, &new, &record, 1, None).await.unwrap() == Renamed::Done);
            }
            done
        })
    });
    let mut done = Vec::new();
    for one in there_and_back {
        done.push(one.await.unwrap());
    }
    assert!(done[0].abs_diff(done[1]) <= 1, "{done:?}");
    assert_eq!(rig.provider().count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_users_index_follows_every_step() {
    let rig = Rig::new();
    let provider = rig.provider();
    // printf alice | sha256sum; the same for bob.
    let (alice, bob) = ("2bd806c9", "81b637d8");
    assert_eq!(provider.create(&key("ab12"), &rig.of("alice")).await.unwrap(), Created::Done);
    assert_eq!(index_entries(&rig), [format!("{alice}/ab12")]);
    let mut record = rig.of("bob");
    record.edit(|meta| meta.times.version = 2);
    assert_eq!(provider.update(&key("ab12"), &record, &base(1)).await.unwrap(), Updated::Done);
    assert_eq!(index_entries(&rig), [format!("{bob}/ab12")]);
    assert_eq!(keys_of(&provider, "alice").await, [""; 0]);
    assert_eq!(keys_of(&provider, "bob").await, ["ab12"]);

    let mark = Mark::Rotated { successor: key("cd34"), until: Millis::NEVER };
    let mut stone = record.tombstone(&mark, Millis(1), Millis::NEVER);
    stone.edit(|meta| meta.principal = Some(principal("bob")));
    let renamed = provider.rename(&key("ab12"), &key("cd34"), &record, 2, Some(&stone)).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    assert_eq!(index_entries(&rig), [format!("{bob}/cd34")]);
    assert_eq!(keys_of(&provider, "bob").await, ["cd34"]);
    assert_eq!(provider.rename(&key("cd34"), &key("ef56"), &record, 2, None).await.unwrap(), Renamed::Done);
    assert_eq!(index_entries(&rig), [format!("{bob}/ef56")]);
    assert_eq!(provider.update(&key("ef56"), &rig.record(), &base(2)).await.unwrap(), Updated::Done);
    assert_eq!(index_entries(&rig), [""; 0]);
    assert_eq!(names(&rig.path().join(".principals")), [""; 0], "the folder of an empty index is removed");

    assert_eq!(provider.create(&key("gh78"), &rig.of("bob")).await.unwrap(), Created::Done);
    rig.time.advance(Duration::from_secs(60));
    assert_eq!(keys_of(&provider, "bob").await, [""; 0], "expired");
    assert_eq!(provider.create(&key("gh78"), &rig.of("alice")).await.unwrap(), Created::Done);
    assert_eq!(
        index_entries(&rig),
        [format!("{alice}/gh78")],
        "the index entry of the expired session is removed"
    );
    assert!(provider.delete(&key("gh78")).await.unwrap());
    assert_eq!(index_entries(&rig), [""; 0]);
}

#[tokio::test]
async fn a_listing_removes_stale_index_entries() {
    let rig = Rig::new();
    let provider = rig.provider();
    for (text, user) in [("ab12", "alice"), ("cd34", "alice"), ("ef56", "bob"), ("gh78", "alice")] {
        assert_eq!(provider.create(&key(text), &rig.of(user)).await.unwrap(), Created::Done);
    }
    fs::remove_file(rig.file(&key("cd34"))).unwrap();
    rig.plant(&key("gh78"), b"broken");
    let list = rig
        .path()
        .join(".principals")
        .join("2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90");
    fs::write(list.join("ef56"), "").unwrap();
    fs::write(list.join("not a key"), "").unwrap();
    assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
    assert_eq!(names(&list), ["ab12", "not a key"]);
    assert_eq!(keys_of(&provider, "bob").await, ["ef56"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_beside_changes_misses_no_session() {
    let rig = Rig::new();
    let (provider, reader) = (rig.provider(), rig.provider());
    let reading = tokio::spawn(async move {
        for _ in 0..300 {
            let _ = keys_of(&reader, "alice").await;
        }
    });
    for number in 0..150 {
        let key = key(&format!("ab{number}"));
        assert_eq!(provider.create(&key, &rig.of("alice")).await.unwrap(), Created::Done);
        assert_eq!(keys_of(&provider, "alice").await, [key.as_str()]);
        assert!(provider.delete(&key).await.unwrap());
    }
    reading.await.unwrap();
}

#[tokio::test]
async fn a_root_removed_while_running_is_created_again() {
    let rig = Rig::new();
    let provider = rig.provider();
    let key = key("ab12");
    let moved = rig.folder.path().join("moved");
    for round in 0..3 {
        assert_eq!(provider.create(&key, &rig.of("alice")).await.unwrap(), Created::Done, "{round}");
        match round {
            0 => fs::remove_dir_all(rig.path()).unwrap(),
            1 => fs::rename(rig.path(), &moved).unwrap(),
            _ => {
                fs::remove_dir_all(rig.path()).unwrap();
                fs::create_dir(rig.path()).unwrap();
            }
        }
        assert_eq!(provider.load(&key).await.unwrap(), None, "{round}");
        assert_eq!(provider.update(&key, &rig.record(), &base(1)).await.unwrap(), Updated::Gone);
        assert_eq!(provider.count().await.unwrap(), 0);
        assert_eq!(keys_of(&provider, "alice").await, [""; 0]);
        assert!(!provider.delete(&key).await.unwrap());
        assert_eq!(provider.delete_expired(9).await.unwrap(), Collected { removed: 0, more: false });
    }
    fs::remove_dir_all(rig.path()).unwrap();
    symlink(&moved, rig.path()).unwrap();
    assert_eq!(
        kind(provider.load(&key).await),
        ErrorKind::Unavailable,
        "the link to the moved folder is not followed"
    );
    assert_eq!(names(&moved.join("a/b")), ["ab12"]);
}

#[tokio::test]
async fn a_lock_file_removed_while_running_is_created_again() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    let locks = rig.path().join(".locks");
    fs::remove_dir_all(&locks).unwrap();
    let held = hold(&provider, &key("ab12")).await;
    // The lock is on the file that another process would open now.
    let [name] = &names(&locks)[..] else { panic!("one lock creates one file") };
    let file = fs::File::open(locks.join(name)).unwrap();
    assert!(matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)));
    drop(held);
    file.try_lock().unwrap();
}

#[tokio::test]
async fn every_process_maps_a_key_to_the_same_lock_file() {
    let rig = Rig::new();
    let provider = rig.provider();
    let expected: Vec<String> = (0..64).map(|stripe| format!("{stripe:02x}")).collect();
    assert_eq!(names(&rig.path().join(".locks")), expected, "they are created while the disk has room");
    fs::remove_dir_all(rig.path().join(".locks")).unwrap();
    for number in 0..2_000 {
        drop(hold(&provider, &key(&format!("key{number}"))).await);
    }
    assert_eq!(names(&rig.path().join(".locks")), expected);
    fs::remove_dir_all(rig.path().join(".locks")).unwrap();
    drop(hold(&provider, &key("ab12")).await);
    // python3: "%02x" % (zlib.crc32(b"ab12") % 64)
    assert_eq!(names(&rig.path().join(".locks")), ["06"]);
}

#[tokio::test]
async fn a_call_dropped_before_its_step_changes_nothing() {
    let rig = Rig::new();
    let provider = rig.provider();
    let held = hold(&provider, &key("ab12")).await;
    {
        let record = rig.of("alice");
        let wanted = key("ab12");
        let mut creating = pin!(provider.create(&wanted, &record));
        assert!(creating.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(held);
    // The lock is free, so the dropped future does not wait for it any more.
    drop(hold(&provider, &key("ab12")).await);
    assert_eq!(provider.load(&key("ab12")).await.unwrap(), None);
    assert_eq!(keys_of(&provider, "alice").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_during_its_step_runs_to_its_end() {
    let rig = Rig::new();
    let provider = rig.provider();
    {
        let record = rig.of("alice");
        let wanted = key("ab12");
        let mut creating = pin!(provider.create(&wanted, &record));
        // The first poll starts the step. On a fast disk it may even end it.
        let _ = creating.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    while provider.load(&key("ab12")).await.unwrap().is_none() {}
    assert_eq!(keys_of(&provider, "alice").await, ["ab12"]);
}

#[test]
fn without_a_runtime_the_call_runs_on_its_thread() {
    let rig = Rig::new();
    let provider = rig.provider();
    let (key, record) = (key("ab12"), rig.record());
    let mut context = Context::from_waker(Waker::noop());
    match pin!(provider.create(&key, &record)).poll(&mut context) {
        Poll::Ready(answer) => assert_eq!(answer.unwrap(), Created::Done),
        Poll::Pending => panic!("without a runtime the call must not wait"),
    }
    assert_eq!(fs::read(rig.file(&key)).unwrap(), file_bytes(&record));
}

#[tokio::test]
async fn no_error_message_contains_a_key() {
    let rig = Rig::new();
    let provider = rig.provider();
    let secret = key("topsecretkey");
    rig.plant(&secret, b"broken");
    let corrupt = provider.load(&secret).await.unwrap_err();
    fs::remove_dir_all(rig.path().join("t")).unwrap();
    fs::write(rig.path().join("t"), "").unwrap();
    let branch = provider.load(&secret).await.unwrap_err();
    fs::remove_file(rig.path().join("t")).unwrap();
    fs::remove_dir_all(rig.path().join(".locks")).unwrap();
    fs::write(rig.path().join(".locks"), "").unwrap();
    let locks = provider.create(&secret, &rig.record()).await.unwrap_err();
    assert_eq!((branch.kind(), locks.kind()), (ErrorKind::Unavailable, ErrorKind::Unavailable));
    for error in [corrupt, branch, locks] {
        let shown = format!("{error} {error:?} {:?}", error.source());
        assert!(!shown.contains("topsecret") && !shown.contains("sessions/"), "{shown}");
    }
}

#[test]
fn durability_is_parsed_from_its_name() {
    assert_eq!("atomic".parse::<Durability>().unwrap(), Durability::default());
    assert_eq!("durable".parse::<Durability>().unwrap(), Durability::Durable);
    let error = "Durable ".parse::<Durability>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("expected atomic or durable, found \"Durable \""), "{error}");
}
