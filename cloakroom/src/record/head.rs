//! The head of a record: header and fields, without the data.

use super::format::{AT_CODEC, AT_DATA_LEN, AT_FIELDS_LEN, HEADER, MAX_FIELDS, SEALED};
use super::{Meta, Record};
use crate::clock::Millis;
use crate::error::Result;

/// What stands beside a session's data, read without the data: for lists in stores that can hand out the beginning of a value.
pub(crate) struct Head(Record);

impl Head {
    /// The longest head.
    pub(crate) const MOST: usize = HEADER + MAX_FIELDS;

    /// Reads the head of the record that begins with `beginning`: the whole record, or its first [`MOST`](Self::MOST) bytes at least.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if that is no head of a record.
    pub(crate) fn read(beginning: &[u8]) -> Result<Head> {
        let fields = beginning.get(AT_FIELDS_LEN..AT_DATA_LEN).and_then(<[u8]>::first_chunk);
        let fields = fields.map_or(0, |chunk| u32::from_be_bytes(*chunk) as usize);
        let end = HEADER.saturating_add(fields).min(beginning.len());
        let mut head = beginning[..end].to_vec();
        if let Some(data) = head.get_mut(AT_DATA_LEN..HEADER) {
            data.fill(0);
        }
        // Sealed data is not looked at, and this has none.
        if let Some(codec) = head.get_mut(AT_CODEC) {
            *codec |= SEALED;
        }
        Record::from_bytes(&head).map(Head)
    }

    /// Notes a use that is stored beside the record.
    pub(crate) fn touch(&mut self, at: Millis, deadline: Millis) {
        self.0.touch_at(at, deadline);
    }

    pub(crate) fn meta(&self) -> Meta {
        self.0.meta()
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
            head.touch(Millis(2_000), Millis(9_000));
            assert_eq!(
                (head.meta().times.last_active, head.meta().times.deadline()),
                (Millis(2_000), Millis(5_000))
            );
        }
    }

    #[test]
    fn what_is_no_head_is_an_error() {
        let record = sample(0);
        let bytes = record.as_bytes();
        let longer = [&bytes[..AT_FIELDS_LEN], &[0xff; 4], &bytes[AT_DATA_LEN..]].concat();
        for wrong in
            [&b""[..], b"CLKR", &bytes[..HEADER], &bytes[..bytes.len() - 1], &b"x".repeat(100), &longer]
        {
            assert_eq!(Head::read(wrong).err().map(|error| error.kind()), Some(ErrorKind::Corrupt));
        }
    }
}
