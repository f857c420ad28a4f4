//! The native record format, version 1, as `docs/format.md` gives it byte by byte.

use std::sync::Arc;

use super::{Meta, Record, Successor};
use crate::clock::Millis;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::Principal;

const MAGIC: &[u8; 4] = b"CLKR";
const VERSION: u8 = 1;
/// Bytes before the fields.
const HEADER: usize = 72;
/// More than any record's fields take; a length past it is corruption, seen before anything is allocated.
const MAX_FIELDS: usize = 4096;

/// Fields of a tag below this must be understood by every reader; those from it on may be passed over.
const OPTIONAL_TAGS: u8 = 128;
const TAG_PRINCIPAL: u8 = 1;
const TAG_SUCCESSOR: u8 = 2;
const TAG_GRACE_END: u8 = 3;

impl Record {
    /// The record in the native format, version 1.
    ///
    /// ```
    /// # use cloakroom::{Clock, Record};
    /// # fn show(record: &Record) -> cloakroom::Result<()> {
    /// let bytes = record.to_bytes();
    /// assert_eq!(&Record::from_bytes(&bytes)?, record);
    /// # Ok(()) }
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 64 + self.data.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, self.codec.tag(), 0, 0]);
        let meta = &self.meta;
        let authenticated = meta.authenticated.unwrap_or(Millis(0));
        for number in [
            meta.version,
            meta.created.0,
            meta.issued.0,
            meta.last_active.0,
            meta.idle_deadline.0,
            meta.absolute_deadline.0,
            authenticated.0,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        if let Some(principal) = &meta.principal {
            field(&mut bytes, TAG_PRINCIPAL, principal.as_str().as_bytes());
        }
        if let Some(successor) = &self.successor {
            field(&mut bytes, TAG_SUCCESSOR, successor.key.as_bytes());
            field(&mut bytes, TAG_GRACE_END, &successor.until.0.to_be_bytes());
        }
        let fields = (bytes.len() - HEADER) as u32;
        bytes[64..68].copy_from_slice(&fields.to_be_bytes());
        // A record's data is bounded far below 4 GiB by the limits of whoever built it.
        bytes[68..72].copy_from_slice(&(self.data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// Reads a record in the native format. Whatever else the bytes are, the answer is an error of kind
    /// [`Corrupt`](ErrorKind::Corrupt), and memory stays in proportion to their length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record> {
        let record = parse(bytes).map_err(|error| Error::new(ErrorKind::Corrupt, error))?;
        record.codec.check(&record.data)?;
        Ok(record)
    }
}

fn field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    // Every field is bounded by its own type, at 256 bytes or less.
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn parse(bytes: &[u8]) -> Result<Record, FormatError> {
    let header = bytes.get(..HEADER).ok_or(FormatError::Short { found: bytes.len() })?;
    if &header[..4] != MAGIC {
        return Err(FormatError::Magic);
    }
    if header[4] != VERSION {
        return Err(FormatError::Version { found: header[4] });
    }
    let codec = Codec::from_tag(header[5]).ok_or(FormatError::Codec { found: header[5] })?;
    if header[6..8] != [0, 0] {
        return Err(FormatError::Reserved);
    }
    let number = |place: usize| be_u64(&header[8 + 8 * place..]);
    let fields_len = be_u32(&header[64..]);
    let data_len = be_u32(&header[68..]);
    if fields_len > MAX_FIELDS || HEADER + fields_len + data_len != bytes.len() {
        return Err(FormatError::Length { found: bytes.len(), fields: fields_len, data: data_len });
    }
    let (fields, data) = bytes[HEADER..].split_at(fields_len);
    let fields = Fields::parse(fields)?;
    let authenticated = Some(Millis(number(6))).filter(|at| at.0 != 0);
    let meta = Meta {
        version: number(0),
        created: Millis(number(1)),
        issued: Millis(number(2)),
        last_active: Millis(number(3)),
        idle_deadline: Millis(number(4)),
        absolute_deadline: Millis(number(5)),
        authenticated,
        principal: fields.principal,
    };
    let successor = match (fields.successor, fields.grace_end) {
        (Some(key), Some(until)) => Some(Box::new(Successor { key, until })),
        (None, None) => None,
        _ => return Err(FormatError::Field { tag: TAG_SUCCESSOR }),
    };
    Ok(Record { meta, codec, data: Arc::from(data), successor })
}

#[derive(Default)]
struct Fields {
    principal: Option<Principal>,
    successor: Option<StoreKey>,
    grace_end: Option<Millis>,
}

impl Fields {
    fn parse(mut rest: &[u8]) -> Result<Fields, FormatError> {
        let mut fields = Fields::default();
        while let [tag, high, low, tail @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let bad = || FormatError::Field { tag: *tag };
            let value = tail.get(..len).ok_or_else(bad)?;
            let text = || std::str::from_utf8(value).map_err(|_| bad());
            match *tag {
                TAG_PRINCIPAL => fields.principal = Some(Principal::new(text()?).map_err(|_| bad())?),
                TAG_SUCCESSOR => fields.successor = Some(text()?.parse().map_err(|_| bad())?),
                TAG_GRACE_END if len == 8 => fields.grace_end = Some(Millis(be_u64(value))),
                OPTIONAL_TAGS.. => {}
                _ => return Err(bad()),
            }
            rest = &tail[len..];
        }
        match rest {
            [] => Ok(fields),
            _ => Err(FormatError::Field { tag: rest[0] }),
        }
    }
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

fn be_u32(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk) as usize)
}

