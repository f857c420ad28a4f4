//! `scan` walks over all live sessions, page by page, and meets each session that exists throughout at least once.

use std::collections::BTreeMap;

use crate::provider::{Cursor, Provider, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, keys, keys_of, minutes};

pub(super) async fn a_walk_over_an_empty_store_meets_nothing(f: Fixture) {
    if !f.lists().await {
        return;
    }
    assert_eq!(f.scan(10).await, [], "nothing was ever there");
}

pub(super) async fn scan_meets_every_record(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let all = keys(25);
    for key in &all {
        f.put(key, &f.record().build()).await;
    }
    for limit in [1, 2, 7, 24, 25, 26, 1_000] {
        assert_eq!(keys_of(&f.scan(limit).await), all, "a walk in pages of {limit}");
    }
}

pub(super) async fn a_page_tells_what_stands_beside_the_data(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let mut expected = BTreeMap::new();
    for (n, key) in keys(6).into_iter().enumerate() {
        let record =
            f.record().aged(minutes(n as u64)).version(n as u64).principal(format!("user-{n}")).filled(99);
        let record = record.idle(minutes(10 + n as u64)).build();
        f.put(&key, &record).await;
        expected.insert(key, record.meta());
    }
    let met: BTreeMap<_, _> = f.scan(4).await.into_iter().map(|entry| (entry.key, entry.meta)).collect();
    assert_eq!(met, expected, "version, times and user of each");
}

pub(super) async fn a_page_tells_of_the_last_change(f: Fixture) {
    if !f.lists().await {
        return;
    }
    f.put(&key("updated"), &f.record().build()).await;
    f.put(&key("touched"), &f.record().build()).await;
    f.advance(minutes(3)).await;
    let next = f.record().version(2).principal("alice").build();
    assert_eq!(f.update(&key("updated"), &next, 1).await, Updated::Done, "version 1 is there");
    assert_eq!(f.touch(&key("touched")).await, Touched::Done, "it is alive");
    for entry in f.scan(10).await {
        let record = f.load(&entry.key).await.expect("what a walk meets is there");
        assert_eq!(entry.meta, record.meta(), "a page and a load tell the same of {:?}", entry.key);
        assert_eq!(entry.meta.last_active(), f.now(), "{:?} was used just now", entry.key);
    }
}

pub(super) async fn a_walk_leaves_out_the_expired(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for (n, key) in keys(20).iter().enumerate() {
        let idle = if n % 2 == 0 { minutes(5) } else { minutes(50) };
        f.put(key, &f.record().idle(idle).build()).await;
    }
    f.advance(minutes(5)).await;
    let alive: Vec<_> = keys(20).into_iter().skip(1).step_by(2).collect();
    for limit in [1, 3, 100] {
        assert_eq!(keys_of(&f.scan(limit).await), alive, "a walk in pages of {limit} meets the living");
    }
}

pub(super) async fn a_walk_meets_every_session_that_stays(f: Fixture) {
    if !f.lists().await || !f.revokes().await {
        return;
    }
    let all = keys(30);
    for key in &all {
        f.put(key, &f.record().build()).await;
    }
    let (staying, leaving): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(n, _)| n % 3 != 0);
    let mut leaving = leaving.into_iter();
    let mut met = Vec::new();
    let mut cursor = None;
    for step in 0.. {
        assert!(step < 1_000, "the walk has no end");
        let page = f.provider.scan(cursor, 2).await.expect("a page");
        met.extend(page.entries);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // The other task stops at some time. A walk may meet sessions that appear ahead of it, and would never end.
        if step < 25 {
            f.put(&key(&format!("session-{:04}x", 29 - step)), &f.record().build()).await;
            if let Some((_, gone)) = leaving.next() {
                assert!(f.delete(&gone).await, "it was there before");
            }
            let changing = &staying[step % staying.len()].1;
            let version = f.load(changing).await.expect("it stays").meta().version();
            let next = f.record().version(version + 1).build();
            assert_eq!(f.update(changing, &next, version).await, Updated::Done, "nobody else changes it");
        }
    }
    let met = keys_of(&met);
    for (_, key) in &staying {
        assert!(met.contains(key), "{key:?} was there throughout, and has to be met");
    }
}

pub(super) async fn a_walk_meets_a_session_whose_deadline_moves_back(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for (round, limit) in [1, 2, 7].into_iter().enumerate() {
        let all: Vec<_> = (0..24).map(|n| key(&format!("round-{round}-{n:02}"))).collect();
        for (n, name) in all.iter().enumerate() {
            f.put(name, &f.record().idle(minutes(100 + n as u64)).build()).await;
        }
        let (mut met, mut cursor) = (Vec::new(), None);
        // After each page, a session that was not met yet gets an earlier deadline than all that were met.
        for step in 0.. {
            assert!(step < 1_000, "the walk has no end");
            let page = f.provider.scan(cursor, limit).await.expect("a page");
            met.extend(page.entries.into_iter().map(|entry| entry.key));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            let Some(name) = all.iter().rev().filter(|name| !met.contains(*name)).nth(step % 3) else {
                continue;
            };
            let sooner = minutes(90).saturating_sub(std::time::Duration::from_secs(step as u64));
            let version = f.load(name).await.expect("it stays").version();
            let next = f.record().idle(sooner).version(version + 1).build();
            assert_eq!(f.update(name, &next, version).await, Updated::Done, "nobody else changes it");
            if step % 2 == 0 {
                assert_eq!(f.touch(name).await, Touched::Done, "it is alive");
            }
        }
        for name in &all {
            assert!(
                met.contains(name),
                "{name:?} was there throughout a walk in pages of {limit}, and was not met"
            );
        }
    }
}

pub(super) async fn two_walks_do_not_meet(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for key in keys(10) {
        f.put(&key, &f.record().build()).await;
    }
    let first = f.provider.scan(None, 4).await.expect("a page");
    let other = f.scan(3).await;
    assert_eq!(other.len(), 10, "the second walk begins at the start");
    let mut met = first.entries;
    let mut cursor = first.next;
    while let Some(from) = cursor {
        let page = f.provider.scan(Some(from), 4).await.expect("a page");
        met.extend(page.entries);
        cursor = page.next;
    }
    let mut met = keys_of(&met);
    met.dedup();
    assert_eq!(met, keys(10), "the first walk goes on where it was");
}

pub(super) async fn a_cursor_may_be_used_again(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for key in keys(10) {
        f.put(&key, &f.record().build()).await;
    }
    let first = f.provider.scan(None, 4).await.expect("a page");
    let Some(from) = first.next else { return };
    let once = f.provider.scan(Some(from.clone()), 100).await.expect("a page").entries;
    let again = f.provider.scan(Some(from), 100).await.expect("a page").entries;
    assert_eq!(keys_of(&once), keys_of(&again), "a cursor is a place, not a state");
}

pub(super) async fn a_foreign_cursor_is_answered_or_refused(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for key in keys(3) {
        f.put(&key, &f.record().build()).await;
    }
    for text in
        ["", "0", "-1", "18446744073709551616", "zz", "../..", "'; --", "\u{0}", "ü\n", &"x".repeat(5_000)]
    {
        let page = f.provider.scan(Some(Cursor::new(text)), 2).await;
        assert!(page.map_or(0, |page| page.entries.len()) <= 2, "the limit holds from {text:?} on too");
    }
    assert_eq!(f.scan(2).await.len(), 3, "the store is as usable as before");
}
