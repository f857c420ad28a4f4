//! Group commit: changes that share a transaction succeed and fail each for itself, and no answer leaves before the commit.

use std::time::Duration;

use cloakroom::providers::{Created, Updated};
use cloakroom::{Error, ErrorKind, Provider, SqliteProvider};
use rusqlite::Connection;
use tokio::task::JoinHandle;

use crate::folder::{DataFolder, PATIENCE, TABLE, a_record, key, open, run};

struct Group {
    folder: DataFolder,
    provider: SqliteProvider,
    lock: Connection,
}

impl Group {
    /// Opens a provider, and takes the lock so that the changes of the test wait together.
    async fn new(sql: &str) -> Group {
        let folder = DataFolder::new();
        let provider = SqliteProvider::builder(folder.path()).deadline(PATIENCE).connect().await.unwrap();
        assert_eq!(provider.create(&key("there"), &a_record(1)).await.unwrap(), Created::Done);
        run(&folder.path(), sql);
        let lock = open(&folder.path());
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        Group { folder, provider, lock }
    }

    /// Adds a change to the queue. The pause keeps the order of the queue.
    async fn create(&self, name: &str) -> JoinHandle<Result<Created, Error>> {
        let (provider, name) = (self.provider.clone(), key(name));
        let call = tokio::spawn(async move { provider.create(&name, &a_record(2)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        call
    }

    /// Adds an update whose base is not the stored record.
    async fn stale_update(&self) -> JoinHandle<Result<Updated, Error>> {
        let provider = self.provider.clone();
        let record = cloakroom::testkit::record(&cloakroom::Clock::system()).version(9).build();
        let call = tokio::spawn(async move { provider.update(&key("there"), &record, &record).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        call
    }

    fn release(&self) {
        self.lock.execute_batch("ROLLBACK").unwrap();
    }

    /// Returns the names in the table, in order.
    fn names(&self) -> Vec<String> {
        let connection = open(&self.folder.path());
        let mut statement = connection.prepare(&format!("SELECT id FROM {TABLE} ORDER BY id")).unwrap();
        let names = statement.query_map((), |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }
}

fn refuse(action: &str) -> String {
    format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON {TABLE} WHEN NEW.id = 'bad' BEGIN SELECT RAISE({action}, 'no'); END"
    )
}

/// Makes the insert of `bad` break a constraint that is checked at the commit alone.
fn deferred() -> String {
    format!(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
         CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED); \
         CREATE TRIGGER breaks AFTER INSERT ON {TABLE} WHEN NEW.id = 'bad' BEGIN INSERT INTO child VALUES (1); END"
    )
}

#[tokio::test]
async fn a_change_that_fails_undoes_no_other_of_its_group() {
    // The second makes SQLite roll back the whole transaction, as some failed writes do.
    for action in ["ABORT", "ROLLBACK"] {
        let group = Group::new(&refuse(action)).await;
        let (one, bad, two) =
            (group.create("one").await, group.create("bad").await, group.create("two").await);
        group.release();
        assert_eq!(one.await.unwrap().unwrap(), Created::Done, "{action}");
        let error = bad.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{action}: {error}");
        assert_eq!(two.await.unwrap().unwrap(), Created::Done, "{action}");
        assert_eq!(group.names(), ["one", "there", "two"], "{action}");
    }
}

#[tokio::test]
async fn a_failed_commit_is_an_error_for_each_of_its_group() {
    let group = Group::new(&deferred()).await;
    let (one, bad) = (group.create("one").await, group.create("bad").await);
    let (taken, stale) = (group.create("there").await, group.stale_update().await);
    group.release();
    for error in [one, bad, taken].map(|call| async { call.await.unwrap().unwrap_err() }) {
        let error = error.await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(stale.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(group.names(), ["there"]);
    // The next group is not affected.
    assert_eq!(group.provider.create(&key("one"), &a_record(1)).await.unwrap(), Created::Done);
    assert_eq!(group.provider.create(&key("there"), &a_record(1)).await.unwrap(), Created::Taken);
}

#[tokio::test]
async fn changes_that_wait_together_are_one_transaction() {
    let group = Group::new("").await;
    let before = open(&group.folder.path());
    let version = |connection: &Connection| -> i64 {
        connection.pragma_query_value(None, "data_version", |row| row.get(0)).unwrap()
    };
    let first = version(&before);
    let mut calls = Vec::new();
    for n in 0..20 {
        calls.push(group.create(&format!("n{n:02}")).await);
    }
    assert_eq!(version(&before), first);
    group.release();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), Created::Done);
        // Each answer came after the commit of all.
        assert_eq!(group.names().len(), 21);
    }
}
