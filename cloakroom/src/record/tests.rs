//! The record format, read and written through [`Record`].

use super::fields::push;
use super::*;
use crate::codec::Codec;
use crate::error::ErrorKind;
use crate::id::StoreKey;
use crate::principal::Level;

/// The offsets of the format and of the codec, as `docs/format.md` gives them.
const AT_FORMAT: usize = 4;
const AT_CODEC: usize = 5;

fn be_u32(bytes: &[u8]) -> usize {
    u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize
}

fn sample() -> Record {
    let times = Times {
        version: 7,
        created: Millis(1_000),
        issued: Millis(1_500),
        last_active: Millis(2_000),
        idle_deadline: Millis(3_000),
        absolute_deadline: Millis::NEVER,
        authenticated: Some(Millis(1_500)),
    };
    let principal = Some(Principal::new("alice").unwrap());
    Record::new(&Meta::new(times, principal), Codec::MESSAGE_PACK, b"\x81\xa1n\x01")
}

#[test]
fn a_record_reads_back_as_it_was() {
    let live = sample();
    assert_eq!(Record::from_bytes(live.as_bytes()).unwrap(), live);
    assert_eq!((live.version(), live.data()), (7, &b"\x81\xa1n\x01"[..]));
    assert_eq!(live.principal(), Some(Principal::new("alice").unwrap()));
    let successor: StoreKey = "abcdef".parse().unwrap();
    for mark in [
        Mark::Rotated { successor: successor.clone(), until: Millis(9) },
        Mark::Replaced { successor },
        Mark::Ended,
    ] {
        let tombstone = live.tombstone(&mark, Millis(5), Millis(10));
        assert_eq!(Record::from_bytes(tombstone.as_bytes()).unwrap(), tombstone);
        assert!(tombstone.is_tombstone() && !live.is_tombstone());
        assert_eq!((tombstone.mark(), tombstone.principal()), (Some(mark), None));
        assert_eq!((tombstone.deadline(), tombstone.version(), tombstone.data()), (Millis(10), 8, &b""[..]));
    }
}

#[test]
fn what_a_session_has_of_its_own_reads_back() {
    let mut record = sample();
    let lifetime = Lifetime::remembered(std::time::Duration::from_secs(77));
    let mut headers = http::HeaderMap::new();
    headers.insert("user-agent", "Firefox".parse().unwrap());
    let device = Device::of_request(&headers).with_address("10.1.2.3".parse().unwrap());
    record.edit(|meta| {
        meta.lifetime = Some(lifetime);
        meta.ends_by = Some(Millis(4_000));
        meta.level = Some(Level::new(3));
        meta.device = Some(device.clone());
    });
    let read = Record::from_bytes(record.as_bytes()).unwrap().meta();
    assert_eq!(
        (read.lifetime, read.ends_by, read.level()),
        (Some(lifetime), Some(Millis(4_000)), Some(Level::new(3)))
    );
    assert_eq!((read.device(), read.principal()), (Some(&device), sample().principal().as_ref()));
    record.edit(|meta| *meta = sample().meta());
    assert_eq!(record, sample());
}

#[test]
fn fields_that_contradict_one_another_are_an_error() {
    let with_fields = |fields: &[(u8, &[u8])]| {
        let mut added = Vec::new();
        fields.iter().for_each(|(tag, value)| push(&mut added, *tag, value));
        let mut bytes = sample().as_bytes().to_vec();
        let end = bytes.len() - 4;
        bytes.splice(end..end, added.iter().copied());
        let len = (be_u32(&bytes[64..]) + added.len()) as u32;
        bytes[64..68].copy_from_slice(&len.to_be_bytes());
        Record::from_bytes(&bytes).is_ok()
    };
    let (key, time, none): (&[u8], &[u8], &[u8]) = (b"abcdef", &[0; 8], b"");
    assert!(
        with_fields(&[(2, key), (3, time)])
            && with_fields(&[(2, key), (4, none)])
            && with_fields(&[(4, none)])
    );
    assert!(!with_fields(&[(2, key)]) && !with_fields(&[(3, time)]) && !with_fields(&[(3, time), (4, none)]));
    assert!(!with_fields(&[(2, key), (3, time), (4, none)]) && !with_fields(&[(4, b"x")]));
    assert!(!with_fields(&[(5, &[2; 17])]) && !with_fields(&[(5, &[0; 16])]) && !with_fields(&[(7, none)]));
}

#[test]
fn a_touch_moves_two_times_and_never_past_the_absolute_deadline() {
    let mut record = sample();
    record.edit(|meta| meta.times.absolute_deadline = Millis(5_000));
    let before = record.times();
    record.touch(Millis(before.last_active.0 + 3_000).into());
    let used = Millis(before.last_active.0 + 3_000);
    let expected = Times { last_active: used, idle_deadline: Millis(5_000), ..before };
    assert_eq!(record.times(), expected);
    assert_eq!(record.data(), sample().data());
}

#[test]
fn touches_give_the_same_times_in_any_order() {
    for absolute in [3_700, 5_500, u64::MAX] {
        let mut record = sample();
        record.edit(|meta| meta.times.absolute_deadline = Millis(absolute));
        let touched = |order: [u64; 3]| {
            let mut record = record.clone();
            order.into_iter().for_each(|at| record.touch(Millis(at).into()));
            record.times()
        };
        let orders = [[1_900, 2_500, 2_900], [2_900, 1_900, 2_500], [2_500, 2_900, 1_900]];
        assert_eq!(touched(orders[0]), touched(orders[1]), "{absolute}");
        assert_eq!(touched(orders[0]), touched(orders[2]), "{absolute}");
    }
}

