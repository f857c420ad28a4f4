//! The index rows: they follow every step of a session, in the same transaction.

use std::time::Duration;

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, PostgresProvider, Provider,
    providers::{Collected, Created, IndexEntry, Label, Record, Renamed, StoreKey, Updated},
};

use crate::server::{a_table, shared, url_with};

struct Rig {
    table: String,
    provider: PostgresProvider,
}

impl Rig {
    async fn new() -> Self {
        let table = a_table();
        let provider = PostgresProvider::connect(url_with(&format!("table={table}"))).await.unwrap();
        Rig { table, provider }
    }

    /// Returns the index rows, as `value@key`.
    fn rows(&self) -> Vec<String> {
        let query = format!(
            "SELECT kind || ' ' || convert_from(value, 'UTF8') || '@' || id FROM {}_index ORDER BY value, id",
            self.table
        );
        shared().sql(&query).lines().map(str::to_owned).collect()
    }

    async fn create(&self, key: &StoreKey, record: &Record) {
        assert_eq!(self.provider.create(key, record).await.unwrap(), Created::Done);
    }
}

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

/// Returns a record of `user`, if one is given, with `labels`.
fn of(version: u64, user: &str, labels: &[&str]) -> Record {
    let record = record(&Clock::system()).version(version);
    let record = if user.is_empty() { record } else { record.principal(user) };
    labels.iter().fold(record, |record, label| record.label(*label)).build()
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn the_index_rows_follow_every_step() {
    let rig = Rig::new().await;
    let (one, two) = (key("one"), key("two"));
    let none = [""; 0];
    rig.create(&one, &of(1, "", &[])).await;
    assert_eq!(rig.rows(), none, "an anonymous session has none");

    let login = of(2, "alice", &["a"]);
    assert_eq!(rig.provider.update(&one, &login, &of(1, "", &[])).await.unwrap(), Updated::Done);
    assert_eq!(rig.rows(), ["label a@one", "principal alice@one"]);
    let next = of(3, "alice", &["b", "c"]);
    assert_eq!(rig.provider.update(&one, &next, &login).await.unwrap(), Updated::Done);
    assert_eq!(rig.rows(), ["principal alice@one", "label b@one", "label c@one"]);
    assert_eq!(rig.provider.update(&one, &of(4, "bob", &[]), &login).await.unwrap(), Updated::Stale);
    assert_eq!(rig.rows().len(), 3, "a stale update changes no row");

    assert_eq!(rig.provider.rename(&one, &two, &next, 3, None).await.unwrap(), Renamed::Done);
    assert_eq!(rig.rows(), ["principal alice@two", "label b@two", "label c@two"]);
    let stone = record(&Clock::system()).tombstone(&one, Duration::from_secs(30));
    let renamed = rig.provider.rename(&two, &one, &of(4, "alice", &[]), 3, Some(&stone)).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    assert_eq!(rig.rows(), ["principal alice@one"]);
    assert_eq!(
        rig.provider.rename(&one, &key("three"), &of(5, "", &[]), 4, None).await.unwrap(),
        Renamed::Done
    );
    assert_eq!(rig.rows(), none, "a record without entries leaves none of the old ones");

    let alice = of(1, "alice", &["a"]);
    rig.create(&one, &alice).await;
    assert_eq!(rig.provider.create(&one, &of(1, "bob", &[])).await.unwrap(), Created::Taken);
    assert_eq!(rig.rows(), ["label a@one", "principal alice@one"]);
    assert_eq!(rig.provider.update(&one, &stone, &alice).await.unwrap(), Updated::Done);
    assert_eq!(rig.rows(), none, "a tombstone has none");

    rig.create(&key("four"), &alice).await;
    assert!(rig.provider.delete(&key("four")).await.unwrap());
    assert_eq!(rig.rows(), none, "a deleted session has none");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_collection_leaves_no_index_rows() {
    let rig = Rig::new().await;
    let over = |user: &str, labels: &[&str]| {
        let record = record(&Clock::system()).idle(Duration::from_millis(1));
        let record = if user.is_empty() { record } else { record.principal(user) };
        labels.iter().fold(record, |record, label| record.label(*label)).build()
    };
    for number in 0..20 {
        let record = if number % 3 == 0 { over("", &[]) } else { over("alice", &["a", "b"]) };
        rig.create(&key(&format!("over-{number}")), &record).await;
    }
    rig.create(&key("alive"), &of(1, "alice", &["a"])).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    // A new session takes the key of an expired one, and its index rows.
    rig.create(&key("over-1"), &of(1, "bob", &[])).await;
    assert!(rig.rows().iter().filter(|row| row.ends_with("@over-1")).eq(["principal bob@over-1"]));
    let mut removed = 0;
    loop {
        let Collected { removed: some, more } = rig.provider.delete_expired(7).await.unwrap();
        assert!(some <= 7);
        removed += some;
        if !more {
            break;
        }
    }
    assert_eq!(removed, 19);
    assert_eq!(rig.rows(), ["label a@alive", "principal alice@alive", "principal bob@over-1"]);
    assert_eq!(rig.provider.count().await.unwrap(), 2);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_unreadable_record_leaves_no_index_rows() {
    let rig = Rig::new().await;
    rig.create(&key("one"), &of(1, "alice", &["a"])).await;
    shared().sql(&format!("UPDATE {} SET record = 'x'", rig.table));
    assert_eq!(rig.provider.load(&key("one")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(rig.rows(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_change_whose_index_rows_fail_is_undone() {
    let rig = Rig::new().await;
    let first = of(1, "alice", &[]);
    rig.create(&key("one"), &first).await;
    let trigger = format!(
        "CREATE FUNCTION refuse_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$; \
         CREATE TRIGGER refuse_{0} BEFORE INSERT ON {0}_index FOR EACH ROW \
         EXECUTE FUNCTION refuse_{0}()",
        rig.table
    );
    shared().sql(&trigger);
    let (two, next) = (key("two"), of(2, "bob", &["a"]));
    let stone = record(&Clock::system()).tombstone(&two, Duration::from_secs(30));
    for error in [
        rig.provider.update(&key("one"), &next, &first).await.unwrap_err(),
        rig.provider.rename(&key("one"), &two, &next, 1, None).await.unwrap_err(),
        rig.provider.rename(&key("one"), &two, &next, 1, Some(&stone)).await.unwrap_err(),
        rig.provider.create(&two, &next).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(rig.provider.load(&key("one")).await.unwrap(), Some(first));
    assert_eq!(rig.provider.load(&two).await.unwrap(), None);
    assert_eq!(rig.rows(), ["principal alice@one"]);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn index_rows_of_a_restored_backup_do_no_harm() {
    let rig = Rig::new().await;
    let stale = "INSERT INTO {t}_index VALUES ('principal', 'alice', 'one'), ('label', 'a', 'gone')";
    shared().sql(&stale.replace("{t}", &rig.table));
    rig.create(&key("one"), &of(1, "alice", &["a"])).await;
    let entry = IndexEntry::from(&Label::new("a").unwrap());
    let found = rig.provider.indexed(&entry, None, 10).await.unwrap();
    assert!(found.entries.iter().map(|listed| &listed.key).eq([&key("one")]));
}
