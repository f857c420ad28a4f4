//! Two handles on one store, such as two processes: a change of one is visible to the other as soon as the call has returned.

use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn what_one_handle_stores_the_other_finds(f: Fixture) {
    let other = f.swapped();
    let record = f.record().value("n", 1).build();
    f.put(&key("aa"), &record).await;
    other.holds(&key("aa"), &record, "created through the first handle").await;
    assert_eq!(other.create(&key("aa"), &record).await, Created::Taken, "created through the first handle");
    let next = f.record().value("n", 2).version(2).build();
    assert_eq!(other.update(&key("aa"), &next, 1).await, Updated::Done, "created through the first handle");
    f.holds(&key("aa"), &next, "updated through the second handle").await;
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Stale, "updated through the second handle");
}

pub(super) async fn what_one_handle_ends_is_dead_to_the_other(f: Fixture) {
    let other = f.swapped();
    let record = f.record().build();
    f.put(&key("old"), &record).await;
    other.holds(&key("old"), &record, "seen before its end").await;
    let moved = f.record().version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    other.lacks(&key("old"), "renamed through the first handle").await;
    assert_eq!(
        other.update(&key("old"), &record, 1).await,
        Updated::Gone,
        "renamed through the first handle"
    );
    other.holds(&key("new"), &moved, "renamed through the first handle").await;
    if f.revokes().await {
        assert!(other.delete(&key("new")).await, "a live record was there");
        f.lacks(&key("new"), "deleted through the second handle").await;
        assert_eq!(f.touch(&key("new")).await, Touched::Gone, "deleted there");
    }
}

pub(super) async fn both_handles_list_the_same(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let other = f.swapped();
    f.put(&key("aa"), &f.record().principal("alice").build()).await;
    other.put(&key("bb"), &f.record().principal("alice").build()).await;
    for side in [&f, &other] {
        assert_eq!(side.count().await, 2, "one created here, one there");
        assert_eq!(side.scan(1).await.len(), 2, "one created here, one there");
        side.belong_to("alice", &[&key("aa"), &key("bb")], "one created here, one there").await;
    }
    f.advance(minutes(60)).await;
    let collected = other.second.delete_expired(10).await.expect("a collection");
    assert!(collected.removed <= 2, "two have expired, {} were removed", collected.removed);
    assert_eq!(other.collect_all(10).await, 0, "what one handle collected is gone for the other");
}
