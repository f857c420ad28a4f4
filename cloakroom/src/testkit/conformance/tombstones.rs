//! Tombstones are loaded like any record, and are no session for every other method.

use crate::provider::{Created, Renamed, Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, minutes};

/// Rotates a session from "old" to "new", and returns the tombstone that it leaves.
async fn rotated(f: &Fixture) -> Record {
    let record = f.record().value("n", 1).principal("alice").build();
    f.put(&key("old"), &record).await;
    let mark = f.record().version(1).idle(minutes(10)).tombstone(&key("new"), minutes(1));
    let moved = f.record().value("n", 1).principal("alice").version(2).build();
    let renamed = f.rename(&key("old"), &key("new"), &moved, 1, Some(&mark)).await;
    assert_eq!(renamed, Renamed::Done, "a live record at version 1 was there");
    f.holds(&key("new"), &moved, "the session lives under the new key").await;
    mark
}

pub(super) async fn a_rename_may_leave_a_tombstone_behind(f: Fixture) {
    let mark = rotated(&f).await;
    f.holds(&key("old"), &mark, "the tombstone is loaded like any record, successor and all").await;
}

pub(super) async fn a_tombstone_comes_to_its_end_by_its_own_deadline(f: Fixture) {
    let mark = rotated(&f).await;
    f.advance(minutes(9)).await;
    f.collect_all(10).await;
    f.holds(&key("old"), &mark, "remembered until its deadline").await;
    f.advance(minutes(1)).await;
    f.lacks(&key("old"), "forgotten from its deadline on").await;
    assert!(f.load(&key("new")).await.is_some(), "the session itself lives on");
}

pub(super) async fn a_tombstone_is_gone_for_update_and_touch(f: Fixture) {
    let mark = rotated(&f).await;
    let record = f.record().version(2).build();
    for expected in [0, 1, 2] {
        assert_eq!(f.update(&key("old"), &record, expected).await, Updated::Gone, "no session is there");
    }
    assert_eq!(f.touch(&key("old")).await, Touched::Gone, "no session is there");
    f.holds(&key("old"), &mark, "nothing changed the tombstone").await;
}

pub(super) async fn a_tombstone_is_gone_as_the_old_side_of_a_rename(f: Fixture) {
    let mark = rotated(&f).await;
    for expected in [0, 1, 2] {
        let renamed = f.rename(&key("old"), &key("third"), &f.record().build(), expected, None).await;
        assert_eq!(renamed, Renamed::Gone, "no session is there");
    }
    f.lacks(&key("third"), "a rotated id does not rotate again").await;
    f.holds(&key("old"), &mark, "nothing changed the tombstone").await;
}

pub(super) async fn a_tombstone_holds_its_key(f: Fixture) {
    let mark = rotated(&f).await;
    let other = f.record().build();
    assert_eq!(f.create(&key("old"), &other).await, Created::Taken, "a tombstone is under the key");
    f.put(&key("other"), &other).await;
    let renamed = f.rename(&key("other"), &key("old"), &other, 1, None).await;
    assert_eq!(renamed, Renamed::Taken, "a tombstone is under the new key");
    f.holds(&key("old"), &mark, "nothing changed the tombstone").await;
    f.holds(&key("other"), &other, "a rename that found its key taken changes nothing").await;
}

pub(super) async fn an_expired_tombstone_frees_its_key(f: Fixture) {
    rotated(&f).await;
    f.advance(minutes(10)).await;
    let other = f.record().build();
    assert_eq!(f.create(&key("old"), &other).await, Created::Done, "the tombstone has expired");
    f.holds(&key("old"), &other, "the tombstone has expired").await;
}

pub(super) async fn a_delete_leaves_a_tombstone_and_says_no(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    let mark = rotated(&f).await;
    assert!(!f.delete(&key("old")).await, "a tombstone is no session");
    f.holds(&key("old"), &mark, "it still leads to the session that is to be ended").await;
    assert!(f.load(&key("new")).await.is_some(), "the session itself lives on");
}

