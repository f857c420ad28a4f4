//! `delete` removes a live session and tells whether there was one. A tombstone stays.

use crate::provider::{Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn a_destroyed_session_stays_dead(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    let record = f.record().value("n", 1).principal("alice").build();
    f.put(&key("aa"), &record).await;
    assert!(f.delete(&key("aa")).await, "a live record was there to delete");
    f.lacks(&key("aa"), "it was deleted").await;
    for expected in [0, 1, 2] {
        assert_eq!(f.update(&key("aa"), &record, expected).await, Updated::Gone, "no update wakes it");
        let renamed = f.rename(&key("aa"), &key("bb"), &record, expected, None).await;
        assert_eq!(renamed, Renamed::Gone, "no rename wakes it");
    }
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "no touch wakes it");
    f.lacks(&key("aa"), "it was deleted").await;
    f.lacks(&key("bb"), "a dead session is not renamed").await;
    if f.lists().await {
        assert_eq!(f.count().await, 0, "a dead session is not counted");
        f.belong_to("alice", &[], "a dead session belongs to nobody").await;
    }
}

pub(super) async fn delete_says_whether_a_session_was_there(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    assert!(!f.delete(&key("aa")).await, "nothing was ever there");
    f.put(&key("aa"), &f.record().build()).await;
    assert!(f.delete(&key("aa")).await, "a live record was there");
    assert!(!f.delete(&key("aa")).await, "it was deleted before");
}

pub(super) async fn a_delete_of_an_expired_session_says_that_none_was_there(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    assert!(!f.delete(&key("aa")).await, "the session had ended by itself");
    f.lacks(&key("aa"), "it has expired and was deleted").await;
}

pub(super) async fn a_delete_concerns_its_own_key_alone(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    let record = f.record().principal("alice").build();
    for name in ["a1", "a2", "a3"] {
        f.put(&key(name), &record).await;
    }
    assert!(f.delete(&key("a2")).await, "a live record was there");
    f.holds(&key("a1"), &record, "one neighbour").await;
    f.lacks(&key("a2"), "the deleted one").await;
    f.holds(&key("a3"), &record, "the other neighbour").await;
    if f.lists().await {
        assert_eq!(f.count().await, 2, "one of three is gone");
        f.belong_to("alice", &[&key("a1"), &key("a3")], "one of three is gone").await;
    }
}

pub(super) async fn a_deleted_key_can_be_renamed_to(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().build()).await;
    f.put(&key("bb"), &f.record().build()).await;
    assert!(f.delete(&key("bb")).await, "a live record was there");
    let moved = f.record().value("n", 1).version(2).build();
    assert_eq!(
        f.rename(&key("aa"), &key("bb"), &moved, 1, None).await,
        Renamed::Done,
        "the key is free again"
    );
    f.holds(&key("bb"), &moved, "the key is free again").await;
}
