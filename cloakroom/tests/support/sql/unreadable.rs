//! Unreadable records: one error, then a new session, and the bytes stay for the operator.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, Principal, Provider,
    providers::{Created, IndexEntry, StoreKey},
};

/// A table of sessions, with access to its rows that bypasses the provider.
pub(crate) trait RawTable {
    type Provider: Provider;

    fn provider(&self) -> &Self::Provider;

    /// Overwrites the record of a row.
    fn plant(&self, key: &str, bytes: &[u8]);

    /// Returns the rows whose key begins with `!`. Each is a line of the key, `expires` and the record in hex, with blanks between.
    fn put_aside(&self) -> String;
}

/// A row that the provider has put aside.
struct Aside {
    key: String,
    expires: SystemTime,
    record: Vec<u8>,
}

fn aside(table: &impl RawTable) -> Vec<Aside> {
    let row = |line: &str| {
        let [key, expires, record] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        let record = data_encoding::HEXLOWER_PERMISSIVE.decode(record.as_bytes()).unwrap();
        let expires = UNIX_EPOCH + Duration::from_millis(expires.parse().unwrap());
        Aside { key: key.to_owned(), expires, record }
    };
    table.put_aside().lines().map(row).collect()
}

pub(crate) async fn an_unreadable_record_is_an_error_once_and_put_aside(table: &impl RawTable) {
    let provider = table.provider();
    let stored = record(&Clock::system()).principal("alice").value("n", 1).build();
    let bytes = stored.as_bytes();
    let longest = "k".repeat(192);
    for (number, (name, spoilt)) in [
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
        table.plant(name, &spoilt);
        let error = provider.load(&key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert_eq!(provider.load(&key).await.unwrap(), None, "{name}: the error comes once");
        // No count and no list has the row, but it is still in the table.
        assert_eq!(provider.count().await.unwrap(), 0, "{name}");
        assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 0, "{name}");
        let alice = IndexEntry::from(&Principal::new("alice").unwrap());
        assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 0, "{name}");
        assert_eq!(provider.delete_expired(10).await.unwrap().removed, 0, "{name}");
        assert_eq!(aside(table).len(), number + 1, "{name}");
        // The key can be used again.
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        assert_eq!(provider.load(&key).await.unwrap(), Some(stored.clone()));
        assert!(provider.delete(&key).await.unwrap());
    }
    let rows = aside(table);
    let kept: Vec<_> = rows.iter().filter(|row| row.key.starts_with("!foreign.")).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].record, b"an application's own");
    let first = rows.iter().map(|row| row.expires).min().unwrap();
    let left = first.duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((604_700..=604_800).contains(&left), "it is kept for a week, not for {left} s");
}

pub(crate) async fn a_list_skips_a_record_without_a_head(table: &impl RawTable) {
    let provider = table.provider();
    let stored = record(&Clock::system()).principal("alice").filled(20_000).build();
    for name in ["aa", "bb", "cc"] {
        assert_eq!(provider.create(&name.parse().unwrap(), &stored).await.unwrap(), Created::Done);
    }
    table.plant("bb", b"x");
    let page = provider.scan(None, 3).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[0].meta, stored.meta());
    assert!(page.next.is_some(), "a full page is not the last");
}

pub(crate) async fn a_record_of_a_newer_release_stays_in_place(table: &impl RawTable) {
    let provider = table.provider();
    let stored = record(&Clock::system()).principal("alice").build();
    // Change the number of the format, then that of the codec.
    for (name, place) in [("format", 4), ("codec", 5)] {
        let key: StoreKey = name.parse().unwrap();
        assert_eq!(provider.create(&key, &stored).await.unwrap(), Created::Done);
        let mut bytes = stored.as_bytes().to_vec();
        bytes[place] = 0x7f;
        table.plant(name, &bytes);
        for _ in 0..2 {
            let found = provider.load(&key).await.unwrap().unwrap_or_else(|| panic!("{name} is there"));
            assert_eq!(found.principal(), stored.principal(), "{name}");
        }
    }
    let alice = IndexEntry::from(&Principal::new("alice").unwrap());
    assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 2);
    assert!(provider.delete(&"format".parse().unwrap()).await.unwrap(), "it can be ended");
}
