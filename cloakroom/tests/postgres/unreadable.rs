//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, PostgresProvider, Principal, Provider,
    providers::{Created, IndexEntry, StoreKey},
};

use crate::server::{a_table, shared, url_with};

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_unreadable_record_is_an_error_once_and_put_aside() {
    let table = a_table();
    let provider = PostgresProvider::connect(url_with(&format!("table={table}"))).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").value("n", 1).build();
    let cut = stored.as_bytes().len() - 1;
    let longest = "k".repeat(192);
    for (number, (name, spoil)) in [
        ("short", format!("substr(record, 1, {cut})")),
        ("foreign", "'an application''s own'".to_owned()),
        ("empty", "''".to_owned()),
        (longest.as_str(), "record || 'x'".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let key: StoreKey = name.parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        shared().sql(&format!("UPDATE {table} SET record = {spoil} WHERE id = '{name}'"));
        let error = provider.load(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert_eq!(provider.load(&key).await.unwrap(), None, "{name}: the error comes once");
        // No count and no list has the row, but it is still in the table.
        assert_eq!(provider.count().await.unwrap(), 0, "{name}");
        assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 0, "{name}");
        let alice = Principal::new("alice").unwrap();
        assert_eq!(
            provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(),
            0,
            "{name}"
        );
        assert_eq!(provider.delete_expired(10).await.unwrap().removed, 0, "{name}");
        let aside = shared().sql(&format!("SELECT COUNT(*) FROM {table} WHERE id LIKE '!%'"));
        assert_eq!(aside.trim(), (number + 1).to_string(), "{name}");
        // The key can be used again.
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        assert_eq!(provider.load(&key).await.unwrap(), Some(stored.clone()));
        assert!(provider.delete(&key).await.unwrap());
    }
    let kept =
        shared().sql(&format!("SELECT convert_from(record, 'UTF8') FROM {table} WHERE id LIKE '!foreign.%'"));
    assert_eq!(kept.trim(), "an application's own");
    let week = shared().sql(&format!(
        "SELECT MIN(expires / 1000 - extract(epoch FROM now())) BETWEEN 604700 AND 604800 FROM {table} WHERE id LIKE '!%'"
    ));
    assert_eq!(week.trim(), "t");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_list_skips_a_record_without_a_head() {
    let table = a_table();
    let provider = PostgresProvider::connect(url_with(&format!("table={table}"))).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").filled(20_000).build();
    for name in ["aa", "bb", "cc"] {
        assert_eq!(provider.create(&name.parse().unwrap(), &stored).await.unwrap(), Created::Done);
    }
    shared().sql(&format!("UPDATE {table} SET record = 'x' WHERE id = 'bb'"));
    let page = provider.scan(None, 3).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[0].meta, stored.meta());
    assert!(page.next.is_some(), "a full page is not the last");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_record_of_a_newer_release_stays_in_place() {
    let table = a_table();
    let provider = PostgresProvider::connect(url_with(&format!("table={table}"))).await.unwrap();
    let stored = record(&Clock::system()).principal("alice").build();
    // Change the number of the format, then that of the codec.
    for (name, offset) in [("format", 5), ("codec", 6)] {
        let key: StoreKey = name.parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        shared().sql(&format!(
            "UPDATE {table} SET record = overlay(record placing '\\x7f' from {offset}) WHERE id = '{name}'"
        ));
        for _ in 0..2 {
            let found = provider.load(&key).await.unwrap().unwrap_or_else(|| panic!("{name} is there"));
            assert_eq!(found.principal(), stored.principal(), "{name}");
        }
    }
    let alice = Principal::new("alice").unwrap();
    assert_eq!(provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(), 2);
    assert!(provider.delete(&"format".parse().unwrap()).await.unwrap(), "it can be ended");
}
