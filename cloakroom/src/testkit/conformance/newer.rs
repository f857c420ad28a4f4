//! Records of a newer release, as a rolling upgrade leaves them. This release cannot read their data, but it keeps, lists, touches
//! and ends such a session like any other.

use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, minutes};

/// Stores a session of "alice" as a newer release would. Returns `None` if the store keeps another library's layout.
async fn stored(f: &Fixture) -> Option<Record> {
    if f.capabilities().codec.is_some() {
        return None;
    }
    let record = f.record().version(7).principal("alice").idle(minutes(10)).newer();
    f.put(&key("aa"), &record).await;
    Some(record)
}

/// Checks that the metadata of `record` is under the key, however often it is loaded.
async fn is_kept(f: &Fixture, record: &Record, why: &str) {
    for handle in [&f.provider, &f.second, &f.provider] {
        let found = handle.load(&key("aa")).await.expect("a newer release's record is not corrupt");
        assert_eq!(found.map(|found| found.meta()), Some(record.meta()), "{why}");
    }
}

pub(super) async fn a_newer_releases_session_is_kept_and_listed(f: Fixture) {
    let Some(record) = stored(&f).await else { return };
    is_kept(&f, &record, "a load of it puts nothing aside").await;
    if f.lists().await {
        assert_eq!(f.count().await, 1, "it is a session like any");
        let listed = f.scan(10).await;
        assert_eq!(listed.len(), 1, "it is listed");
        assert_eq!(listed[0].meta, record.meta());
        if f.capabilities().users {
            f.belong_to("alice", &[&key("aa")], "its user is told by a field that every format has").await;
        }
    }
    is_kept(&f, &record, "a listing puts nothing aside").await;
}

pub(super) async fn a_newer_releases_session_is_touched_and_ended(f: Fixture) {
    let Some(record) = stored(&f).await else { return };
    f.advance(minutes(5)).await;
    assert_eq!(f.touch(&key("aa")).await, Touched::Done, "it is alive");
    f.advance(minutes(9)).await;
    let touched = f.load(&key("aa")).await.expect("the touch has moved its deadline");
    assert_eq!(touched.version(), record.version(), "a touch is no change");
    let ended = f.record().version(8).idle(minutes(5)).ended();
    assert_eq!(f.update(&key("aa"), &ended, 6).await, Updated::Stale, "its version is 7");
    assert_eq!(f.update(&key("aa"), &ended, 7).await, Updated::Done, "a tombstone takes its place");
    if f.lists().await {
        assert_eq!(f.count().await, 0, "the session has ended");
        if f.capabilities().users {
            f.belong_to("alice", &[], "the session has ended").await;
        }
    }
}

pub(super) async fn a_newer_releases_session_is_renamed_and_deleted(f: Fixture) {
    let Some(record) = stored(&f).await else { return };
    assert_eq!(f.create(&key("aa"), &record).await, Created::Taken, "it holds its key");
    let moved = f.record().version(8).principal("alice").newer();
    assert_eq!(f.rename(&key("aa"), &key("bb"), &moved, 7, None).await, Renamed::Done, "its version is 7");
    f.lacks(&key("aa"), "it has moved").await;
    let found = f.load(&key("bb")).await.expect("it has moved here");
    assert_eq!(found.meta(), moved.meta(), "all that every format has came along");
    if f.revokes().await {
        assert!(f.delete(&key("bb")).await, "a live record was there");
        f.lacks(&key("bb"), "it was deleted").await;
    }
}

pub(super) async fn a_newer_releases_session_is_collected(f: Fixture) {
    if stored(&f).await.is_none() {
        return;
    }
    f.advance(minutes(11)).await;
    f.collect_all(10).await;
    f.lacks(&key("aa"), "its deadline has passed").await;
    f.put(&key("aa"), &f.record().build()).await;
}