pub(super) async fn tombstones_stand_in_no_list(f: Fixture) {
    if !f.lists().await {
        return;
    }
    rotated(&f).await;
    assert_eq!(f.count().await, 1, "one session, and a tombstone that is none");
    let met = f.scan(10).await;
    assert!(met.len() == 1 && met[0].key == key("new"), "a walk meets the session and no tombstone: {met:?}");
    f.belong_to("alice", &[&key("new")], "one session, and a tombstone that is none").await;
}

pub(super) async fn expired_tombstones_are_collected(f: Fixture) {
    rotated(&f).await;
    f.advance(minutes(10)).await;
    let removed = f.collect_all(10).await;
    let native = f.capabilities().native_expiry;
    assert!(removed == 1 || (native && removed == 0), "one tombstone has expired, {removed} were removed");
    assert!(f.load(&key("new")).await.is_some(), "the session itself lives on");
}

pub(super) async fn a_rename_can_leave_an_expired_tombstone(f: Fixture) {
    f.put(&key("old"), &f.record().build()).await;
    let mark = f.record().idle(minutes(0)).tombstone(&key("new"), minutes(0));
    let moved = f.record().version(2).build();
    let renamed = f.rename(&key("old"), &key("new"), &moved, 1, Some(&mark)).await;
    assert_eq!(renamed, Renamed::Done, "a live record at version 1 was there");
    f.lacks(&key("old"), "an expired tombstone is nothing").await;
    f.holds(&key("new"), &moved, "the session lives under the new key").await;
}

/// Ends the session of a user by putting a tombstone in its place.
async fn ended(f: &Fixture) -> Record {
    f.put(&key("one"), &f.record().value("n", 1).principal("alice").version(7).build()).await;
    f.put(&key("two"), &f.record().principal("alice").build()).await;
    let mark = f.record().value("n", 1).principal("alice").version(7).idle(minutes(5)).ended();
    assert_eq!(f.update(&key("one"), &mark, 6).await, Updated::Stale, "another version is there");
    assert_eq!(f.update(&key("one"), &mark, 7).await, Updated::Done, "a live record at version 7 was there");
    mark
}

pub(super) async fn an_update_may_end_a_session_by_a_tombstone_in_its_place(f: Fixture) {
    let mark = ended(&f).await;
    f.holds(&key("one"), &mark, "the tombstone is loaded like any record").await;
    for expected in [7, mark.version()] {
        assert_eq!(
            f.update(&key("one"), &f.record().build(), expected).await,
            Updated::Gone,
            "no session is there"
        );
    }
    let renamed = f.rename(&key("one"), &key("three"), &f.record().build(), mark.version(), None).await;
    assert_eq!(renamed, Renamed::Gone, "no session is there");
    assert_eq!(f.touch(&key("one")).await, Touched::Gone, "no session is there");
    assert_eq!(
        f.create(&key("one"), &f.record().build()).await,
        Created::Taken,
        "a tombstone is under the key"
    );
    f.holds(&key("one"), &mark, "nothing changed the tombstone").await;
}

pub(super) async fn a_session_that_was_ended_stands_in_no_list(f: Fixture) {
    if !f.lists().await {
        return;
    }
    ended(&f).await;
    assert_eq!(f.count().await, 1, "one session, and a tombstone that is none");
    let met = f.scan(10).await;
    assert!(met.len() == 1 && met[0].key == key("two"), "a walk meets the session and no tombstone: {met:?}");
    f.belong_to("alice", &[&key("two")], "the session that was ended is no longer hers").await;
    f.advance(minutes(5)).await;
    let _ = f.collect_all(10).await;
    assert_eq!(f.count().await, 1, "the end of a tombstone takes nothing from the count");
    f.lacks(&key("one"), "forgotten from its deadline on").await;
}

pub(super) async fn the_key_of_an_ended_session_is_free_in_the_end(f: Fixture) {
    ended(&f).await;
    f.advance(minutes(5)).await;
    let other = f.record().principal("bob").build();
    assert_eq!(f.create(&key("one"), &other).await, Created::Done, "the tombstone has expired");
    f.holds(&key("one"), &other, "the tombstone has expired").await;
    if f.capabilities().lists {
        f.belong_to("bob", &[&key("one")], "it is his").await;
        f.belong_to("alice", &[&key("two")], "and no longer hers").await;
        assert_eq!(f.count().await, 2, "two sessions");
    }
}