#[test]
fn a_touch_survives_odd_times() {
    let odd = [0, 1, 2_000, 1 << 53, u64::MAX - 1, u64::MAX];
    for (used, idle) in odd.into_iter().flat_map(|used| odd.map(|idle| (used, idle))) {
        for at in odd {
            let mut record = sample();
            record.edit(|meta| {
                let times = &mut meta.times;
                (times.last_active, times.idle_deadline) = (Millis(used), Millis(idle));
                times.absolute_deadline = Millis::NEVER;
            });
            record.touch_at(Millis(at));
            let expected = at.saturating_add(idle.saturating_sub(used)).max(idle);
            let times = record.times();
            assert_eq!((times.last_active.0, times.idle_deadline.0), (used.max(at), expected));
        }
    }
}

#[test]
fn labels_come_back_and_are_bounded() {
    let label = |n: usize| Label::new(format!("label-{n}")).unwrap();
    let mut record = sample();
    record.edit(|meta| meta.labels = (0..Label::MAX_COUNT).map(label).collect());
    let read = Record::from_bytes(record.as_bytes()).unwrap();
    assert_eq!(read.labels(), (0..Label::MAX_COUNT).map(label).collect::<Vec<_>>());
    assert_eq!(read.meta().labels(), read.labels());
    assert_eq!(read.index_entries().count(), 1 + Label::MAX_COUNT);
    record.edit(|meta| meta.labels.push(label(9)));
    assert_eq!(Record::from_bytes(record.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
    record.edit(|meta| *meta = sample().meta());
    assert_eq!(record, sample(), "a rewrite carries no label along");
}

#[test]
fn every_truncation_and_every_appended_byte_is_an_error() {
    let bytes = sample().as_bytes().to_vec();
    for len in 0..bytes.len() {
        assert_eq!(Record::from_bytes(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert_eq!(Record::from_bytes(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_unknown_field_is_passed_over_only_where_its_tag_allows() {
    let with_field = |tag| {
        let mut bytes = sample().as_bytes().to_vec();
        let end = bytes.len() - 4;
        bytes.splice(end..end, [tag, 0, 2, 9, 9]);
        let fields = be_u32(&bytes[64..]) as u32 + 5;
        bytes[64..68].copy_from_slice(&fields.to_be_bytes());
        Record::from_bytes(&bytes)
    };
    let read = with_field(200).unwrap();
    assert_eq!((read.meta(), read.data()), (sample().meta(), sample().data()));
    read.check_readable().unwrap();
    assert!(read.is_plain());
    let newer = with_field(100).unwrap();
    let refused = newer.check_readable().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    assert!(refused.to_string().contains("field 100") && !newer.is_plain());
}

#[test]
fn a_newer_format_tells_its_deadlines_user_and_kind() {
    let (ours, newer) = (sample(), sample().of_newer_release());
    assert_eq!(Record::from_bytes(newer.as_bytes()).unwrap(), newer);
    assert_eq!((newer.times(), newer.principal()), (ours.times(), ours.principal()));
    assert!(!newer.is_tombstone() && !newer.is_plain());
    let refused = newer.check_readable().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    assert!(refused.to_string().contains("format 255 where this one reads 1"), "{refused}");
    let mut touched = newer.clone();
    touched.touch(Millis(2_500).into());
    assert_eq!(touched.times().last_active, Millis(2_500));
    assert_eq!((touched.header().form(), touched.data()), (newer.header().form(), newer.data()));
}

#[test]
fn a_rewrite_keeps_the_form_and_the_fields_of_a_newer_release() {
    let newer = sample().of_newer_release();
    let mut edited = newer.clone();
    edited.edit(|meta| meta.times.version += 1);
    assert_eq!(
        (edited.header().form(), edited.data(), edited.fields().find(100)),
        (newer.header().form(), newer.data(), newer.fields().find(100))
    );
}

#[test]
fn a_newer_session_is_ended_by_a_tombstone_of_this_release() {
    let ended = sample().of_newer_release().tombstone(&Mark::Ended, Millis(5), Millis(10));
    assert_eq!((ended.mark(), ended.version()), (Some(Mark::Ended), 8));
    ended.check_readable().unwrap();
}

#[test]
fn a_codec_that_is_not_built_in_is_no_corruption() {
    let mut bytes = sample().as_bytes().to_vec();
    bytes[AT_CODEC] = 9;
    let record = Record::from_bytes(&bytes).unwrap();
    let refused = record.check_readable().unwrap_err();
    assert_eq!((refused.kind(), record.is_plain()), (ErrorKind::Incompatible, false));
    assert!(refused.to_string().contains("codec 9"), "{refused}");
    bytes[AT_FORMAT] = 0;
    assert_eq!(Record::from_bytes(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn lengths_that_do_not_add_up_allocate_nothing() {
    let mut bytes = sample().as_bytes().to_vec();
    bytes[68..72].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(Record::from_bytes(&bytes).unwrap_err().to_string().contains("4294967295 of data"));
}
