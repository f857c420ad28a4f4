//! The index rows: they follow every step of a session, in the same transaction.

use std::time::Duration;

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, Provider,
    providers::{Collected, Created, IndexEntry, Label, Record, Renamed, StoreKey, Updated},
};

use super::{SqlServer, Table};

/// The statements on the index table that differ between the servers.
pub(crate) trait IndexSql: SqlServer {
    /// Returns a query for the index rows of `table`, each as `kind value@key`, in the order of value and key.
    fn rows(table: &str) -> String;

    /// Returns statements that make the server refuse every new index row of `table`.
    fn refusal(table: &str) -> String;
}

impl<S: IndexSql> Table<S> {
    /// Returns the index rows, as `kind value@key`.
    fn rows(&self) -> Vec<String> {
        self.server.sql(&S::rows(&self.name)).lines().map(str::to_owned).collect()
    }

    fn refuse_rows(&self) {
        self.server.sql(&S::refusal(&self.name));
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

pub(crate) async fn the_index_rows_follow_every_step<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    let (one, two) = (key("one"), key("two"));
    let none = [""; 0];
    table.create(&one, &of(1, "", &[])).await;
    assert_eq!(table.rows(), none, "an anonymous session has none");

    let login = of(2, "alice", &["a"]);
    assert_eq!(table.provider.update(&one, &login, &of(1, "", &[])).await.unwrap(), Updated::Done);
    assert_eq!(table.rows(), ["label a@one", "principal alice@one"]);
    let next = of(3, "alice", &["b", "c"]);
    assert_eq!(table.provider.update(&one, &next, &login).await.unwrap(), Updated::Done);
    assert_eq!(table.rows(), ["principal alice@one", "label b@one", "label c@one"]);
    assert_eq!(table.provider.update(&one, &of(4, "bob", &[]), &login).await.unwrap(), Updated::Stale);
    assert_eq!(table.rows().len(), 3, "a stale update changes no row");

    assert_eq!(table.provider.rename(&one, &two, &next, 3, None).await.unwrap(), Renamed::Done);
    assert_eq!(table.rows(), ["principal alice@two", "label b@two", "label c@two"]);
    let stone = record(&Clock::system()).tombstone(&one, Duration::from_secs(30));
    let renamed = table.provider.rename(&two, &one, &of(4, "alice", &[]), 3, Some(&stone)).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    assert_eq!(table.rows(), ["principal alice@one"]);
    assert_eq!(
        table.provider.rename(&one, &key("three"), &of(5, "", &[]), 4, None).await.unwrap(),
        Renamed::Done
    );
    assert_eq!(table.rows(), none, "a record without entries leaves none of the old ones");

    let alice = of(1, "alice", &["a"]);
    table.create(&one, &alice).await;
    assert_eq!(table.provider.create(&one, &of(1, "bob", &[])).await.unwrap(), Created::Taken);
    assert_eq!(table.rows(), ["label a@one", "principal alice@one"]);
    assert_eq!(table.provider.update(&one, &stone, &alice).await.unwrap(), Updated::Done);
    assert_eq!(table.rows(), none, "a tombstone has none");

    table.create(&key("four"), &alice).await;
    assert!(table.provider.delete(&key("four")).await.unwrap());
    assert_eq!(table.rows(), none, "a deleted session has none");
}

pub(crate) async fn a_collection_leaves_no_index_rows<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    let over = |user: &str, labels: &[&str]| {
        let record = record(&Clock::system()).idle(Duration::from_millis(1));
        let record = if user.is_empty() { record } else { record.principal(user) };
        labels.iter().fold(record, |record, label| record.label(*label)).build()
    };
    for number in 0..20 {
        let record = if number % 3 == 0 { over("", &[]) } else { over("alice", &["a", "b"]) };
        table.create(&key(&format!("over-{number}")), &record).await;
    }
    table.create(&key("alive"), &of(1, "alice", &["a"])).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    // A new session takes the key of an expired one, and its index rows.
    table.create(&key("over-1"), &of(1, "bob", &[])).await;
    assert!(table.rows().iter().filter(|row| row.ends_with("@over-1")).eq(["principal bob@over-1"]));
    let mut removed = 0;
    loop {
        let Collected { removed: some, more } = table.provider.delete_expired(7).await.unwrap();
        assert!(some <= 7);
        removed += some;
        if !more {
            break;
        }
    }
    assert_eq!(removed, 19);
    assert_eq!(table.rows(), ["label a@alive", "principal alice@alive", "principal bob@over-1"]);
    assert_eq!(table.provider.count().await.unwrap(), 2);
}

pub(crate) async fn an_unreadable_record_leaves_no_index_rows<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    table.create(&key("one"), &of(1, "alice", &["a"])).await;
    server.sql(&format!("UPDATE {} SET record = 'x'", table.name));
    assert_eq!(table.provider.load(&key("one")).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(table.rows(), [""; 0]);
}

pub(crate) async fn a_change_of_an_unreadable_record_has_its_own_rows_alone<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    table.create(&key("one"), &of(1, "alice", &["a"])).await;
    server.sql(&format!("UPDATE {} SET record = 'x'", table.name));
    // The caller's record before the change had no user.
    let updated = table.provider.update(&key("one"), &of(2, "bob", &[]), &of(1, "", &[])).await.unwrap();
    assert_eq!(updated, Updated::Done);
    assert_eq!(table.rows(), ["principal bob@one"]);
}

pub(crate) async fn a_change_whose_index_rows_fail_is_undone<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    let first = of(1, "alice", &[]);
    table.create(&key("one"), &first).await;
    table.refuse_rows();
    let (two, next) = (key("two"), of(2, "bob", &["a"]));
    let stone = record(&Clock::system()).tombstone(&two, Duration::from_secs(30));
    for error in [
        table.provider.update(&key("one"), &next, &first).await.unwrap_err(),
        table.provider.rename(&key("one"), &two, &next, 1, None).await.unwrap_err(),
        table.provider.rename(&key("one"), &two, &next, 1, Some(&stone)).await.unwrap_err(),
        table.provider.create(&two, &next).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(table.provider.load(&key("one")).await.unwrap(), Some(first));
    assert_eq!(table.provider.load(&two).await.unwrap(), None);
    assert_eq!(table.rows(), ["principal alice@one"]);
}

pub(crate) async fn index_rows_of_a_restored_backup_do_no_harm<S: IndexSql>(server: &'static S) {
    let table = Table::new(server).await;
    let stale = "INSERT INTO {t}_index VALUES ('principal', 'alice', 'one'), ('label', 'a', 'gone')";
    server.sql(&stale.replace("{t}", &table.name));
    table.create(&key("one"), &of(1, "alice", &["a"])).await;
    let entry = IndexEntry::from(&Label::new("a").unwrap());
    let found = table.provider.indexed(&entry, None, 10).await.unwrap();
    assert!(found.entries.iter().map(|listed| &listed.key).eq([&key("one")]));
}
