//! Locks that another process holds and does not release.

use crate::record::base;
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use rustix::fs::{FlockOperation, flock};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// More tasks than tokio has blocking threads.
const MANY: usize = 600;
/// The time that a step without a lock conflict may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Locks a file, as a process does that was stopped between two steps.
fn seize(path: &Path) -> OwnedFd {
    let file: OwnedFd = fs::File::open(path).unwrap().into();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

fn lock_file(rig: &Rig, key: &StoreKey) -> PathBuf {
    rig.path().join(".locks").join(format!("{:02x}", locks::stripe(key)))
}

/// Returns keys that share no lock with `taken`.
fn keys_apart_from(taken: &[&StoreKey]) -> Vec<StoreKey> {
    let stripes: Vec<usize> = taken.iter().map(|key| locks::stripe(key)).collect();
    let keys = (0..200).map(|number| key(&format!("other{number:03}")));
    keys.filter(|key| !stripes.contains(&locks::stripe(key))).take(50).collect()
}

/// Runs `work` on a runtime of its own, and fails the test if the runtime does not end in time.
fn on_a_runtime_that_ends<F: Future<Output = ()> + Send + 'static>(work: F) {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(work);
        drop(runtime);
        ended.send(()).unwrap();
    });
    end.recv_timeout(4 * PATIENCE).expect("the runtime ends though the lock is still held");
}

