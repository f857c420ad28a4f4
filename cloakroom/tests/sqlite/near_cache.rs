//! A near cache in front of SQLite: one handle changes, and the copies of the other are behind by the bound at most.

use std::time::Duration;

use cloakroom::providers::{Created, Record, StoreKey, Touched, Updated};
use cloakroom::testkit::record;
use cloakroom::{Cached, ManualClock, Provider, SqliteProvider};

use crate::folder::{DataFolder, key};
use crate::opened;

/// The time for which a copy is used.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// Two handles on one file, as two processes have them. The first has copies.
struct TwoHandles {
    time: ManualClock,
    here: Cached<SqliteProvider>,
    there: SqliteProvider,
    _folder: DataFolder,
}

impl TwoHandles {
    async fn new() -> TwoHandles {
        let (folder, time) = (DataFolder::new(), ManualClock::default());
        let (here, there) = (opened(&folder, &time.clock()).await, opened(&folder, &time.clock()).await);
        let here = Cached::builder(here).clock(time.clock()).within(BOUND);
        TwoHandles { time, here, there, _folder: folder }
    }

    fn at(&self, version: u64) -> Record {
        record(&self.time.clock()).principal("alice").version(version).value("n", version).build()
    }

    async fn version(&self, key: &StoreKey) -> Option<u64> {
        self.here.load(key).await.unwrap().map(|found| found.version())
    }
}

#[tokio::test]
async fn a_logout_elsewhere_is_noticed_within_the_bound() {
    let both = TwoHandles::new().await;
    let one = key("one");
    assert_eq!(both.there.create(&one, &both.at(1)).await.unwrap(), Created::Done);
    assert_eq!(both.version(&one).await, Some(1));
    assert_eq!(both.there.update(&one, &both.at(2), &both.at(1)).await.unwrap(), Updated::Done);
    both.time.advance(BOUND - Duration::from_millis(1));
    assert_eq!(both.version(&one).await, Some(1), "the copy is used for as long as it may be");
    both.time.advance(Duration::from_millis(1));
    assert_eq!(both.version(&one).await, Some(2));
    assert!(both.there.delete(&one).await.unwrap());
    both.time.advance(BOUND);
    assert_eq!(both.version(&one).await, None, "the end");
    assert_eq!(both.there.create(&one, &both.at(7)).await.unwrap(), Created::Done);
    assert_eq!(both.version(&one).await, Some(7), "no copy says that a session is missing");
}

#[tokio::test]
async fn a_copy_that_is_behind_loses_no_change() {
    let both = TwoHandles::new().await;
    let one = key("one");
    assert_eq!(both.there.create(&one, &both.at(1)).await.unwrap(), Created::Done);
    assert_eq!(both.version(&one).await, Some(1));
    assert_eq!(both.there.update(&one, &both.at(2), &both.at(1)).await.unwrap(), Updated::Done);
    assert_eq!(both.here.update(&one, &both.at(9), &both.at(1)).await.unwrap(), Updated::Stale);
    assert_eq!(both.version(&one).await, Some(2), "after a conflict the file is read");
    assert_eq!(both.here.update(&one, &both.at(3), &both.at(2)).await.unwrap(), Updated::Done);
    assert_eq!(both.version(&one).await, Some(3), "its own change is read at once");
    assert!(both.there.delete(&one).await.unwrap());
    assert_eq!(both.here.touch(&one, both.time.clock().now()).await.unwrap(), Touched::Gone);
    assert_eq!(both.version(&one).await, None, "an ended session is not used further");
}
