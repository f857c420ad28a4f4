//! `load` returns the newest record under a key, as it was stored, and changes nothing.

use crate::provider::{Provider, Updated};
use crate::testkit::fixture::{Fixture, key, minutes};

pub(super) async fn an_unknown_key_loads_nothing(f: Fixture) {
    f.lacks(&key("nobody"), "nothing was ever stored").await;
    f.put(&key("somebody"), &f.record().build()).await;
    f.lacks(&key("nobody"), "something else was stored").await;
}

pub(super) async fn loading_changes_nothing(f: Fixture) {
    let record = f.record().value("n", 1).idle(minutes(10)).build();
    f.put(&key("aa"), &record).await;
    for _ in 0..9 {
        f.advance(minutes(1)).await;
        f.holds(&key("aa"), &record, "a load neither prolongs nor marks the session").await;
    }
    f.advance(minutes(1)).await;
    f.lacks(&key("aa"), "loads do not move the deadline").await;
}

pub(super) async fn a_load_sees_the_newest_change(f: Fixture) {
    let mut record = f.record().value("n", 0).build();
    f.put(&key("aa"), &record).await;
    for n in 1..20 {
        let next = f.record().value("n", n).version(n + 1).build();
        assert_eq!(f.update(&key("aa"), &next, record.meta().version()).await, Updated::Done, "change {n}");
        f.holds(&key("aa"), &next, "the change that was just answered with Done").await;
        record = next;
    }
}

pub(super) async fn the_capabilities_are_the_same_every_time(f: Fixture) {
    let first = f.capabilities();
    assert!(!first.name.is_empty(), "a provider has a name, for logs and errors");
    f.put(&key("aa"), &f.record().build()).await;
    assert_eq!(f.capabilities(), first, "capabilities do not change with what is stored");
    assert_eq!(f.second.capabilities(), first, "two handles on one store can do the same");
}
