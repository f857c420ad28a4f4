//! Records come back byte for byte as they were stored, whatever they contain: empty, large, and with every byte value.

use crate::codec::{Codec, Limits};
use crate::error::ErrorKind;
use crate::provider::{Provider, Renamed, Updated};
use crate::record::Record;
use crate::testkit::base;
use crate::testkit::fixture::{Fixture, key, minutes};

/// Stores `record` by `create`, `update` and `rename`, and checks that it comes back unchanged.
async fn comes_back(f: &Fixture, record: &Record, what: &str) {
    let plain = f.record().value("other", "data").version(41).build();
    let name = |way: &str| key(&format!("{way}-{}", record.as_bytes().len()));
    f.put(&name("create"), record).await;
    f.holds(&name("create"), record, &format!("{what}, created")).await;
    f.put(&name("update"), &plain).await;
    assert_eq!(f.update(&name("update"), record, 41).await, Updated::Done, "{what}, updated");
    f.holds(&name("update"), record, &format!("{what}, updated")).await;
    f.put(&name("old"), &plain).await;
    assert_eq!(
        f.rename(&name("old"), &name("new"), record, 41, None).await,
        Renamed::Done,
        "{what}, renamed"
    );
    f.holds(&name("new"), record, &format!("{what}, renamed")).await;
}

/// Returns the largest data of a record for this store: the manager's default limit, or the provider's own if that is lower.
fn most_data(f: &Fixture) -> usize {
    let beside = f.record().principal("p".repeat(256)).build().as_bytes().len();
    let room = f.capabilities().max_record.map_or(usize::MAX, |most| most.saturating_sub(beside));
    room.min(Limits::DEFAULT.bytes)
}

pub(super) async fn every_field_of_a_record_comes_back(f: Fixture) {
    let record =
        f.record().aged(minutes(100)).principal("alice").version(7).value("n", 1).absolute(minutes(99));
    comes_back(&f, &record.idle(minutes(50)).build(), "every field at a value of its own").await;
}

pub(super) async fn a_record_without_a_user_and_an_absolute_deadline_comes_back(f: Fixture) {
    comes_back(&f, &f.record().no_absolute().build(), "no user and no absolute deadline").await;
}

pub(super) async fn empty_data_comes_back(f: Fixture) {
    comes_back(&f, &f.record().filled(0).build(), "no data at all").await;
}

pub(super) async fn every_byte_value_comes_back(f: Fixture) {
    comes_back(&f, &f.record().filled(600).build(), "bytes that are no text in any encoding").await;
}

pub(super) async fn the_largest_data_comes_back(f: Fixture) {
    let most = most_data(&f);
    comes_back(&f, &f.record().filled(most).build(), "data of 64 KiB, or as much as the provider takes")
        .await;
}

pub(super) async fn data_of_every_size_around_the_powers_of_two_comes_back(f: Fixture) {
    let most = most_data(&f);
    for size in (7..16).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]) {
        if size <= most {
            let record = f.record().filled(size).build();
            f.put(&key(&format!("size-{size}")), &record).await;
            f.holds(&key(&format!("size-{size}")), &record, &format!("data of {size} bytes")).await;
        }
    }
}

pub(super) async fn data_in_json_comes_back_as_json(f: Fixture) {
    let record = f.record().codec(Codec::JSON).value("quote", "\"\\'; -- \u{0}\u{1F980}").value("n", 1.5);
    comes_back(&f, &record.build(), "the codec is a part of the record").await;
}

pub(super) async fn an_update_to_less_data_leaves_nothing_of_the_former(f: Fixture) {
    let long = f.record().filled(most_data(&f).min(5_000)).build();
    let short = f.record().value("n", 1).version(2).build();
    let empty = f.record().version(3).build();
    f.put(&key("aa"), &long).await;
    assert_eq!(f.update(&key("aa"), &short, 1).await, Updated::Done, "from long to short");
    f.holds(&key("aa"), &short, "the long data is gone to the last byte").await;
    assert_eq!(f.update(&key("aa"), &empty, 2).await, Updated::Done, "from short to empty");
    f.holds(&key("aa"), &empty, "the short data is gone to the last byte").await;
}

pub(super) async fn a_session_without_any_deadline_never_expires(f: Fixture) {
    let record = f.record().endless().build();
    comes_back(&f, &record, "no deadline at all").await;
    f.put(&key("endless"), &record).await;
    f.advance(minutes(60 * 24 * 365 * 100)).await;
    f.collect_all(10).await;
    f.holds(&key("endless"), &record, "a hundred years are not enough").await;
}

pub(super) async fn a_record_past_the_declared_maximum_is_refused(f: Fixture) {
    // A provider without a maximum of its own refuses no size.
    let Some(most) = f.capabilities().max_record else { return };
    let small = f.record().value("n", 1).build();
    let large = f.record().filled(most + 1).version(2).build();
    f.put(&key("aa"), &small).await;
    let failures = [
        f.provider.create(&key("bb"), &large).await.map(drop),
        f.provider.update(&key("aa"), &large, &base(1)).await.map(drop),
        f.provider.rename(&key("aa"), &key("bb"), &large, 1, None).await.map(drop),
    ];
    for failure in failures {
        let kind = failure.expect_err("a record larger than max_record is refused").kind();
        assert_eq!(kind, ErrorKind::TooLarge, "the caller has to know that less data would go");
    }
    f.holds(&key("aa"), &small, "a refused record changes nothing").await;
    f.lacks(&key("bb"), "a refused record is not stored").await;
}