#[derive(Debug, thiserror::Error)]
enum FormatError {
    #[error("expected a record of at least {HEADER} bytes, found {found}")]
    Short { found: usize },
    #[error("expected a record that begins with CLKR; these bytes are something else")]
    Magic,
    #[error("expected record format {VERSION}, found {found}; a newer cloakroom wrote it")]
    Version { found: u8 },
    #[error("expected a codec of 1 (MessagePack) or 2 (JSON), found {found}")]
    Codec { found: u8 },
    #[error("expected two zero bytes at offset 6")]
    Reserved,
    #[error("the record says {fields} bytes of fields and {data} of data, which are not the {found} found")]
    Length { found: usize, fields: usize, data: usize },
    #[error("field {tag} is unknown or malformed")]
    Field { tag: u8 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            meta: Meta {
                version: 7,
                created: Millis(1_000),
                issued: Millis(1_500),
                last_active: Millis(2_000),
                idle_deadline: Millis(3_000),
                absolute_deadline: Millis::NEVER,
                authenticated: Some(Millis(1_500)),
                principal: Some(Principal::new("alice").unwrap()),
            },
            codec: Codec::MESSAGE_PACK,
            data: Arc::from(&b"\x81\xa1n\x01"[..]),
            successor: None,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let live = sample();
        assert_eq!(Record::from_bytes(&live.to_bytes()).unwrap(), live);
        let successor = Successor { key: "abcdef".parse().unwrap(), until: Millis(9) };
        let tombstone = Record::tombstone(&live.meta, successor, Millis(10), live.codec);
        assert_eq!(Record::from_bytes(&tombstone.to_bytes()).unwrap(), tombstone);
        assert!(tombstone.is_tombstone() && !live.is_tombstone());
    }

    #[test]
    fn every_truncation_and_every_appended_byte_is_an_error() {
        let bytes = sample().to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert_eq!(Record::from_bytes(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_unknown_field_is_passed_over_only_where_its_tag_allows() {
        let with_field = |tag| {
            let mut bytes = sample().to_bytes();
            let end = bytes.len() - 4;
            bytes.splice(end..end, [tag, 0, 2, 9, 9]);
            let fields = be_u32(&bytes[64..]) as u32 + 5;
            bytes[64..68].copy_from_slice(&fields.to_be_bytes());
            Record::from_bytes(&bytes)
        };
        assert_eq!(with_field(200).unwrap(), sample());
        assert!(with_field(100).unwrap_err().to_string().contains("field 100"));
    }

    #[test]
    fn lengths_that_do_not_add_up_allocate_nothing() {
        let mut bytes = sample().to_bytes();
        bytes[68..72].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Record::from_bytes(&bytes).unwrap_err().to_string().contains("4294967295 of data"));
    }
}
