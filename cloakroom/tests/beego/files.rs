//! Beego's `file` provider.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloakroom::{ErrorKind, FileProvider, Manager, ManualClock, Released, providers::AnyProvider};
use tempfile::TempDir;

use super::layout::{self, Layout};
use super::{HOUR, hex, noon, release, request, unhex, vector, vectors};

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.path().join(&key[..1]).join(&key[1..2]).join(key)
    }
}

impl Layout for Files {
    async fn provider(&self, time: &ManualClock) -> AnyProvider {
        FileProvider::builder(self.0.path()).clock(time.clock()).connect_beego(HOUR).unwrap()
    }

    async fn put(&self, key: &str, value: &[u8], used: SystemTime) {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Beego writes files in place.
        fs::write(&path, value).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(used).unwrap();
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.path(key)).ok()
    }

    async fn used(&self, key: &str) -> SystemTime {
        fs::metadata(self.path(key)).unwrap().modified().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_pass_every_case_of_the_layout() {
    layout::every_case(&Files::new()).await;
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_files_move_to_memory_and_sqlite() {
    use super::stores::{Target, sessions_move_to};
    let time = ManualClock::starting_at(noon());
    sessions_move_to(&Files::new(), &Target::memory(&time), &time).await;
    let time = ManualClock::starting_at(noon());
    sessions_move_to(&Files::new(), &Target::sqlite(), &time).await;
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn sessions_in_files_move_to_postgres() {
    use super::stores::{Target, sessions_move_to};
    sessions_move_to(&Files::new(), &Target::postgres(), &ManualClock::starting_at(noon())).await;
}

/// Returns a copy of a sample tree, with the given time of use.
fn sample(name: &str, used: SystemTime) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for session in vector(&format!("{name}.json"))["sessions"].as_array().unwrap() {
        let path = session["path"].as_str().unwrap();
        let to = copy.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(vectors(name).join(path), &to).unwrap();
        let file = File::options().write(true).open(&to).unwrap();
        file.set_times(FileTimes::new().set_modified(used)).unwrap();
    }
    copy
}

fn json(folder: &Path) -> String {
    format!(
        r#"{{"cookieName":"gosessionid","gclifetime":3600,"secure":false,"deadline":60,"format":"beego","providerConfig":{:?}}}"#,
        folder.to_str().unwrap()
    )
}

#[tokio::test]
async fn sample_trees_are_read_and_written_in_their_layout() {
    for name in ["file-v1.4", "file-v2"] {
        let folder = sample(name, SystemTime::now());
        let manager = Manager::new("file", &json(folder.path())).await.unwrap();
        assert_eq!(manager.active_sessions().await.unwrap(), 4);
        let described = vector(&format!("{name}.json"));
        for told in described["sessions"].as_array().unwrap() {
            let (id, what) = (told["sid"].as_str().unwrap(), told["session"].as_str().unwrap());
            let session = request(&manager, id).await;
            layout::is_as_the_samples_say(&session, what);

            // After a change and its reversal, the file has the same bytes at the same path.
            session.set("beside", [1, 2]).unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            let path = folder.path().join(told["path"].as_str().unwrap());
            assert_ne!(hex(&fs::read(&path).unwrap()), told["hex"].as_str().unwrap());
            let session = request(&manager, id).await;
            session.delete("beside").unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            assert_eq!(hex(&fs::read(&path).unwrap()), told["hex"].as_str().unwrap(), "{name} {what}");
            // The mode of 2.x, which other users cannot read.
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        }
        // No other file remains.
        let files = walk(folder.path());
        assert_eq!(files.len(), 4, "{files:?}");
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn a_new_session_has_the_path_and_modes_of_beego() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::new("file", &json(folder.path())).await.unwrap();
    let session = request(&manager, "").await;
    session.set("username", "astaxie").unwrap();
    let (released, id) = release(&session).await;
    let id = id.unwrap();
    assert_eq!((released, id.len()), (Released::Created, 40));
    let leaf = folder.path().join(&id[..1]).join(&id[1..2]);
    // All permissions, less the umask.
    let any = tempfile::tempdir().unwrap();
    fs::create_dir(any.path().join("any")).unwrap();
    let all = fs::metadata(any.path().join("any")).unwrap().mode() & 0o777;
    for folder in [leaf.parent().unwrap(), &leaf] {
        assert_eq!(
            fs::metadata(folder).unwrap().mode() & 0o7777,
            0o755 & all,
            "the mode of Beego, less the umask"
        );
    }
    assert_eq!(fs::metadata(leaf.join(&id)).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(walk(folder.path()), [leaf.join(&id)], "no lock files, which Beego would count as sessions");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_beego_is_filling_is_read_again() {
    use rustix::fs::inotify;

    let files = Files::new();
    let manager = Manager::new("file", &json(files.0.path())).await.unwrap();
    for attempt in 0.. {
        let id = format!("{attempt:032x}");
        files.put(&id, b"", SystemTime::now()).await;
        let path = files.path(&id);
        // The file is filled after its first read, and never before.
        let looks = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&looks, &path, inotify::WatchFlags::CLOSE_NOWRITE).unwrap();
        let filling = std::thread::spawn(move || {
            rustix::io::read(&looks, &mut [0; 256]).unwrap();
            fs::write(path, unhex(layout::ONE)).unwrap();
        });
        let session = request(&manager, &id).await;
        filling.join().unwrap();
        assert!(session.id().is_some(), "it is never an error");
        let seen_full = session.len().unwrap() == 1;
        session.set("n", 1).unwrap();
        let _ = release(&session).await;
        assert_eq!(request(&manager, &id).await.keys().unwrap(), ["username", "n"]);
        if seen_full {
            break;
        }
        // On a busy machine a whole request may find it empty.
        assert!(attempt < 100, "of 100 requests none looked again");
    }
}

#[tokio::test]
async fn a_link_in_place_of_a_file_is_not_a_session() {
    let files = Files::new();
    let time = ManualClock::starting_at(noon());
    let manager = layout::manager(&files, &time).await;
    let id = "cd".repeat(16);
    files.put(&"ab".repeat(16), b"", noon()).await;
    fs::create_dir_all(files.path(&id).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(files.path(&"ab".repeat(16)), files.path(&id)).unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("cookie", format!("gosessionid={id}").parse().unwrap());
    assert_eq!(manager.start(&headers).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(manager.active_sessions().await.unwrap(), 1);

    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Manager::new("file", &json(folder.path())).await.unwrap_err().kind(), ErrorKind::Config);
}
