//! A store that refuses changes, because it is full or read-only. It reads as before, a full one still ends sessions, and no change
//! is made by half.

use crate::error::{ErrorKind, Result};
use crate::id::StoreKey;
use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, keys, keys_of, minutes};

const STORED: usize = 8;

/// Stores sessions of alice under `keys(STORED)`, and returns them.
async fn stored(f: &Fixture) -> Vec<(StoreKey, Record)> {
    let mut all = Vec::new();
    for (n, name) in keys(STORED).into_iter().enumerate() {
        let record = f.record().principal("alice").value("n", n).build();
        f.put(&name, &record).await;
        all.push((name, record));
    }
    all
}

async fn reads(f: &Fixture, all: &[(StoreKey, Record)]) {
    for (name, record) in all {
        f.holds(name, record, "a store that refuses changes still reads").await;
    }
    f.lacks(&key("nobody"), "and knows what is not there").await;
    if f.lists().await {
        let names: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(f.count().await, names.len() as u64, "it counts");
        assert_eq!(keys_of(&f.scan(3).await), names, "it walks");
        f.belong_to("alice", &names.iter().collect::<Vec<_>>(), "it lists").await;
    }
}

/// Checks that a change was either refused by an error or made, and that the store agrees. Returns true if it was made.
async fn as_told<T: PartialEq + std::fmt::Debug>(
    f: &Fixture,
    answer: Result<T>,
    done: T,
    (name, before, after): (&StoreKey, Option<&Record>, Option<&Record>),
) -> bool {
    let made = match answer {
        Ok(outcome) => {
            assert_eq!(outcome, done, "nothing but the refusal is in the way");
            true
        }
        Err(_) => false,
    };
    let (found, expected) = (f.load(name).await, if made { after } else { before });
    assert!(found.as_ref() == expected, "made: {made}\n expected {expected:?}\n    found {found:?}");
    made
}

/// Tries each change on a session of its own, and returns what the store must hold afterwards.
async fn tries_every_change(f: &Fixture, all: &[(StoreKey, Record)]) -> Vec<(StoreKey, Record)> {
    let p = &f.provider;
    let mut left: Vec<_> = all.to_vec();
    let next = f.record().principal("alice").version(2).filled(3_000).build();
    let fresh = f.record().principal("alice").filled(3_000).build();
    if as_told(f, p.create(&key("tt"), &fresh).await, Created::Done, (&key("tt"), None, Some(&fresh))).await {
        left.push((key("tt"), fresh));
    }
    let (name, record) = all[0].clone();
    let place = (&name, Some(&record), Some(&next));
    if as_told(f, p.update(&name, &next, &record).await, Updated::Done, place).await {
        left[0].1 = next.clone();
    }
    let (name, record) = all[1].clone();
    let at = f.now() + minutes(10);
    let mut touched = record.clone();
    touched.touch(at);
    let place = (&name, Some(&record), Some(&touched));
    if as_told(f, p.touch(&name, at).await, Touched::Done, place).await {
        left[1].1 = touched;
    }
    let (name, record) = all[2].clone();
    let answer = p.rename(&name, &key("uu"), &next, 1, None).await;
    if as_told(f, answer, Renamed::Done, (&name, Some(&record), None)).await {
        left[2] = (key("uu"), next);
    } else {
        f.lacks(&key("uu"), "a rename that was refused left nothing").await;
    }
    left.sort_by(|one, other| one.0.cmp(&other.0));
    left
}

pub(super) async fn a_full_store_reads_and_deletes(f: Fixture) {
    let Some(fill) = f.full() else { return };
    let all = stored(&f).await;
    fill(true).await;
    let mut left = tries_every_change(&f, &all).await;
    reads(&f, &left).await;
    if f.revokes().await {
        let (name, _) = left.pop().expect("some are there");
        assert!(f.delete(&name).await, "a full store can do with less");
        f.lacks(&name, "it was deleted").await;
    }
    fill(false).await;
    reads(&f, &left).await;
    f.put(&key("vv"), &f.record().build()).await;
}

pub(super) async fn a_read_only_store_reads_and_changes_nothing(f: Fixture) {
    let Some(lock) = f.read_only() else { return };
    let all = stored(&f).await;
    lock(true).await;
    let left = tries_every_change(&f, &all).await;
    assert!(left == all, "a store that can only be read has changed");
    if f.revokes().await {
        let (name, record) = &all[3];
        let refused = f.provider.delete(name).await.map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::Unavailable), "a delete that was refused is an error");
        f.holds(name, record, "it was not deleted").await;
    }
    reads(&f, &all).await;
    lock(false).await;
    reads(&f, &all).await;
    f.put(&key("vv"), &f.record().build()).await;
}
