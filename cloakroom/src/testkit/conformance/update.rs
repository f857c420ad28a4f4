//! `update` replaces a record only if the stored version is that of its base. It never creates a record.

use crate::provider::{Renamed, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn an_update_puts_the_new_record_in_the_place_of_the_old(f: Fixture) {
    f.put(&key("aa"), &f.record().value("n", 1).build()).await;
    let next = f.record().value("m", 2).version(2).principal("alice").build();
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.holds(&key("aa"), &next, "all of it is replaced").await;
}

pub(super) async fn update_never_creates(f: Fixture) {
    let record = f.record().version(1).build();
    for expected in [0, 1, u64::MAX] {
        assert_eq!(f.update(&key("aa"), &record, expected).await, Updated::Gone, "nothing was ever there");
        f.lacks(&key("aa"), "an update is no upsert").await;
    }
}

pub(super) async fn an_update_of_another_version_is_stale_and_changes_nothing(f: Fixture) {
    let record = f.record().value("n", 1).version(7).build();
    f.put(&key("aa"), &record).await;
    let other = f.record().value("n", 2).version(8).principal("mallory").build();
    for expected in [0, 1, 6, 8, 9, 7 + (1 << 32), u64::MAX] {
        assert_eq!(
            f.update(&key("aa"), &other, expected).await,
            Updated::Stale,
            "7 was expected to be {expected}"
        );
        f.holds(&key("aa"), &record, "a stale update changes nothing").await;
    }
}

pub(super) async fn the_version_that_counts_is_the_last_stored_one(f: Fixture) {
    f.put(&key("aa"), &f.record().version(5).build()).await;
    let next = f.record().version(40).build();
    assert_eq!(f.update(&key("aa"), &next, 5).await, Updated::Done, "the record is at version 5");
    let after = f.record().version(41).build();
    assert_eq!(f.update(&key("aa"), &after, 5).await, Updated::Stale, "the same update twice is stale");
    assert_eq!(f.update(&key("aa"), &after, 6).await, Updated::Stale, "versions are stored, not counted");
    assert_eq!(f.update(&key("aa"), &after, 40).await, Updated::Done, "the record is at version 40");
}

pub(super) async fn versions_of_any_size_are_compared(f: Fixture) {
    // The largest version that a signed column of a database holds.
    for version in [0, 1, u64::from(u32::MAX), 1 << 53, (1 << 53) + 1, i64::MAX as u64] {
        let name = key(&format!("version-{version}"));
        let record = f.record().version(version).build();
        f.put(&name, &record).await;
        f.holds(&name, &record, "a version comes back exactly").await;
        let wrong = version.wrapping_sub(1);
        assert_eq!(f.update(&name, &record, wrong).await, Updated::Stale, "{version} is not {wrong}");
        assert_eq!(f.update(&name, &record, version).await, Updated::Done, "{version} is {version}");
    }
}

pub(super) async fn an_update_of_a_destroyed_session_says_gone(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().build()).await;
    assert!(f.delete(&key("aa")).await, "a live record was there to delete");
    assert_eq!(
        f.update(&key("aa"), &f.record().version(2).build(), 1).await,
        Updated::Gone,
        "it was destroyed"
    );
    f.lacks(&key("aa"), "what was destroyed does not come back").await;
}

pub(super) async fn an_update_of_a_renamed_session_says_gone(f: Fixture) {
    let record = f.record().build();
    f.put(&key("old"), &record).await;
    let moved = f.record().version(2).build();
    assert_eq!(f.rename(&key("old"), &key("new"), &moved, 1, None).await, Renamed::Done, "a plain rename");
    for expected in [1, 2] {
        assert_eq!(f.update(&key("old"), &record, expected).await, Updated::Gone, "it lives elsewhere now");
    }
    f.lacks(&key("old"), "the old id stays dead").await;
    f.holds(&key("new"), &moved, "the new one is not concerned").await;
}

pub(super) async fn an_update_may_prolong_a_session(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
    let next = f.record().idle(minutes(20)).version(2).build();
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.advance(minutes(10)).await;
    f.collect_all(10).await;
    f.holds(&key("aa"), &next, "the deadline moved with the record").await;
}

pub(super) async fn an_update_may_shorten_a_session(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(20)).build()).await;
    let next = f.record().idle(minutes(5)).version(2).build();
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.advance(minutes(5)).await;
    f.lacks(&key("aa"), "the deadline moved with the record").await;
}

pub(super) async fn an_update_to_an_expired_record_ends_the_session(f: Fixture) {
    f.put(&key("aa"), &f.record().build()).await;
    let over = f.record().idle(minutes(0)).version(2).build();
    assert_eq!(f.update(&key("aa"), &over, 1).await, Updated::Done, "the record is at version 1");
    f.lacks(&key("aa"), "its deadline is over").await;
    assert_eq!(
        f.update(&key("aa"), &f.record().build(), 2).await,
        Updated::Gone,
        "an expired session is dead"
    );
}

pub(super) async fn an_update_concerns_its_own_key_alone(f: Fixture) {
    let record = f.record().value("n", 1).build();
    for name in ["a1", "a2", "a3"] {
        f.put(&key(name), &record).await;
    }
    let next = f.record().value("n", 2).version(2).build();
    assert_eq!(f.update(&key("a2"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.holds(&key("a1"), &record, "one neighbour").await;
    f.holds(&key("a2"), &next, "the updated one").await;
    f.holds(&key("a3"), &record, "the other neighbour").await;
}
