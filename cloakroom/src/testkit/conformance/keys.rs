//! Keys are compared byte for byte and as a whole. Letter case, prefixes, patterns and numbers have no meaning.

use crate::id::StoreKey;
use crate::provider::{Renamed, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, keys_of};

/// Checks that each of `texts` holds its own session while the others change and end.
async fn never_collide(f: &Fixture, texts: &[&str]) {
    let keys: Vec<StoreKey> = texts.iter().map(|text| key(text)).collect();
    let mut records: Vec<Option<Record>> = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let record = f.record().value("n", n).principal(format!("user-{n}")).build();
        f.put(key, &record).await;
        records.push(Some(record));
        all_hold(f, texts, &keys, &records).await;
    }
    if f.capabilities().lists {
        assert_eq!(f.count().await, keys.len() as u64, "{texts:?} are as many sessions");
        for limit in [1, 2, 100] {
            let met = keys_of(&f.scan(limit).await);
            assert_eq!(met, sorted(&keys), "a walk in pages of {limit} meets each of {texts:?} as it was");
        }
        for (n, key) in keys.iter().enumerate() {
            f.belong_to(&format!("user-{n}"), &[key], "each key is indexed as it is").await;
        }
    }
    for n in 0..keys.len() {
        let next = f.record().value("changed", n).version(2).build();
        assert_eq!(f.update(&keys[n], &next, 1).await, Updated::Done, "update of {:?}", texts[n]);
        records[n] = Some(next.clone());
        all_hold(f, texts, &keys, &records).await;
        let away = key(&format!("away-{n}"));
        assert_eq!(
            f.rename(&keys[n], &away, &next, 2, None).await,
            Renamed::Done,
            "rename of {:?}",
            texts[n]
        );
        records[n] = None;
        all_hold(f, texts, &keys, &records).await;
    }
}

async fn all_hold(f: &Fixture, texts: &[&str], keys: &[StoreKey], records: &[Option<Record>]) {
    for ((text, key), record) in texts.iter().zip(keys).zip(records) {
        match record {
            Some(record) => f.holds(key, record, &format!("{text:?} beside its neighbours {texts:?}")).await,
            None => f.lacks(key, &format!("{text:?} was renamed away from {texts:?}")).await,
        }
    }
}

fn sorted(keys: &[StoreKey]) -> Vec<StoreKey> {
    let mut keys = keys.to_vec();
    keys.sort();
    keys
}

pub(super) async fn keys_that_differ_in_case_never_collide(f: Fixture) {
    never_collide(&f, &["session", "Session", "sessioN", "SESSION", "sESSION"]).await;
}

pub(super) async fn keys_that_differ_in_one_byte_never_collide(f: Fixture) {
    never_collide(&f, &["aaaaaaaa", "baaaaaaa", "aaaabaaa", "aaaaaaab"]).await;
}

pub(super) async fn keys_of_which_one_is_a_prefix_of_the_other_never_collide(f: Fixture) {
    never_collide(&f, &["se", "ses", "session", "session-", "session--", "sessionA"]).await;
}

pub(super) async fn keys_of_punctuation_never_collide(f: Fixture) {
    never_collide(&f, &["--", "__", "-_", "_-", "---", "-a", "_a", "a-", "a_"]).await;
}

pub(super) async fn keys_that_a_pattern_would_match_never_collide(f: Fixture) {
    never_collide(&f, &["abc", "a_c", "a-c", "___", "_bc"]).await;
}

pub(super) async fn keys_that_read_as_numbers_are_still_text(f: Fixture) {
    never_collide(&f, &["10", "010", "1e1", "0x0A", "10-", "00", "000", "-0", "0e0"]).await;
}

pub(super) async fn keys_that_read_as_names_with_a_meaning_are_plain_keys(f: Fixture) {
    never_collide(&f, &["null", "NULL", "con", "nul", "tmp", "lock", "index", "sessions", "DROP", "true"])
        .await;
}

pub(super) async fn keys_of_the_greatest_length_never_collide(f: Fixture) {
    let long = "k".repeat(StoreKey::MAX_LEN);
    let last = format!("{}x", &long[1..]);
    let first = format!("x{}", &long[1..]);
    let middle = format!("{}x{}", &long[..100], &long[101..]);
    never_collide(&f, &[&long, &last, &first, &middle, &long[1..], &long[..100]]).await;
}
