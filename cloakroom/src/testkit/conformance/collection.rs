//! `delete_expired` removes expired records and tombstones, at most as many as asked for, until none is left.

use crate::provider::{Collected, Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, keys, minutes};

/// Stores `count` sessions and lets them expire.
async fn expired(f: &Fixture, count: usize) {
    for key in keys(count) {
        f.put(&key, &f.record().idle(minutes(5)).principal("alice").build()).await;
    }
    f.advance(minutes(5)).await;
}

/// Checks the number of removed records. A store that removes expired records itself may have removed some.
fn removed(f: &Fixture, found: usize, expected: usize, why: &str) {
    let native = f.capabilities().native_expiry;
    assert!(found == expected || (native && found < expected), "{why}: {expected} expired, {found} removed");
}

pub(super) async fn an_empty_store_has_nothing_to_collect(f: Fixture) {
    let nothing = Collected { removed: 0, more: false };
    assert_eq!(f.delete_expired(10).await, nothing, "nothing was ever there");
}

pub(super) async fn delete_expired_leaves_the_living_alone(f: Fixture) {
    let record = f.record().principal("alice").value("n", 1).build();
    f.put(&key("alive"), &record).await;
    assert_eq!(f.delete_expired(10).await, Collected { removed: 0, more: false }, "all are alive");
    f.holds(&key("alive"), &record, "nobody collects the living").await;
}

pub(super) async fn delete_expired_removes_the_expired_and_no_others(f: Fixture) {
    let alive = f.record().value("n", 1).build();
    f.put(&key("alive"), &alive).await;
    expired(&f, 7).await;
    removed(&f, f.collect_all(100).await, 7, "one round is enough");
    f.holds(&key("alive"), &alive, "nobody collects the living").await;
    assert_eq!(f.delete_expired(100).await, Collected { removed: 0, more: false }, "all are collected");
}

pub(super) async fn delete_expired_respects_the_limit_and_says_that_more_remain(f: Fixture) {
    expired(&f, 10).await;
    let first = f.delete_expired(3).await;
    assert!(first.removed <= 3, "at most 3 were asked for, {} were removed", first.removed);
    removed(&f, first.removed, 3, "three of ten");
    assert!(first.more || f.capabilities().native_expiry, "seven of ten remain");
    removed(&f, f.collect_all(100).await, 7, "those that the limit left");
}

pub(super) async fn delete_expired_with_a_small_limit_comes_to_an_end(f: Fixture) {
    expired(&f, 25).await;
    removed(&f, f.collect_all(1).await, 25, "one at a time");
    assert_eq!(f.delete_expired(1).await, Collected { removed: 0, more: false }, "all are collected");
}

pub(super) async fn the_last_of_the_expired_leaves_no_more(f: Fixture) {
    expired(&f, 6).await;
    let last = f.delete_expired(6).await;
    removed(&f, last.removed, 6, "as many as the limit");
    let after = f.delete_expired(6).await;
    assert_eq!(after, Collected { removed: 0, more: false }, "nothing is left");
}

pub(super) async fn a_limit_of_nothing_removes_nothing(f: Fixture) {
    expired(&f, 3).await;
    assert_eq!(f.delete_expired(0).await.removed, 0, "none were asked for");
    removed(&f, f.collect_all(10).await, 3, "a limit of nothing left them all");
}

pub(super) async fn what_was_prolonged_is_not_collected(f: Fixture) {
    for name in ["touched", "updated", "renamed"] {
        f.put(&key(name), &f.record().idle(minutes(5)).build()).await;
    }
    f.advance(minutes(4)).await;
    let later = f.record().version(2).build();
    assert_eq!(f.touch(&key("touched")).await, Touched::Done, "it is alive");
    assert_eq!(f.update(&key("updated"), &later, 1).await, Updated::Done, "still alive");
    assert_eq!(f.rename(&key("renamed"), &key("moved"), &later, 1, None).await, Renamed::Done, "still alive");
    f.advance(minutes(2)).await;
    assert_eq!(f.collect_all(10).await, 0, "nothing has expired: each deadline was moved");
    for name in ["touched", "updated", "moved"] {
        assert!(f.load(&key(name)).await.is_some(), "the session under {name} was prolonged");
    }
}

pub(super) async fn a_collected_session_leaves_nothing_behind(f: Fixture) {
    expired(&f, 4).await;
    f.collect_all(10).await;
    if f.lists().await {
        assert_eq!(f.count().await, 0, "nothing to count");
        assert_eq!(f.scan(10).await, [], "nothing to meet");
        f.belong_to("alice", &[], "nobody's").await;
    }
    for key in keys(4) {
        f.put(&key, &f.record().build()).await;
    }
    assert_eq!(f.collect_all(10).await, 0, "the new ones under the old keys are alive");
}