#[test]
fn a_stopped_process_delays_only_its_own_sessions() {
    let rig = Rig::new();
    let stopped = [key("ab12"), key("cd34"), key("ef56")];
    // The child takes the locks, writes the file `held` and stops itself.
    let mut child = in_a_child("waiting::child_that_is_stopped", &rig.path(), "true");
    let said = rig.folder.path().join("held");
    let provider = rig.provider();
    let (others, record) = (keys_apart_from(&stopped.each_ref()), rig.record());
    let (time, root) = (rig.time.clock(), rig.path());
    on_a_runtime_that_ends(async move {
        let waiting = async {
            while !said.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        timeout(PATIENCE, waiting).await.unwrap();
        let mut requests = JoinSet::new();
        for number in 0..MANY {
            let (provider, record) = (provider.clone(), record.clone());
            let (key, other) = (stopped[number % 3].clone(), others[number % 50].clone());
            let now = time.now();
            requests.spawn(async move {
                let request = async {
                    match number % 5 {
                        0 => drop(provider.create(&key, &record).await),
                        1 => drop(provider.update(&key, &record, &base(1)).await),
                        2 => drop(provider.touch(&key, now).await),
                        3 => drop(provider.rename(&other, &key, &record, 1, None).await),
                        _ => drop(provider.delete(&key).await),
                    }
                };
                timeout(Duration::from_millis(500), request).await.expect_err("the lock is held");
            });
        }
        for other in &others {
            let created = timeout(PATIENCE, provider.create(other, &record)).await;
            assert_eq!(created.expect("another session's lock is free").unwrap(), Created::Done);
            assert_eq!(timeout(PATIENCE, provider.load(other)).await.unwrap().unwrap().unwrap(), record);
        }
        timeout(PATIENCE, tokio::fs::read(root.join(".locks/00"))).await.unwrap().unwrap();
        assert_eq!(timeout(PATIENCE, provider.count()).await.unwrap().unwrap(), 50);
        while let Some(request) = requests.join_next().await {
            request.unwrap();
        }
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::KILL)
        .unwrap();
    child.wait().unwrap();
    // The kernel has released the locks of the killed process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(!runtime.block_on(rig.provider().delete(&key("ab12"))).unwrap());
}

#[tokio::test]
#[ignore = "a part of a_stopped_process_delays_only_its_own_sessions"]
async fn child_that_is_stopped() {
    let Some(root) = std::env::var_os("CLOAKROOM_CHILD").map(PathBuf::from) else { return };
    let provider = FileProvider::connect(&root).unwrap();
    let _held = [
        hold(&provider, &key("ab12")).await,
        hold(&provider, &key("cd34")).await,
        hold(&provider, &key("ef56")).await,
    ];
    fs::write(root.parent().unwrap().join("held"), "").unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(10 * PATIENCE);
}

#[cfg(feature = "beego")]
#[test]
fn a_stopped_process_delays_only_one_beego_session() {
    let rig = Rig::new();
    rig.plant(&key("ab12"), b"\x0d\x7f\x04\x01\x02\xff\x80\x00\x01\x10\x01\x10\x00\x00\x04\xff\x80\x00\x00");
    let provider = FileProvider::builder(rig.path()).connect_beego(Duration::from_secs(3600)).unwrap();
    let seized = seize(&rig.file(&key("ab12")));
    on_a_runtime_that_ends(async move {
        let mut requests = JoinSet::new();
        let now = SystemTime::now();
        for number in 0..MANY {
            let provider = provider.clone();
            requests.spawn(async move {
                let key = key("ab12");
                let record = provider.load(&key).await.unwrap().unwrap();
                let request = async {
                    match number % 4 {
                        0 => drop(provider.update(&key, &record, &record).await),
                        1 => drop(provider.touch(&key, now).await),
                        2 => drop(provider.create(&key, &record).await),
                        _ => drop(provider.delete(&key).await),
                    }
                };
                timeout(Duration::from_millis(500), request).await.expect_err("the lock is held");
            });
        }
        let record = provider.load(&key("ab12")).await.unwrap().unwrap();
        for number in 0..50 {
            let created = timeout(PATIENCE, provider.create(&key(&format!("other{number}")), &record)).await;
            assert_eq!(created.expect("another session's lock is free").unwrap(), Created::Done);
        }
        assert_eq!(timeout(PATIENCE, provider.count()).await.unwrap().unwrap(), 51);
        let collected = timeout(PATIENCE, provider.delete_expired(9)).await.unwrap().unwrap();
        assert_eq!(collected, Collected { removed: 0, more: false });
        while let Some(request) = requests.join_next().await {
            request.unwrap();
        }
    });
    drop(seized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_skips_keys_locked_for_too_long() {
    let rig = Rig::new();
    let provider = rig.provider();
    let stuck = key("ab12");
    let others = keys_apart_from(&[&stuck]);
    for key in others.iter().chain([&stuck]) {
        assert_eq!(provider.create(key, &rig.record()).await.unwrap(), Created::Done);
    }
    rig.time.advance(Duration::from_secs(60));
    let seized = seize(&lock_file(&rig, &stuck));
    let collected = timeout(PATIENCE, provider.delete_expired(99)).await.unwrap().unwrap();
    assert_eq!(collected, Collected { removed: 50, more: false });
    drop(seized);
    assert_eq!(provider.delete_expired(99).await.unwrap(), Collected { removed: 1, more: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_waits_for_no_lock() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    rig.plant(&key("cd34"), b"no record");
    let seized = seize(&lock_file(&rig, &key("cd34")));
    assert_eq!(timeout(PATIENCE, provider.count()).await.unwrap().unwrap(), 1);
    assert_eq!(timeout(PATIENCE, provider.scan(None, 9)).await.unwrap().unwrap().entries.len(), 1);
    assert_eq!(rig.aside(), [""; 0], "the next walk moves the file");
    drop(seized);
    assert_eq!(provider.count().await.unwrap(), 1);
    assert_eq!(rig.aside().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lock_is_taken_by_a_waiting_call() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.of("alice")).await.unwrap(), Created::Done);
    let seized = seize(&lock_file(&rig, &key("ab12")));
    let (lister, renamer, record) = (provider.clone(), provider.clone(), rig.of("alice"));
    let listing = tokio::spawn(async move { keys_of(&lister, "alice").await.len() });
    let renaming =
        tokio::spawn(
            async move { renamer.rename(&key("ab12"), &key("zz99"), &record, 1, None).await.unwrap() },
        );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!listing.is_finished() && !renaming.is_finished());
    drop(seized);
    assert_eq!(timeout(PATIENCE, listing).await.unwrap().unwrap(), 1);
    assert_eq!(timeout(PATIENCE, renaming).await.unwrap().unwrap(), Renamed::Done);
}
