//! Concurrent calls on one handle.

use crate::record::IndexEntry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::listing::{Listing, ListingPause};
use super::*;
use crate::provider::AnyProvider;

/// Runs every pair of walks concurrently on one handle and checks that each returns what it returns alone.
async fn walk_beside_each_other(provider: AnyProvider, alices: Option<usize>) {
    const SESSIONS: usize = 50;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let provider = provider.clone();
        tasks.spawn(async move {
            for _ in 0..100 {
                match task % 4 {
                    0 => assert_eq!(provider.count().await.unwrap(), SESSIONS as u64),
                    1 => assert_eq!(
                        provider.delete_expired(9).await.unwrap(),
                        Collected { removed: 0, more: false }
                    ),
                    2 => {
                        let page = provider.scan(None, SESSIONS).await.unwrap();
                        assert_eq!((page.entries.len(), page.next), (SESSIONS, None));
                    }
                    _ => {
                        let Some(expected) = alices else { continue };
                        let page =
                            provider.indexed(&IndexEntry::from(&principal("alice")), None, 99).await.unwrap();
                        assert_eq!((page.entries.len(), page.next), (expected, None));
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_walks_do_not_disturb_each_other() {
    let rig = Rig::new();
    let provider = rig.provider();
    for number in 0..50 {
        let record = rig.of(if number % 2 == 0 { "alice" } else { "bob" });
        let key = key(&format!("{:02}{number}", number % 7));
        assert_eq!(provider.create(&key, &record).await.unwrap(), Created::Done);
    }
    walk_beside_each_other(AnyProvider::new(provider), Some(25)).await;
}

#[cfg(feature = "beego")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_beego_walks_do_not_disturb_each_other() {
    let rig = Rig::new();
    for number in 0..50 {
        rig.plant(&key(&format!("{:02}{number}", number % 7)), b"a value");
    }
    let provider = FileProvider::builder(rig.path()).connect_beego(Duration::from_secs(3600)).unwrap();
    walk_beside_each_other(provider, None).await;
}

#[test]
fn a_folder_can_be_listed_concurrently() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<String> = (0..2000).map(|number| format!("ab{number:060}")).collect();
    expected.iter().for_each(|name| drop(fs::write(folder.path().join(name), "")));
    let dir: std::os::fd::OwnedFd = fs::File::open(folder.path()).unwrap().into();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(folder::list(&dir).unwrap(), expected)));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_beside_changes_meets_every_lasting_session() {
    let rig = Rig::new();
    let provider = rig.provider();
    let mut lasting = rig.of("alice");
    lasting.edit(|meta| meta.times.idle_deadline = Millis::NEVER);
    for number in 0..40 {
        assert_eq!(provider.create(&key(&format!("aa{number:02}")), &lasting).await.unwrap(), Created::Done);
    }
    let over = Arc::new(AtomicBool::new(false));
    let (changer, done, record) = (provider.clone(), Arc::clone(&over), rig.record());
    let changing = tokio::spawn(async move {
        while !done.load(Ordering::Relaxed) {
            assert_eq!(changer.create(&key("aazz"), &record).await.unwrap(), Created::Done);
            assert!(changer.delete(&key("aazz")).await.unwrap());
        }
    });
    for _ in 0..100 {
        let count = provider.count().await.unwrap();
        assert!((40..=41).contains(&count), "{count}");
        let mut met: Vec<String> = Vec::new();
        let mut cursor = None;
        loop {
            let page = provider.scan(cursor, 7).await.unwrap();
            met.extend(page.entries.iter().map(|listed| listed.key.as_str().to_owned()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        met.retain(|key| key != "aazz");
        assert_eq!(met, (0..40).map(|number| format!("aa{number:02}")).collect::<Vec<_>>());
        assert_eq!(keys_of(&provider, "alice").await.len(), 40);
    }
    over.store(true, Ordering::Relaxed);
    changing.await.unwrap();
}

/// Renames a session, while a listing is under way, to a key that the listing has read already. Returns the listed keys.
async fn listed_beside_a_rename(rig: &Rig, provider: &FileProvider) -> Vec<String> {
    let (at, from) = (key("ab12"), key("cd34"));
    assert_ne!(locks::stripe(&at), locks::stripe(&from));
    let record = rig.of("alice");
    assert_eq!(provider.create(&from, &record).await.unwrap(), Created::Done);
    let mut listing = Listing::new(&IndexEntry::from(&principal("alice")), None, 9);
    let held = hold(provider, &from).await;
    assert!(matches!(provider.0.indexed(&mut listing, None).unwrap(), Err(ListingPause::Locked(_))));
    drop(held);
    assert_eq!(provider.rename(&from, &at, &record, 1, None).await.unwrap(), Renamed::Done);
    let Ok(page) = provider.0.indexed(&mut listing, None).unwrap() else { panic!("nothing is in its way") };
    page.entries.into_iter().map(|listed| listed.key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_session_renamed_to_an_expired_key_is_listed() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.of("alice")).await.unwrap(), Created::Done);
    rig.time.advance(Duration::from_secs(61));
    assert_eq!(listed_beside_a_rename(&rig, &provider).await, ["ab12"]);
}

#[tokio::test]
async fn a_session_renamed_to_a_stale_index_entry_is_listed() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.of("alice")).await.unwrap(), Created::Done);
    fs::remove_file(rig.file(&key("ab12"))).unwrap();
    assert_eq!(listed_beside_a_rename(&rig, &provider).await, ["ab12"]);
}

#[tokio::test]
async fn a_users_sessions_come_in_bounded_pages() {
    let rig = Rig::new();
    let provider = rig.provider();
    let (alice, mut expected) = (principal("alice"), Vec::new());
    for number in 0..25 {
        let text = format!("k{number:02}");
        assert_eq!(provider.create(&key(&text), &rig.of("alice")).await.unwrap(), Created::Done);
        expected.push(text);
    }
    for limit in [1, 3, 5, 24, 25, 26] {
        let (mut cursor, mut met, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = provider.indexed(&IndexEntry::from(&alice), cursor, limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            met.extend(page.entries.into_iter().map(|listed| listed.key.as_str().to_owned()));
            (cursor, pages) = (page.next, pages + 1);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((met, pages), (expected.clone(), 25usize.div_ceil(limit)), "{limit}");
    }
    let none = provider.indexed(&IndexEntry::from(&alice), None, 0).await.unwrap();
    assert!(none.entries.is_empty() && none.next.is_some());
    let end = provider.indexed(&IndexEntry::from(&alice), Some(Cursor::new("zz")), 9).await.unwrap();
    assert!(end.entries.is_empty() && end.next.is_none());

    // A page reads no more records than it shows, so a stale index entry after it stays.
    fs::remove_file(rig.file(&key("k20"))).unwrap();
    let page = provider.indexed(&IndexEntry::from(&alice), None, 5).await.unwrap();
    assert_eq!((page.entries.len(), page.next), (5, Some(Cursor::new("k04"))));
    assert_eq!(index_entries(&rig).len(), 25);
    assert_eq!(keys_of(&provider, "alice").await.len(), 24);
    assert_eq!(index_entries(&rig).len(), 24);
}
