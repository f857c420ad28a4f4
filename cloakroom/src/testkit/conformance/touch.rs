//! `touch`: moves the times and nothing else.

use crate::provider::{Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, minutes};

/// Touches `key` now for `minutes` more, and answers what the record should be then.
async fn touched(f: &Fixture, name: &str, record: &Record, more: u64) -> Record {
    let deadline = f.now() + minutes(more);
    assert_eq!(f.touch(&key(name), f.now(), deadline).await, Touched::Done, "the session is alive");
    let mut expected = record.clone();
    expected.touch(f.now(), deadline);
    expected
}

pub(super) async fn a_touch_moves_the_times_and_nothing_else(f: Fixture) {
    let record = f.record().aged(minutes(9)).principal("alice").filled(900).version(3).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(7)).await;
    let expected = touched(&f, "aa", &record, 30).await;
    f.holds(&key("aa"), &expected, "last use and idle deadline moved, all else is as it was").await;
}

pub(super) async fn a_touch_keeps_a_session_alive(f: Fixture) {
    let mut record = f.record().idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    for _ in 0..5 {
        f.advance(minutes(9)).await;
        record = touched(&f, "aa", &record, 10).await;
        f.collect_all(10).await;
        f.holds(&key("aa"), &record, "used within every ten minutes").await;
    }
    f.advance(minutes(10)).await;
    f.lacks(&key("aa"), "unused for ten minutes").await;
}

pub(super) async fn touch_never_passes_the_absolute_deadline(f: Fixture) {
    let record = f.record().idle(minutes(10)).absolute(minutes(15)).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(9)).await;
    let expected = touched(&f, "aa", &record, 10).await;
    let found = f.load(&key("aa")).await.expect("the session is alive");
    assert_eq!(
        Some(found.meta().expires()),
        record.meta().absolute_deadline(),
        "the absolute deadline binds"
    );
    assert_eq!(found, expected, "the idle deadline is cut to the absolute one");
    f.advance(minutes(6)).await;
    f.lacks(&key("aa"), "the absolute deadline is over, however much it is used").await;
    assert_eq!(f.touch(&key("aa"), f.now(), f.now() + minutes(10)).await, Touched::Gone, "dead for good");
}

pub(super) async fn a_touch_leaves_the_version_alone(f: Fixture) {
    let record = f.record().version(4).build();
    f.put(&key("aa"), &record).await;
    touched(&f, "aa", &record, 30).await;
    let next = f.record().version(5).build();
    assert_eq!(
        f.update(&key("aa"), &next, 4).await,
        Updated::Done,
        "a change that was on its way still fits"
    );
}

pub(super) async fn a_touch_beside_a_change_of_lifetime_is_stale(f: Fixture) {
    let read = f.record().idle(minutes(30)).build();
    f.put(&key("aa"), &read).await;
    let longer = f.record().idle(minutes(30 * 24 * 60)).version(2).build();
    assert_eq!(f.update(&key("aa"), &longer, 1).await, Updated::Done, "another request was first");
    f.advance(minutes(1)).await;
    let touched = f.touch_version(&key("aa"), f.now(), f.now() + minutes(30), 1).await;
    assert_eq!(touched, Touched::Stale, "the deadline was computed from version 1");
    f.holds(&key("aa"), &longer, "the longer lifetime stands").await;

    let shorter = f.record().idle(minutes(2)).version(3).build();
    assert_eq!(f.update(&key("aa"), &shorter, 2).await, Updated::Done, "another request was first");
    let touched = f.touch_version(&key("aa"), f.now(), f.now() + minutes(30 * 24 * 60), 2).await;
    assert_eq!(touched, Touched::Stale, "the deadline was computed from version 2");
    f.holds(&key("aa"), &shorter, "the shorter lifetime stands").await;
}

pub(super) async fn touch_never_creates(f: Fixture) {
    assert_eq!(
        f.touch(&key("aa"), f.now(), f.now() + minutes(5)).await,
        Touched::Gone,
        "nothing was ever there"
    );
    f.lacks(&key("aa"), "a touch makes nothing").await;
}

pub(super) async fn a_touch_of_a_destroyed_session_says_gone(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().build()).await;
    assert!(f.delete(&key("aa")).await, "a live record was there to delete");
    assert_eq!(f.touch(&key("aa"), f.now(), f.now() + minutes(5)).await, Touched::Gone, "it was destroyed");
    f.lacks(&key("aa"), "what was destroyed does not come back").await;
}

pub(super) async fn a_touch_does_not_wake_an_expired_session(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    assert_eq!(f.touch(&key("aa"), f.now(), f.now() + minutes(5)).await, Touched::Gone, "it has expired");
    f.lacks(&key("aa"), "an expired session stays dead").await;
}

pub(super) async fn a_touch_into_the_past_ends_the_session(f: Fixture) {
    f.put(&key("aa"), &f.record().build()).await;
    assert_eq!(f.touch(&key("aa"), f.now(), f.now()).await, Touched::Done, "the session was alive");
    f.lacks(&key("aa"), "its new deadline is over").await;
    assert_eq!(f.touch(&key("aa"), f.now(), f.now() + minutes(5)).await, Touched::Gone, "dead for good");
}

pub(super) async fn a_touch_may_shorten_a_session(f: Fixture) {
    let record = f.record().idle(minutes(30)).build();
    f.put(&key("aa"), &record).await;
    let expected = touched(&f, "aa", &record, 5).await;
    f.holds(&key("aa"), &expected, "the deadline is what the last touch says").await;
    f.advance(minutes(5)).await;
    f.lacks(&key("aa"), "the deadline is what the last touch says").await;
}

pub(super) async fn a_touched_session_without_an_absolute_deadline_lives_on(f: Fixture) {
    let mut record = f.record().no_absolute().idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    for _ in 0..3 {
        f.advance(minutes(9)).await;
        record = touched(&f, "aa", &record, 60 * 24 * 365).await;
        f.holds(&key("aa"), &record, "nothing bounds it but the touch").await;
    }
}

pub(super) async fn an_update_keeps_no_deadline_of_an_earlier_touch(f: Fixture) {
    let record = f.record().idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    touched(&f, "aa", &record, 60).await;
    let next = f.record().idle(minutes(10)).version(2).build();
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.holds(&key("aa"), &next, "the times come with the record").await;
    f.advance(minutes(10)).await;
    f.lacks(&key("aa"), "the times come with the record").await;
}
