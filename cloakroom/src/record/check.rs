//! The checks of a record: are these bytes a record, and can this build read its data.

use super::fields::{Fields, MAX_LEN, MalformedField};
use super::header::{self, Header};
use crate::codec::Codec;

/// The codecs that the feature `beego` reads.
const GOB: u8 = 3;
const SCS: u8 = 4;

/// Answers whether `bytes` is a record, but for its data. Of a newer format it checks what every format has in common.
pub(super) fn check(bytes: &[u8]) -> Result<(), FormatError> {
    let header = Header::read(bytes).ok_or(FormatError::Short { found: bytes.len() })?;
    if !header.is_of_record() {
        return Err(FormatError::Magic);
    }
    if !header.is_newer() && header.has_reserved() {
        return Err(FormatError::Reserved);
    }
    let (fields, data) = (header.fields_len(), header.data_len());
    if fields > MAX_LEN || header::LEN + fields + data != bytes.len() {
        return Err(FormatError::Length { found: bytes.len(), fields, data });
    }
    Ok(Fields(&bytes[header::LEN..header::LEN + fields]).check(header.is_newer())?)
}

/// Returns the reason why this build cannot read the data of a record; `None` if it can.
pub(super) fn incompatibility(header: Header<'_>, fields: Fields<'_>) -> Option<Incompatibility> {
    if header.is_newer() {
        return Some(Incompatibility::Format { found: header.format() });
    }
    let codec = header.codec_tag();
    if Codec::from_tag(codec).is_none() {
        return Some(match codec {
            GOB | SCS => Incompatibility::Feature,
            found => Incompatibility::Codec { found },
        });
    }
    fields.newer_tag().map(|tag| Incompatibility::Field { tag })
}

/// The reason why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error("expected a record of at least {} bytes, found {found}", header::LEN)]
    Short { found: usize },
    #[error("expected a record that begins with CLKR; these bytes are something else")]
    Magic,
    #[error("expected two zero bytes at offset 6")]
    Reserved,
    #[error("the record says {fields} bytes of fields and {data} of data, which are not the {found} found")]
    Length { found: usize, fields: usize, data: usize },
    #[error(transparent)]
    Field(#[from] MalformedField),
}

/// The reason why this build cannot read a record that is not corrupt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Incompatibility {
    #[error(
        "a newer release wrote this session, in format {found} where this one reads {ours}; it is left as it is: \
         finish the upgrade, or let the session end", ours = header::VERSION
    )]
    Format { found: u8 },
    #[error(
        "a newer release wrote this session, with codec {found}; it is left as it is: finish the upgrade, or let the session end"
    )]
    Codec { found: u8 },
    #[error(
        "this session's codec is gob, which is not built in; it is left as it is: build with the feature `beego`"
    )]
    Feature,
    #[error(
        "a newer release wrote this session, with field {tag}, which this one does not know; it is left as it is: \
         finish the upgrade, or let the session end"
    )]
    Field { tag: u8 },
}

/// The reason why [`Record::decode`] has no values to return.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoValues {
    #[error(
        "expected a record with readable data, found sealed data; wrap the provider in `SealedProvider` with its keys"
    )]
    Sealed,
    #[error("expected a session, found a tombstone; check `is_tombstone` first")]
    Tombstone,
    #[error("expected data in MessagePack or JSON, found Go's gob, whose values are read one by one")]
    Go,
}
