//! `create` stores a record only if its key is free. There is no upsert: a second `create` never replaces a record.

use crate::provider::Created;
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn a_created_record_is_loaded_as_it_was(f: Fixture) {
    let record = f.record().value("n", 1).build();
    f.put(&key("aa"), &record).await;
    f.holds(&key("aa"), &record, "load gives what create was given").await;
}

pub(super) async fn create_on_a_taken_key_changes_nothing(f: Fixture) {
    let first = f.record().value("n", 1).principal("alice").build();
    f.put(&key("aa"), &first).await;
    for second in [f.record().value("n", 2).version(9).build(), first.clone()] {
        assert_eq!(f.create(&key("aa"), &second).await, Created::Taken, "a live record is under the key");
        f.holds(&key("aa"), &first, "a create that found its key taken changes nothing").await;
    }
}

pub(super) async fn creates_under_different_keys_do_not_meet(f: Fixture) {
    let (first, second) = (f.record().value("n", 1).build(), f.record().value("n", 2).build());
    f.put(&key("aa"), &first).await;
    f.put(&key("bb"), &second).await;
    f.holds(&key("aa"), &first, "the first key keeps its own record").await;
    f.holds(&key("bb"), &second, "the second key keeps its own record").await;
}

pub(super) async fn create_takes_the_place_of_an_expired_record(f: Fixture) {
    f.put(&key("aa"), &f.record().value("n", 1).idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    let second = f.record().value("n", 2).build();
    assert_eq!(f.create(&key("aa"), &second).await, Created::Done, "an expired record does not hold its key");
    f.holds(&key("aa"), &second, "the new record took the expired one's place").await;
}

pub(super) async fn what_took_an_expired_records_place_is_not_collected(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
    f.advance(minutes(6)).await;
    let second = f.record().value("n", 2).build();
    f.put(&key("aa"), &second).await;
    f.collect_all(10).await;
    f.holds(&key("aa"), &second, "the old deadline says nothing about the new record").await;
}

pub(super) async fn create_after_delete_begins_anew(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().value("n", 1).version(5).build()).await;
    assert!(f.delete(&key("aa")).await, "a live record was there to delete");
    let second = f.record().value("n", 2).build();
    f.put(&key("aa"), &second).await;
    f.holds(&key("aa"), &second, "nothing of the deleted record is left").await;
}

pub(super) async fn a_record_that_is_created_expired_is_never_seen(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(0)).build()).await;
    f.lacks(&key("aa"), "its deadline was over when it was stored").await;
    let second = f.record().build();
    assert_eq!(f.create(&key("aa"), &second).await, Created::Done, "an expired record does not hold its key");
    f.holds(&key("aa"), &second, "the key works as any other").await;
}
