//! `rename` moves one session to a new key. At no time are there two live copies of it, or none.

use crate::provider::{Created, Renamed, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn a_renamed_session_lives_under_the_new_key_alone(f: Fixture) {
    f.put(&key("old"), &f.record().value("n", 1).build()).await;
    let moved = f.record().value("n", 2).version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    f.holds(&key("new"), &moved, "the record that rename was given").await;
    f.lacks(&key("old"), "the old id is dead at once").await;
}

pub(super) async fn rename_to_a_taken_key_changes_nothing(f: Fixture) {
    let (first, second) = (f.record().value("n", 1).build(), f.record().value("n", 2).build());
    f.put(&key("aa"), &first).await;
    f.put(&key("bb"), &second).await;
    let moved = f.record().value("n", 3).version(2).build();
    let mark = f.record().tombstone(&key("bb"), minutes(1));
    for tombstone in [None, Some(&mark)] {
        let renamed = f.rename(&key("aa"), &key("bb"), &moved, 1, tombstone).await;
        assert_eq!(renamed, Renamed::Taken, "a live record is under the new key");
        f.holds(&key("aa"), &first, "the old record is as it was").await;
        f.holds(&key("bb"), &second, "the other session is as it was").await;
    }
}

pub(super) async fn rename_to_its_own_key_changes_nothing(f: Fixture) {
    let record = f.record().value("n", 1).build();
    f.put(&key("aa"), &record).await;
    let moved = f.record().value("n", 2).version(2).build();
    assert_eq!(
        f.rename(&key("aa"), &key("aa"), &moved, 1, None).await,
        Renamed::Taken,
        "its own key is taken"
    );
    f.holds(&key("aa"), &record, "neither replaced nor gone").await;
}

pub(super) async fn rename_of_another_version_is_stale_and_changes_nothing(f: Fixture) {
    let record = f.record().value("n", 1).version(7).build();
    f.put(&key("old"), &record).await;
    let moved = f.record().version(8).build();
    let mark = f.record().tombstone(&key("new"), minutes(1));
    for expected in [0, 6, 8, u64::MAX] {
        for tombstone in [None, Some(&mark)] {
            let renamed = f.rename(&key("old"), &key("new"), &moved, expected, tombstone).await;
            assert_eq!(renamed, Renamed::Stale, "7 was expected to be {expected}");
            f.holds(&key("old"), &record, "a stale rename leaves the session where it is").await;
            f.lacks(&key("new"), "a stale rename makes nothing").await;
        }
    }
}

pub(super) async fn rename_of_a_missing_session_makes_nothing(f: Fixture) {
    let moved = f.record().build();
    let mark = f.record().tombstone(&key("new"), minutes(1));
    for tombstone in [None, Some(&mark)] {
        let renamed = f.rename(&key("old"), &key("new"), &moved, 1, tombstone).await;
        assert_eq!(renamed, Renamed::Gone, "nothing was ever there");
        f.lacks(&key("new"), "nothing comes to life").await;
        f.lacks(&key("old"), "no tombstone where no session was").await;
    }
}

pub(super) async fn rename_of_an_expired_session_makes_nothing(f: Fixture) {
    f.put(&key("old"), &f.record().idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    let moved = f.record().version(2).build();
    assert_eq!(f.rename(&key("old"), &key("new"), &moved, 1, None).await, Renamed::Gone, "it has expired");
    f.lacks(&key("new"), "an expired session does not move on").await;
    f.lacks(&key("old"), "an expired session stays dead").await;
}

pub(super) async fn rename_takes_the_place_of_an_expired_record(f: Fixture) {
    f.put(&key("new"), &f.record().idle(minutes(5)).principal("bob").build()).await;
    f.put(&key("old"), &f.record().build()).await;
    f.advance(minutes(5)).await;
    let moved = f.record().value("n", 1).version(2).build();
    let renamed = f.rename(&key("old"), &key("new"), &moved, 1, None).await;
    assert_eq!(renamed, Renamed::Done, "an expired record does not hold its key");
    f.holds(&key("new"), &moved, "the expired one's place was free").await;
    f.collect_all(10).await;
    f.holds(&key("new"), &moved, "the old deadline says nothing about the new record").await;
}

pub(super) async fn renames_can_follow_each_other(f: Fixture) {
    f.put(&key("step-0"), &f.record().version(0).build()).await;
    for step in 1..20 {
        let (old, new) = (key(&format!("step-{}", step - 1)), key(&format!("step-{step}")));
        let moved = f.record().value("step", step).version(step).build();
        assert_eq!(f.rename(&old, &new, &moved, step - 1, None).await, Renamed::Done, "step {step}");
        f.lacks(&old, "the key before").await;
        f.holds(&new, &moved, "the key of now").await;
    }
    if f.lists().await {
        assert_eq!(f.count().await, 1, "it was one session all the time");
    }
}

pub(super) async fn a_session_can_be_renamed_back(f: Fixture) {
    f.put(&key("aa"), &f.record().build()).await;
    let (there, back) = (f.record().version(2).build(), f.record().version(3).build());
    assert_eq!(f.rename(&key("aa"), &key("bb"), &there, 1, None).await, Renamed::Done, "there");
    assert_eq!(f.rename(&key("bb"), &key("aa"), &back, 2, None).await, Renamed::Done, "and back");
    f.holds(&key("aa"), &back, "where it began").await;
    f.lacks(&key("bb"), "where it was meanwhile").await;
}

pub(super) async fn a_renamed_session_is_changed_under_its_new_key(f: Fixture) {
    f.put(&key("old"), &f.record().build()).await;
    let moved = f.record().version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    let next = f.record().version(3).value("n", 1).build();
    assert_eq!(f.update(&key("new"), &next, 1).await, Updated::Stale, "the version came with the record");
    assert_eq!(f.update(&key("new"), &next, 2).await, Updated::Done, "the version came with the record");
    assert_eq!(f.create(&key("new"), &next).await, Created::Taken, "the new key is taken now");
}

pub(super) async fn the_key_that_a_session_left_is_free(f: Fixture) {
    f.put(&key("old"), &f.record().build()).await;
    let moved = f.record().version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    let other = f.record().value("other", true).build();
    f.put(&key("old"), &other).await;
    f.holds(&key("old"), &other, "another session").await;
    f.holds(&key("new"), &moved, "the one that left").await;
}

pub(super) async fn a_rename_moves_the_session_in_every_list(f: Fixture) {
    if !f.lists().await {
        return;
    }
    f.put(&key("old"), &f.record().principal("alice").build()).await;
    let moved = f.record().principal("bob").version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    assert_eq!(f.count().await, 1, "it is one session still");
    let met = f.scan(10).await;
    assert_eq!(met.len(), 1, "it is one session still");
    assert_eq!((&met[0].key, &met[0].meta), (&key("new"), &moved.meta()), "a walk meets the new one");
    f.belong_to("alice", &[], "the former user's list forgets the old key").await;
    f.belong_to("bob", &[&key("new")], "the new user's list has the new key").await;
}
