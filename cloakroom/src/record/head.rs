//! The head of a record: header and fields, without the data.

use super::fields::MAX_LEN;
use super::header::{self, Header, HeaderMut};
use super::{Meta, Record, Sealing};
use crate::clock::Millis;
use crate::error::Result;

/// The bytes of sealed data that name its key.
const KEY_ID: usize = 8;

/// A record's header and fields, read without the data: for lists in stores that can hand out the beginning of a value.
pub(crate) struct Head {
    /// The record without its data. It always counts as sealed, so that no caller parses the missing data.
    record: Record,
    sealed: bool,
}

impl Head {
    /// The maximum length of a head, including the id of the key that sealed the data.
    pub(crate) const MOST: usize = header::LEN + MAX_LEN + KEY_ID;

    /// Reads the head of a record. `beginning` is the whole record, or at least its first [`MOST`](Self::MOST) bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if that is no head of a record.
    pub(crate) fn read(beginning: &[u8]) -> Result<Head> {
        let header = Header::read(beginning);
        let sealed = header.is_some_and(Header::is_sealed);
        let data = header::LEN.saturating_add(header.map_or(0, Header::fields_len));
        let end = if sealed { data.saturating_add(KEY_ID) } else { data };
        let mut head = beginning[..end.min(beginning.len())].to_vec();
        let kept = head.len().saturating_sub(data);
        let mut header = HeaderMut(&mut head);
        header.set_data_len(kept);
        header.set_sealed(true);
        Ok(Head { record: Record::from_bytes(&head)?, sealed })
    }

    /// Applies a use at `at`, which a store may keep beside the record.
    pub(crate) fn touch_at(&mut self, at: Millis) {
        self.record.touch_at(at);
    }

    pub(crate) fn meta(&self) -> Meta {
        let meta = self.record.meta();
        let sealing = if self.sealed { meta.sealing } else { Sealing::Open };
        Meta { sealing, ..meta }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::error::ErrorKind;
    use crate::principal::Principal;
    use crate::record::Times;

    fn sample(data: usize) -> Record {
        let at = Millis(1_000);
        let times = Times {
            version: 7,
            created: at,
            issued: at,
            last_active: at,
            idle_deadline: Millis(3_000),
            absolute_deadline: Millis(5_000),
            authenticated: Some(at),
        };
        let meta = Meta::new(times, Some(Principal::new("alice").unwrap()));
        Record::new(&meta, Codec::MESSAGE_PACK, &vec![0xff; data])
    }

    #[test]
    fn a_head_tells_what_the_whole_record_tells() {
        for data in [0, 1, 10_000] {
            let record = sample(data);
            let bytes = record.as_bytes();
            let mut head = Head::read(&bytes[..bytes.len().min(Head::MOST)]).unwrap();
            assert_eq!(head.meta(), record.meta());
            assert!(matches!(head.meta().sealing, Sealing::Open));
            for (at, deadline) in [(2_000, 4_000), (4_000, 5_000)] {
                head.touch_at(Millis(at));
                let times = head.meta().times;
                assert_eq!((times.last_active, times.deadline()), (Millis(at), Millis(deadline)));
            }
        }
    }

    #[test]
    fn a_sealed_head_names_its_key() {
        for data in [KEY_ID, 10_000] {
            let mut bytes = sample(data).as_bytes().to_vec();
            HeaderMut(&mut bytes).set_sealed(true);
            let whole = Record::from_bytes(&bytes).unwrap().meta();
            let head = Head::read(&bytes[..bytes.len().min(Head::MOST)]).unwrap().meta();
            assert_eq!(head, whole);
            assert!(matches!(head.sealing, Sealing::By(key) if key == [0xff; KEY_ID]));
            assert!(matches!(whole.sealing, Sealing::By(key) if key == [0xff; KEY_ID]));
        }
    }

    #[test]
    fn what_is_no_head_is_an_error() {
        let record = sample(0);
        let bytes = record.as_bytes();
        let mut longer = bytes.to_vec();
        longer[64..68].fill(0xff);
        for wrong in
            [&b""[..], b"CLKR", &bytes[..header::LEN], &bytes[..bytes.len() - 1], &b"x".repeat(100), &longer]
        {
            assert_eq!(Head::read(wrong).err().map(|error| error.kind()), Some(ErrorKind::Corrupt));
        }
    }
}
