//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, Principal, Provider, SqliteProvider,
    providers::{Created, IndexEntry, StoreKey},
};

use crate::folder::{DataFolder, TABLE, number, open, plant, run};

#[tokio::test]
async fn an_unreadable_record_is_an_error_once_and_put_aside() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").value("n", 1).build();
    let bytes = stored.as_bytes();
    let longest = "k".repeat(192);
    for (place, (name, spoilt)) in [
        ("short", bytes[..bytes.len() - 1].to_vec()),
        ("foreign", b"an application's own".to_vec()),
        ("empty", Vec::new()),
        (longest.as_str(), [bytes, b"x"].concat()),
    ]
    .into_iter()
    .enumerate()
    {
        let key: StoreKey = name.parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        plant(&folder.path(), name, &spoilt);
        let error = provider.load(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert_eq!(provider.load(&key).await.unwrap(), None, "{name}: the error comes once");
        // No count and no list has the row, but it is still in the table.
        assert_eq!(provider.count().await.unwrap(), 0, "{name}");
        assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 0, "{name}");
        let alice = IndexEntry::from(&Principal::new("alice").unwrap());
        assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 0, "{name}");
        assert_eq!(provider.delete_expired(10).await.unwrap().removed, 0, "{name}");
        let aside = number(&folder.path(), &format!("SELECT COUNT(*) FROM {TABLE} WHERE id LIKE '!%'"));
        assert_eq!(aside, place as i64 + 1, "{name}");
        // The key can be used again.
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        assert_eq!(provider.load(&key).await.unwrap(), Some(stored.clone()));
        assert!(provider.delete(&key).await.unwrap());
    }
    let kept: Vec<u8> = open(&folder.path())
        .query_row(&format!("SELECT record FROM {TABLE} WHERE id LIKE '!foreign.%'"), (), |row| row.get(0))
        .unwrap();
    assert_eq!(kept, b"an application's own");
    let week = format!(
        "SELECT MIN(expires / 1000 - unixepoch()) BETWEEN 604700 AND 604800 FROM {TABLE} WHERE id LIKE '!%'"
    );
    assert_eq!(number(&folder.path(), &week), 1);
}

#[tokio::test]
async fn a_list_skips_a_record_without_a_head() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").filled(20_000).build();
    for name in ["aa", "bb", "cc"] {
        assert_eq!(provider.create(&name.parse().unwrap(), &stored).await.unwrap(), Created::Done);
    }
    run(&folder.path(), &format!("UPDATE {TABLE} SET record = x'78' WHERE id = 'bb'"));
    let page = provider.scan(None, 3).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[0].meta, stored.meta());
    assert!(page.next.is_some(), "a full page is not the last");
}

#[tokio::test]
async fn a_record_of_a_newer_release_stays_in_place() {
    let folder = DataFolder::new();
    let provider = SqliteProvider::connect(folder.path()).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").build();
    // Change the number of the format, then that of the codec.
    for (name, place) in [("format", 4), ("codec", 5)] {
        let key: StoreKey = name.parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        let mut bytes = stored.as_bytes().to_vec();
        bytes[place] = 0x7f;
        plant(&folder.path(), name, &bytes);
        for _ in 0..2 {
            let found = provider.load(&key).await.unwrap().unwrap_or_else(|| panic!("{name} is there"));
            assert_eq!(found.principal(), stored.principal(), "{name}");
        }
    }
    let alice = IndexEntry::from(&Principal::new("alice").unwrap());
    assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 2);
    assert!(provider.delete(&"format".parse().unwrap()).await.unwrap(), "it can be ended");
}
