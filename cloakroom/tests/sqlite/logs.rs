//! The size of the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cloakroom::providers::Created;
use cloakroom::testkit::record;
use cloakroom::{Clock, Provider, SqliteProvider};

use crate::folder::{DataFolder, PATIENCE, TABLE, key, open};

/// The size in bytes to which SQLite itself cuts a log. A log that the provider has cut in time is smaller.
const LIMIT: u64 = 64 << 20;

/// The time of a read, as of a long list. Reads of several threads overlap, so that there is always one.
const READ: Duration = Duration::from_millis(5);

fn read_until(ended: &Arc<AtomicBool>, path: &Path) -> JoinHandle<()> {
    let (ended, connection) = (Arc::clone(ended), open(path));
    thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            connection.execute_batch(&format!("BEGIN; SELECT COUNT(*) FROM {TABLE}")).unwrap();
            thread::sleep(READ);
            connection.execute_batch("COMMIT").unwrap();
        }
    })
}

#[tokio::test]
async fn the_log_is_cut_under_constant_reads() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::builder(folder.path()).deadline(PATIENCE).connect().await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4).map(|_| read_until(&ended, &folder.path())).collect();
    let log = folder.path().with_extension("db-wal");
    let large = record(&Clock::system()).filled(20_000).build();
    let (start, mut largest, mut last, mut cuts) = (Instant::now(), 0, 0, 0);
    for number in 0.. {
        assert_eq!(provider.create(&key(&format!("n{number}")), &large).await.unwrap(), Created::Done);
        let size = std::fs::metadata(&log).unwrap().len();
        cuts += u32::from(size < last);
        (largest, last) = (largest.max(size), size);
        if cuts == 2 {
            break;
        }
        assert!(
            largest < LIMIT,
            "the log has {largest} bytes after {number} changes, and was cut {cuts} times"
        );
        assert!(start.elapsed() < PATIENCE, "{number} changes, {largest} bytes, {cuts} cuts");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ended.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
}
