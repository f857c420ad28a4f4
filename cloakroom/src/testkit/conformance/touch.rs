//! `touch` moves a session's times. It changes neither data nor version, and adds no record.

use std::time::SystemTime;

use crate::clock::Millis;
use crate::provider::{Provider, Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, minutes};

/// Touches `name` now, and returns `record` as it must be afterwards.
async fn touched(f: &Fixture, name: &str, record: &Record) -> Record {
    touched_at(f, name, record, f.now()).await
}

async fn touched_at(f: &Fixture, name: &str, record: &Record, at: SystemTime) -> Record {
    let answer = f.provider.touch(&key(name), at).await.expect("a touch is answered");
    assert_eq!(answer, Touched::Done, "the session is alive");
    let mut expected = record.clone();
    expected.touch(at);
    expected
}

pub(super) async fn a_touch_moves_the_times_and_nothing_else(f: Fixture) {
    let record = f.record().aged(minutes(9)).principal("alice").filled(900).version(3).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(7)).await;
    let expected = touched(&f, "aa", &record).await;
    f.holds(&key("aa"), &expected, "last use and idle deadline moved, all else is as it was").await;
}

pub(super) async fn a_touch_keeps_a_session_alive(f: Fixture) {
    let mut record = f.record().idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    for _ in 0..5 {
        f.advance(minutes(9)).await;
        record = touched(&f, "aa", &record).await;
        assert_eq!(record.expires(), f.now() + minutes(10), "its own idle time, from the use on");
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
    let mut expected = touched(&f, "aa", &record).await;
    let found = f.load(&key("aa")).await.expect("the session is alive");
    assert_eq!(
        Some(found.meta().expires()),
        record.meta().absolute_deadline(),
        "the absolute deadline binds"
    );
    assert_eq!(found, expected, "the idle deadline is cut to the absolute one");
    f.advance(minutes(4)).await;
    expected = touched(&f, "aa", &expected).await;
    f.holds(&key("aa"), &expected, "and stays there").await;
    f.advance(minutes(2)).await;
    f.lacks(&key("aa"), "the absolute deadline is over, however much it is used").await;
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "dead for good");
}

pub(super) async fn a_touch_leaves_the_version_alone(f: Fixture) {
    let record = f.record().version(4).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(1)).await;
    touched(&f, "aa", &record).await;
    let next = f.record().version(5).build();
    let answer = f.provider.update(&key("aa"), &next, &record).await.expect("an update is answered");
    assert_eq!(answer, Updated::Done, "a change from the record before the touch still fits");
}

pub(super) async fn a_touch_keeps_to_the_stored_idle_time(f: Fixture) {
    let read = f.record().idle(minutes(30)).build();
    f.put(&key("aa"), &read).await;
    for (version, idle) in [(2, minutes(30 * 24 * 60)), (3, minutes(2)), (4, minutes(40))] {
        let changed = f.record().idle(idle).no_absolute().version(version).build();
        assert_eq!(f.update(&key("aa"), &changed, version - 1).await, Updated::Done, "version {version}");
        f.advance(minutes(1)).await;
        let expected = touched(&f, "aa", &changed).await;
        f.holds(&key("aa"), &expected, "the idle time of the update, whatever was read before").await;
        assert_eq!(expected.expires(), f.now() + idle, "from the use on");
    }
}

pub(super) async fn a_touch_never_moves_a_time_back(f: Fixture) {
    let record = f.record().idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(5)).await;
    let used = touched(&f, "aa", &record).await;
    for ago in [minutes(1), minutes(5), minutes(60)] {
        let same = touched_at(&f, "aa", &used, f.now() - ago).await;
        assert_eq!(same, used, "an earlier use changes nothing");
        f.holds(&key("aa"), &used, "an earlier use changes nothing").await;
    }
}

pub(super) async fn touches_give_the_same_times_in_any_order(f: Fixture) {
    let record = f.record().idle(minutes(10)).absolute(minutes(13)).build();
    let uses = [f.now() + minutes(1), f.now() + minutes(2), f.now() + minutes(5)];
    for (n, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].into_iter().enumerate() {
        let name = format!("session-{n}");
        f.put(&key(&name), &record).await;
        let mut expected = record.clone();
        uses.iter().for_each(|at| expected.touch(*at));
        for use_of in order {
            touched_at(&f, &name, &record, uses[use_of]).await;
        }
        f.holds(&key(&name), &expected, "the latest use counts, in whatever order they come").await;
    }
}

pub(super) async fn a_touch_of_a_record_with_odd_times_is_answered(f: Fixture) {
    if f.capabilities().codec.is_some() {
        return;
    }
    // Another program may have stored such records: last used after their end, or with times at the end of the range.
    let (now, later) = (Millis::from(f.now()), Millis::from(f.now() + minutes(5)));
    let latest = Millis(u64::MAX - 1);
    let odd = [
        (later, later, "no idle time"),
        (latest, later, "used after its deadline"),
        (now, latest, "a deadline near the end of time"),
        (Millis(0), latest, "an idle time near the end of time"),
        (Millis::NEVER, Millis::NEVER, "the end of time"),
        (Millis(0), Millis(1 << 54), "more than a floating-point number tells apart"),
    ];
    for (n, (used, idle, why)) in odd.into_iter().enumerate() {
        let name = format!("session-{n}");
        let mut record = f.record().no_absolute().build();
        record.set_use(used, idle);
        f.put(&key(&name), &record).await;
        let expected = touched(&f, &name, &record).await;
        f.holds(&key(&name), &expected, why).await;
    }
}

pub(super) async fn touch_never_creates(f: Fixture) {
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "nothing was ever there");
    f.lacks(&key("aa"), "a touch makes nothing").await;
}

pub(super) async fn a_touch_of_a_destroyed_session_says_gone(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    f.put(&key("aa"), &f.record().build()).await;
    assert!(f.delete(&key("aa")).await, "a live record was there to delete");
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "it was destroyed");
    f.lacks(&key("aa"), "what was destroyed does not come back").await;
}

pub(super) async fn a_touch_does_not_wake_an_expired_session(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "it has expired");
    f.lacks(&key("aa"), "an expired session stays dead").await;
}

pub(super) async fn a_touched_session_without_an_absolute_deadline_lives_on(f: Fixture) {
    let mut record = f.record().no_absolute().idle(minutes(60 * 24 * 365)).build();
    f.put(&key("aa"), &record).await;
    for _ in 0..3 {
        f.advance(minutes(60 * 24 * 364)).await;
        record = touched(&f, "aa", &record).await;
        f.holds(&key("aa"), &record, "its idle time alone binds it").await;
    }
}

pub(super) async fn an_update_keeps_no_deadline_of_an_earlier_touch(f: Fixture) {
    let record = f.record().idle(minutes(60)).build();
    f.put(&key("aa"), &record).await;
    f.advance(minutes(1)).await;
    touched(&f, "aa", &record).await;
    let next = f.record().idle(minutes(10)).version(2).build();
    assert_eq!(f.update(&key("aa"), &next, 1).await, Updated::Done, "the record is at version 1");
    f.holds(&key("aa"), &next, "the times come with the record").await;
    f.advance(minutes(10)).await;
    f.lacks(&key("aa"), "the times come with the record").await;
}
