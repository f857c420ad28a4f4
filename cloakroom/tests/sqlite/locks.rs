//! Locks of other programs, callers that go away, and the end of a provider.

use std::time::{Duration, Instant};

use cloakroom::providers::Created;
use cloakroom::{ErrorKind, Provider, SqliteProvider};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::folder::{DataFolder, PATIENCE, a_record, in_a_child, key, open, part, wait_until};

const SHORT: Duration = Duration::from_millis(400);

async fn connect(folder: &DataFolder, deadline: Duration) -> SqliteProvider {
    SqliteProvider::builder(folder.path()).deadline(deadline).connect().await.unwrap()
}

/// Takes the lock for writing, as a long transaction of another program does.
fn take_lock(folder: &DataFolder) -> Connection {
    let other = open(&folder.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// Checks that changes time out while the lock is held, and that reads go on.
async fn waits_for_the_lock(provider: &SqliteProvider) {
    let start = Instant::now();
    let (first, second) = (key("first"), key("second"));
    let record = a_record(1);
    let (one, two) = tokio::join!(provider.create(&first, &record), provider.delete(&second));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("database's lock"), "{error}");
    }
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(provider.load(&key("there")).await.unwrap(), Some(a_record_there()));
    assert_eq!(provider.count().await.unwrap(), 1);
    assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 1);
}

fn a_record_there() -> cloakroom::providers::Record {
    use std::sync::OnceLock;
    static THERE: OnceLock<cloakroom::providers::Record> = OnceLock::new();
    THERE.get_or_init(|| a_record(7)).clone()
}

#[tokio::test]
async fn a_lock_of_another_program_times_out_and_stops_no_read() {
    let folder = DataFolder::new();
    let provider = connect(&folder, SHORT).await;
    assert_eq!(provider.create(&key("there"), &a_record_there()).await.unwrap(), Created::Done);
    let other = take_lock(&folder);
    waits_for_the_lock(&provider).await;
    other.execute_batch("ROLLBACK").unwrap();
    let start = Instant::now();
    assert_eq!(provider.create(&key("first"), &a_record(1)).await.unwrap(), Created::Done);
    assert!(start.elapsed() < SHORT, "recovered at once: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_stopped_process_with_the_lock_stops_no_read() {
    let folder = DataFolder::new();
    let provider = connect(&folder, SHORT).await;
    assert_eq!(provider.create(&key("there"), &a_record_there()).await.unwrap(), Created::Done);
    let mut child = in_a_child("locks::child_that_holds_the_lock", &folder.path(), "true");
    let held = folder.path().with_extension("held");
    wait_until("the child holds the lock", || held.exists()).await;
    let process = Pid::from_child(&child);
    kill_process(process, Signal::STOP).unwrap();
    waits_for_the_lock(&provider).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(provider.create(&key("first"), &a_record(1)).await.unwrap(), Created::Done);
}

#[test]
#[ignore = "a part of a_stopped_process_with_the_lock_stops_no_read: it is stopped"]
fn child_that_holds_the_lock() {
    let Some(path) = part() else { return };
    let other = open(&path);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::fs::write(path.with_extension("held"), "").unwrap();
    std::thread::sleep(PATIENCE);
}

#[tokio::test]
async fn a_wait_for_the_lock_blocks_no_async_worker() {
    let folder = DataFolder::new();
    let provider = connect(&folder, PATIENCE).await;
    let other = take_lock(&folder);
    let (record, name) = (a_record(1), key("waits"));
    // There is one worker, which this test runs on. It sleeps and wakes while the change waits.
    let create = provider.create(&name, &record);
    let release = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(provider.load(&name).await.unwrap(), None);
        }
        other.execute_batch("ROLLBACK").unwrap();
    };
    let (created, ()) = tokio::join!(create, release);
    assert_eq!(created.unwrap(), Created::Done);
}

#[tokio::test]
async fn a_dropped_change_takes_no_other_along() {
    let folder = DataFolder::new();
    let provider = connect(&folder, PATIENCE).await;
    let other = take_lock(&folder);
    let create = |name: &'static str| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.create(&key(name), &a_record(1)).await })
    };
    let (one, two, three) = (create("one"), create("two"), create("three"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    two.abort();
    assert!(two.await.unwrap_err().is_cancelled());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(one.await.unwrap().unwrap(), Created::Done);
    assert_eq!(three.await.unwrap().unwrap(), Created::Done);
    assert_eq!(provider.load(&key("two")).await.unwrap(), None, "its caller had gone before it began");
    assert_eq!(provider.count().await.unwrap(), 2);
}

#[tokio::test]
async fn the_last_handle_closes_the_database() {
    let folder = DataFolder::new();
    let provider = connect(&folder, PATIENCE).await;
    let clone = provider.clone();
    assert_eq!(provider.create(&key("one"), &a_record(1)).await.unwrap(), Created::Done);
    assert!(provider.load(&key("one")).await.unwrap().is_some());
    let log = folder.path().with_extension("db-wal");
    drop(provider);
    assert!(clone.load(&key("one")).await.unwrap().is_some());
    assert!(log.exists());
    let start = Instant::now();
    drop(clone);
    assert!(start.elapsed() < Duration::from_secs(1), "the caller does not wait: {:?}", start.elapsed());
    // SQLite removes the log when the last connection is closed.
    wait_until("the thread has closed all connections", || !log.exists()).await;
}

#[tokio::test]
async fn no_thread_outlives_its_provider() {
    let folder = DataFolder::new();
    let mut child = in_a_child("locks::child_that_counts_threads", &folder.path(), "true");
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "a part of no_thread_outlives_its_provider: other tests have providers too"]
async fn child_that_counts_threads() {
    let Some(path) = part() else { return };
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "cloakroom-sql").count()
    };
    for _ in 0..20 {
        let provider = SqliteProvider::connect(&path).await.unwrap();
        assert_eq!(threads(), 1);
        drop(provider);
        wait_until("the thread ends", || threads() == 0).await;
    }
    // A start that fails leaves none.
    std::fs::write(path.with_extension("txt"), "a text of some length that is no database").unwrap();
    let error = SqliteProvider::connect(path.with_extension("txt")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    wait_until("the thread ends", || threads() == 0).await;
}
