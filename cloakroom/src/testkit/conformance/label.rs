//! `indexed` by label: a session may have up to eight labels besides its user, and is found by each.

use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::record::Label;
use crate::testkit::fixture::{Fixture, key, keys, keys_of, label, minutes, user};

/// Returns true if the store lists sessions by labels. A store that cannot must say so in its capabilities.
async fn lists(f: &Fixture) -> bool {
    f.lists().await && f.capabilities().labels
}

pub(super) async fn a_label_finds_its_sessions_and_no_others(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let all = keys(6);
    for (n, key) in all.iter().enumerate() {
        f.put(key, &f.record().label(["one", "two"][n % 2]).build()).await;
    }
    f.put(&key("bare"), &f.record().principal("alice").build()).await;
    f.have(&label("one"), &[&all[0], &all[2], &all[4]], "every other one").await;
    f.have(&label("two"), &[&all[1], &all[3], &all[5]], "the rest").await;
    f.have(&label("three"), &[], "a label that no session has").await;
}

pub(super) async fn one_session_has_a_user_and_two_labels(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let record = f.record().principal("alice").label("one").label("two").build();
    f.put(&key("aa"), &record).await;
    f.put(&key("bb"), &f.record().principal("bob").label("two").build()).await;
    f.holds(&key("aa"), &record, "labels come back").await;
    f.have(&user("alice"), &[&key("aa")], "her session").await;
    f.have(&label("one"), &[&key("aa")], "the first label").await;
    f.have(&label("two"), &[&key("aa"), &key("bb")], "the second label").await;
    let found = f.indexed(&label("one"), 10).await;
    assert_eq!(found[0].meta, record.meta(), "a list tells user and labels");
    f.advance(minutes(2)).await;
    assert_eq!(f.touch(&key("aa")).await, Touched::Done, "it is alive");
    let touched = f.load(&key("aa")).await.expect("it is alive");
    assert_eq!(f.indexed(&label("one"), 10).await[0].meta, touched.meta(), "and the last use");
}

pub(super) async fn as_many_labels_as_there_may_be_are_found(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let long = |n: usize| format!("{n}{}", "x".repeat(Label::MAX_LEN - 1));
    let record = (0..Label::MAX_COUNT).fold(f.record(), |record, n| record.label(long(n)));
    f.put(&key("aa"), &record.clone().principal("u".repeat(256)).build()).await;
    for n in 0..Label::MAX_COUNT {
        f.have(&label(&long(n)), &[&key("aa")], "each label, of the greatest length").await;
    }
}

pub(super) async fn a_label_and_a_user_of_one_text_never_mix(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let texts = ["alice", "Alice", "alice ", "label", "user:alice", "a/b", "%", "\0", "é", "e\u{301}"];
    for (n, text) in texts.iter().enumerate() {
        f.put(&key(&format!("user-{n}")), &f.record().principal(text).build()).await;
        f.put(&key(&format!("label-{n}")), &f.record().label(text).build()).await;
    }
    for (n, text) in texts.iter().enumerate() {
        f.have(&user(text), &[&key(&format!("user-{n}"))], &format!("the user {text:?}")).await;
        f.have(&label(text), &[&key(&format!("label-{n}"))], &format!("the label {text:?}")).await;
    }
}

pub(super) async fn the_sessions_of_a_label_come_in_pages(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let names: Vec<_> = (0..23).map(|n| key(&format!("session-{n:02}"))).collect();
    for name in &names {
        f.put(name, &f.record().label("one").build()).await;
    }
    f.put(&key("other"), &f.record().label("two").build()).await;
    for limit in [1, 2, 7, 22, 23, 24, 100] {
        let mut met = keys_of(&f.indexed(&label("one"), limit).await);
        met.dedup();
        assert_eq!(met, names, "all of them and no others, in pages of {limit}");
    }
    let page = f.provider.indexed(&label("one"), None, 0).await.expect("a page without room");
    assert_eq!(page.entries, [], "none were asked for");
}

pub(super) async fn labels_follow_a_session_to_its_new_key(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let record = |version| f.record().principal("alice").label("one").label("two").version(version).build();
    f.put(&key("old"), &record(1)).await;
    let mark = f.capabilities().tombstones.then(|| f.record().tombstone(&key("new"), minutes(1)));
    let renamed = f.rename(&key("old"), &key("new"), &record(2), 1, mark.as_ref()).await;
    assert_eq!(renamed, Renamed::Done, "it is at version 1");
    for entry in [label("one"), label("two"), user("alice")] {
        f.have(&entry, &[&key("new")], "under its new key alone").await;
    }
    f.holds(&key("new"), &record(2), "with its labels").await;
}

pub(super) async fn labels_leave_with_their_session(f: Fixture) {
    if !lists(&f).await || !f.revokes().await {
        return;
    }
    let record = || f.record().label("one").label("two");
    for name in ["deleted", "ended", "alive"] {
        f.put(&key(name), &record().build()).await;
    }
    f.put(&key("expired"), &record().idle(minutes(5)).build()).await;
    assert!(f.delete(&key("deleted")).await, "a live session was there");
    if f.capabilities().tombstones {
        assert_eq!(f.update(&key("ended"), &f.record().ended(), 1).await, Updated::Done, "it is alive");
    } else {
        assert!(f.delete(&key("ended")).await, "a live session was there");
    }
    f.advance(minutes(5)).await;
    for _ in 0..2 {
        f.have(&label("one"), &[&key("alive")], "not the deleted, ended and expired ones").await;
        f.have(&label("two"), &[&key("alive")], "not the deleted, ended and expired ones").await;
        f.collect_all(10).await;
    }
    assert_eq!(f.create(&key("deleted"), &f.record().build()).await, Created::Done, "the key is free");
    f.have(&label("one"), &[&key("alive")], "the new session under that key has no label").await;
}

pub(super) async fn an_update_changes_the_labels(f: Fixture) {
    if !lists(&f).await {
        return;
    }
    let aa = key("aa");
    f.put(&aa, &f.record().principal("alice").build()).await;
    let steps: [&[&str]; 6] =
        [&["one"], &["one", "two"], &["two", "three"], &["three", "two"], &["four"], &[]];
    for (version, labels) in (2..).zip(steps) {
        let record = labels.iter().fold(f.record().principal("alice").version(version), |r, l| r.label(l));
        assert_eq!(f.update(&aa, &record.build(), version - 1).await, Updated::Done, "version {version}");
        for text in ["one", "two", "three", "four"] {
            let expected: &[_] = if labels.contains(&text) { &[&aa] } else { &[] };
            f.have(&label(text), expected, &format!("{text} after an update to {labels:?}")).await;
        }
        f.have(&user("alice"), &[&aa], "still hers").await;
    }
    let stale = f.record().label("stolen").version(9).build();
    assert_eq!(f.update(&aa, &stale, 3).await, Updated::Stale, "another version is there");
    f.have(&label("stolen"), &[], "nothing was changed").await;
}
