//! A record expires by its own deadline, to the millisecond, and in the same way for every method. The store's collection makes no
//! visible difference.

use std::time::Duration;

use crate::provider::{Created, Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn a_session_lives_until_its_idle_deadline(f: Fixture) {
    let record = f.record().idle(minutes(30)).absolute(minutes(480)).build();
    lives_for(&f, "aa", minutes(30), record).await;
}

pub(super) async fn a_session_lives_until_its_absolute_deadline(f: Fixture) {
    let record = f.record().idle(minutes(480)).absolute(minutes(30)).build();
    lives_for(&f, "aa", minutes(30), record).await;
}

pub(super) async fn deadlines_count_in_milliseconds(f: Fixture) {
    let odd = Duration::from_millis(60_000 + 1);
    lives_for(&f, "aa", odd, f.record().idle(odd).build()).await;
    let odder = Duration::from_millis(120_000 - 1);
    lives_for(&f, "bb", odder, f.record().idle(odder).build()).await;
}

/// Checks that the record is there until just before `time` has passed, and absent from that instant on.
async fn lives_for(f: &Fixture, name: &str, time: Duration, record: crate::record::Record) {
    f.put(&key(name), &record).await;
    f.advance(time - f.slack).await;
    f.holds(&key(name), &record, "just before its deadline").await;
    f.advance(f.slack).await;
    f.lacks(&key(name), "from its deadline on").await;
    f.advance(minutes(1)).await;
    f.lacks(&key(name), "after its deadline").await;
}

pub(super) async fn an_expired_record_is_gone_for_every_method(f: Fixture) {
    f.put(&key("aa"), &f.record().idle(minutes(5)).principal("alice").build()).await;
    f.advance(minutes(5)).await;
    let record = f.record().version(2).build();
    f.lacks(&key("aa"), "load").await;
    assert_eq!(f.update(&key("aa"), &record, 1).await, Updated::Gone, "update");
    assert_eq!(f.update(&key("aa"), &record, 2).await, Updated::Gone, "update of another version");
    assert_eq!(f.touch(&key("aa")).await, Touched::Gone, "touch");
    assert_eq!(f.rename(&key("aa"), &key("bb"), &record, 1, None).await, Renamed::Gone, "rename");
    if f.lists().await {
        assert_eq!(f.count().await, 0, "count");
        assert_eq!(f.scan(10).await, [], "scan");
        f.belong_to("alice", &[], "indexed").await;
    }
    if f.revokes().await {
        assert!(!f.delete(&key("aa")).await, "delete");
    }
    assert_eq!(f.create(&key("aa"), &record).await, Created::Done, "create finds the key free");
}

pub(super) async fn collection_makes_no_difference_to_what_is_seen(f: Fixture) {
    let (short, long) = (f.record().idle(minutes(5)).build(), f.record().idle(minutes(9)).build());
    f.put(&key("short"), &short).await;
    f.put(&key("long"), &long).await;
    f.advance(minutes(5)).await;
    for _ in 0..2 {
        f.lacks(&key("short"), "expired, collected or not").await;
        f.holds(&key("long"), &long, "alive, collected around or not").await;
        assert_eq!(f.update(&key("short"), &short, 1).await, Updated::Gone, "expired, collected or not");
        f.collect_all(10).await;
    }
}

pub(super) async fn sessions_end_in_the_order_of_their_deadlines(f: Fixture) {
    // They are stored in another order than that of their deadlines.
    let order: Vec<u64> = (1..=12).map(|n| n * 5 % 13).collect();
    for &n in &order {
        f.put(&key(&format!("ends-{n}")), &f.record().idle(minutes(n)).build()).await;
    }
    for now in 1..=12 {
        f.advance(minutes(1)).await;
        for n in 1..=12 {
            let found = f.load(&key(&format!("ends-{n}"))).await.is_some();
            assert_eq!(found, n > now, "a session of {n} minutes after {now} minutes");
        }
        if f.capabilities().lists {
            assert_eq!(f.count().await, 12 - now, "after {now} minutes");
        }
    }
}
