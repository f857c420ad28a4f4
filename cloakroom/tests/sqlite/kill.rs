//! SIGKILL of a process that writes: nothing acknowledged is lost.
//!
//! `CLOAKROOM_SQLITE_KILLS` sets the number of kills, 20 by default: `CLOAKROOM_SQLITE_KILLS=1000 cargo test -p cloakroom
//! --all-features --test sqlite kill`

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use cloakroom::providers::{Created, Updated};
use cloakroom::{Provider, SqliteProvider};

use crate::folder::{DataFolder, PATIENCE, a_record, in_a_child, key, number, part};

/// The tasks of the child, which write at the same time.
const TASKS: u64 = 6;

fn kills() -> u64 {
    let given = std::env::var("CLOAKROOM_SQLITE_KILLS").ok();
    given.map_or(20, |text| text.parse().expect("CLOAKROOM_SQLITE_KILLS is a number"))
}

/// The last acknowledged step of a session: 1 created, 2 changed, 3 ended.
type Acknowledged = BTreeMap<String, u64>;

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let folder = DataFolder::new();
    let log = folder.path().with_extension("log");
    let (mut read, mut total) = (0, 0);
    for kill in 0..kills() {
        let mut child = in_a_child("kill::child_that_writes", &folder.path(), "true");
        // A different number of acknowledgements each time, so that the kill falls everywhere.
        let wanted = read + 30 + (kill * 37) % 200;
        let start = Instant::now();
        while lines(&log).len() < wanted as usize {
            assert!(start.elapsed() < PATIENCE, "the child writes");
            assert!(child.try_wait().unwrap().is_none(), "the child runs");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let all = lines(&log);
        let mut last = Acknowledged::new();
        for line in &all[read as usize..] {
            let (name, step) = line.split_once(' ').unwrap();
            last.insert(name.to_owned(), step.parse().unwrap());
        }
        read = all.len() as u64;
        total += last.len();
        verify(&folder, &last).await;
    }
    assert_eq!(
        number(&folder.path(), "SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"),
        1
    );
    eprintln!("{} kills, {read} acknowledged changes of {total} sessions, none lost", kills());
}

/// Returns the complete lines of the child's log.
fn lines(log: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(str::to_owned).collect()
}

/// Compares what is stored with what was acknowledged. Each session may be one step further.
async fn verify(folder: &DataFolder, last: &Acknowledged) {
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    for (name, step) in last {
        let found = provider.load(&key(name)).await.unwrap();
        let version = found.map(|record| record.version());
        let allowed: &[_] = match step {
            1 => &[Some(1), Some(2)],
            2 => &[Some(2), None],
            _ => &[None],
        };
        assert!(allowed.contains(&version), "{name}: acknowledged step {step}, found version {version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of a_killed_process_loses_nothing_acknowledged: it is killed"]
async fn child_that_writes() {
    let Some(path) = part() else { return };
    let provider = SqliteProvider::connect(&path).await.unwrap();
    let log = path.with_extension("log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let log = Mutex::new(log);
    let log: &'static Mutex<std::fs::File> = Box::leak(Box::new(log));
    let process = std::process::id();
    let tasks = (0..TASKS).map(|task| {
        let provider = provider.clone();
        tokio::spawn(async move {
            for n in 0_u64.. {
                let name = format!("p{process}-{task}-{n}");
                // One write, so that a kill leaves no half line behind a later one.
                let tell =
                    |step: u64| log.lock().unwrap().write_all(format!("{name} {step}\n").as_bytes()).unwrap();
                let (first, key) = (a_record(n), key(&name));
                assert_eq!(provider.create(&key, &first).await.unwrap(), Created::Done);
                tell(1);
                let second = cloakroom::testkit::record(&cloakroom::Clock::system()).version(2).build();
                assert_eq!(provider.update(&key, &second, &first).await.unwrap(), Updated::Done);
                tell(2);
                if n % 2 == 0 {
                    assert!(provider.delete(&key).await.unwrap());
                    tell(3);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
