//! `count` returns the number of live sessions: no expired record and no tombstone is counted.

use crate::provider::{Created, Renamed, Updated};
use crate::testkit::fixture::{Fixture, key, keys, minutes};

pub(super) async fn an_empty_store_counts_none(f: Fixture) {
    if !f.lists().await {
        return;
    }
    assert_eq!(f.count().await, 0, "nothing was ever there");
}

pub(super) async fn count_is_exact_after_every_step(f: Fixture) {
    if !f.lists().await || !f.revokes().await {
        return;
    }
    let all = keys(9);
    for (n, key) in all.iter().enumerate() {
        f.put(key, &f.record().build()).await;
        assert_eq!(f.count().await, n as u64 + 1, "each create is one more");
    }
    assert_eq!(f.create(&all[0], &f.record().build()).await, Created::Taken, "the key is taken");
    assert_eq!(
        f.update(&all[1], &f.record().version(2).build(), 1).await,
        Updated::Done,
        "version 1 is there"
    );
    let moved = f.record().version(2).build();
    assert_eq!(f.rename(&all[2], &key("moved"), &moved, 1, None).await, Renamed::Done, "version 1 is there");
    assert_eq!(f.count().await, 9, "neither a taken key nor a change nor a move is one more");
    for (n, key) in all.iter().skip(3).enumerate() {
        assert!(f.delete(key).await, "a live record was there");
        assert!(!f.delete(key).await, "it was deleted before");
        assert_eq!(f.count().await, 8 - n as u64, "each delete is one less, and only once");
    }
}

pub(super) async fn count_leaves_out_the_expired_and_tombstones(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for key in keys(3) {
        f.put(&key, &f.record().idle(minutes(5)).build()).await;
    }
    f.put(&key("alive"), &f.record().build()).await;
    f.put(&key("old"), &f.record().build()).await;
    let mark = f.record().tombstone(&key("new"), minutes(1));
    let moved = f.record().version(2).build();
    assert_eq!(
        f.rename(&key("old"), &key("new"), &moved, 1, Some(&mark)).await,
        Renamed::Done,
        "version 1 is there"
    );
    assert_eq!(f.count().await, 5, "five sessions and a tombstone");
    f.advance(minutes(5)).await;
    assert_eq!(f.count().await, 2, "three have expired, though nobody has collected them");
    f.collect_all(2).await;
    assert_eq!(f.count().await, 2, "collection changes no count");
}

pub(super) async fn a_key_that_is_used_again_counts_once(f: Fixture) {
    if !f.lists().await {
        return;
    }
    for _ in 0..3 {
        f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
        assert_eq!(f.count().await, 1, "the one that lives");
        f.advance(minutes(5)).await;
        assert_eq!(f.count().await, 0, "it has expired");
    }
}
