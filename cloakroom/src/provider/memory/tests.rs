//! The memory provider beside its contract: limits, evictions and what it keeps.

use super::counts::TOMBSTONES;
use super::*;
use crate::clock::{ManualClock, Millis};
use crate::codec::Codec;
use crate::principal::Principal;
use crate::record::base;
use crate::record::{Meta, Times};

fn record(user: Option<&str>, deadline: Millis) -> Record {
    let times = Times {
        version: 1,
        created: Millis(0),
        issued: Millis(0),
        last_active: Millis(0),
        idle_deadline: deadline,
        absolute_deadline: Millis::NEVER,
        authenticated: None,
    };
    let principal = user.map(|user| Principal::new(user).unwrap());
    Record::new(&Meta::new(times, principal), Codec::MESSAGE_PACK, b"")
}

fn of_alice() -> IndexEntry {
    IndexEntry::from(&Principal::new("alice").unwrap())
}

fn key(n: usize) -> StoreKey {
    format!("key-{n}").parse().unwrap()
}

#[test]
fn a_full_store_refuses_visitors_and_evicts_no_user() {
    let time = ManualClock::default();
    let never = Millis::NEVER;
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(3).build().0;
    assert_eq!(store.create(&key(0), &record(Some("alice"), never)).unwrap(), Created::Done);
    assert_eq!(store.create(&key(1), &record(None, never)).unwrap(), Created::Done);
    assert_eq!(store.create(&key(2), &record(None, never)).unwrap(), Created::Done);
    assert_eq!(store.create(&key(3), &record(None, never)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(store.create(&key(1), &record(None, never)).unwrap(), Created::Taken);
    for n in [4, 5] {
        assert_eq!(store.create(&key(n), &record(Some("bob"), never)).unwrap(), Created::Done);
    }
    assert_eq!(store.count(), 3);
    assert_eq!(store.create(&key(6), &record(Some("bob"), never)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(store.load(&key(0)).is_some());
    assert!(store.delete(&key(4)));
    assert_eq!(store.create(&key(7), &record(None, never)).unwrap(), Created::Done);
}

#[test]
fn expired_sessions_make_room_before_anyone_is_refused() {
    let time = ManualClock::default();
    let now = time.clock().millis();
    let second = std::time::Duration::from_secs(1);
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(1).build().0;
    assert_eq!(store.create(&key(0), &record(None, now.after(second))).unwrap(), Created::Done);
    time.advance(second);
    assert_eq!(store.create(&key(1), &record(None, Millis::NEVER)).unwrap(), Created::Done);
}

#[test]
fn one_that_takes_the_place_of_an_expired_one_is_counted_once() {
    let time = ManualClock::default();
    let second = std::time::Duration::from_secs(1);
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(2).build().0;
    let brief = record(None, time.clock().millis().after(second));
    assert_eq!(store.create(&key(0), &brief).unwrap(), Created::Done);
    time.advance(second);
    for n in [0, 1] {
        assert_eq!(store.create(&key(n), &record(None, Millis::NEVER)).unwrap(), Created::Done, "{n}");
    }
    assert_eq!((store.count(), store.counts.sessions()), (2, 2));
}

#[test]
fn of_many_that_expire_none_is_forgotten() {
    let time = ManualClock::default();
    let second = std::time::Duration::from_secs(1);
    let store = MemoryProvider::builder().clock(time.clock()).build().0;
    let deadline = time.clock().millis().after(second);
    for n in 0..50_000 {
        assert_eq!(store.create(&key(n), &record(None, deadline)).unwrap(), Created::Done);
    }
    time.advance(second);
    let mut removed = 0;
    loop {
        let collected = store.collect(1000);
        removed += collected.removed;
        if !collected.more {
            break;
        }
    }
    assert_eq!((removed, store.counts.sessions()), (50_000, 0));
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    let store = MemoryProvider::new().0;
    for n in 0..100_000 {
        assert_eq!(store.create(&key(n), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
        assert!(store.delete(&key(n)));
    }
    let kept: usize = store.shards.iter().map(|shard| shard.lock().deadlines()).sum();
    assert!(kept < 100_000 / 2, "{kept} deadlines kept for no session");
    assert_eq!(store.indexes.page(&of_alice(), "", 10), (Vec::new(), false));
    assert_eq!(store.counts.sessions(), 0);
}

#[test]
fn a_login_evicts_an_anonymous_session_wherever_it_is() {
    let time = ManualClock::default();
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(32_000).build().0;
    let soon = time.clock().millis().after(std::time::Duration::from_secs(60));
    // Over a hundred users in each shard end before the anonymous sessions do.
    for n in 0..30_000 {
        assert_eq!(store.create(&key(n), &record(Some("user"), soon)).unwrap(), Created::Done);
    }
    for n in 30_000..32_000 {
        assert_eq!(store.create(&key(n), &record(None, Millis::NEVER)).unwrap(), Created::Done);
    }
    for n in 32_000..34_000 {
        assert_eq!(store.create(&key(n), &record(Some("user"), soon)).unwrap(), Created::Done, "{n}");
    }
    let full = store.create(&key(34_000), &record(Some("user"), soon)).unwrap_err();
    assert_eq!((full.kind(), store.count()), (ErrorKind::TooLarge, 32_000));
}

#[test]
fn a_touched_or_replaced_anonymous_session_can_be_evicted() {
    let time = ManualClock::default();
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(2).build().0;
    let first = record(None, time.clock().millis().after(std::time::Duration::from_secs(60)));
    assert_eq!(store.create(&key(0), &first).unwrap(), Created::Done);
    assert_eq!(store.create(&key(1), &first).unwrap(), Created::Done);
    time.advance(std::time::Duration::from_secs(30));
    assert_eq!(store.touch(&key(0), time.clock().now()), Touched::Done);
    let mut changed = first.clone();
    changed.edit(|meta| (meta.times.version, meta.times.idle_deadline) = (2, Millis::NEVER));
    assert_eq!(store.update(&key(1), &changed, &base(1)), Updated::Done);
    assert_eq!(store.create(&key(2), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
    assert_eq!(store.create(&key(3), &record(Some("bob"), Millis::NEVER)).unwrap(), Created::Done);
    assert!(store.load(&key(0)).is_none() && store.load(&key(1)).is_none());
    assert_eq!(store.count(), 2);
}

#[test]
fn logouts_leave_room_for_logins() {
    use crate::record::Mark;

    let time = ManualClock::default();
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(10).build().0;
    let visit = record(None, Millis::NEVER);
    for n in 0..5_000 {
        assert_eq!(store.create(&key(n), &visit).unwrap(), Created::Done, "{n}");
        assert_eq!(
            store.update(&key(n), &visit.tombstone(&Mark::Ended, Millis(1), Millis::NEVER), &base(1)),
            Updated::Done
        );
    }
    let kept = |n: usize| store.load(&key(n)).is_some();
    assert_eq!((store.count(), (0..5_000).filter(|n| kept(*n)).count()), (0, TOMBSTONES));
    assert_eq!(store.create(&key(5_000), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
}

#[test]
fn collected_tombstones_make_no_room_for_a_session() {
    use crate::record::Mark;

    let time = ManualClock::default();
    let second = std::time::Duration::from_secs(1);
    let store = MemoryProvider::builder().clock(time.clock()).max_sessions(1).build().0;
    assert_eq!(store.create(&key(0), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
    let forgotten = time.clock().millis().after(second);
    let mark = record(None, Millis::NEVER).tombstone(&Mark::Ended, Millis(1), forgotten);
    assert_eq!(store.create(&key(1), &mark).unwrap(), Created::Done);
    time.advance(second);
    let full = store.create(&key(2), &record(Some("bob"), Millis::NEVER)).unwrap_err();
    assert_eq!((full.kind(), store.count()), (ErrorKind::TooLarge, 1));
}

#[test]
fn a_page_of_one_users_sessions_looks_at_no_more_than_it_holds() {
    let store = MemoryProvider::new().0;
    for n in 0..20_000 {
        assert_eq!(store.create(&key(n), &record(Some("alice"), Millis::NEVER)).unwrap(), Created::Done);
    }
    let (mut found, mut cursor) = (0, None);
    loop {
        let page = store.indexed(&of_alice(), cursor.as_ref(), 500);
        found += page.entries.len();
        assert!(page.entries.len() <= 500 && page.entries.is_sorted_by(|one, other| one.key < other.key));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, 20_000);
    let (keys, more) = store.indexes.page(&of_alice(), "", 500);
    assert_eq!((keys.len(), more), (500, true), "the index hands out a page and not the whole");
}
