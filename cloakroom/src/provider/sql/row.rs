//! A record as the columns of a row.

use std::time::SystemTime;

use crate::clock::Millis;
use crate::error::Result;
use crate::record::Record;

/// What is written of a record: the record itself, and beside it what the database has to look at.
///
/// A touch writes two columns and leaves the record as it is, which may be large: `touched` is when it was used
/// since, `expires` then its idle deadline. [`restored`] puts them back in.
pub(super) struct Columns<'a> {
    pub(super) version: u64,
    /// Milliseconds since 1970, as all times. From then on the row is not there.
    pub(super) expires: u64,
    /// The absolute deadline, past which no touch moves `expires`.
    pub(super) absolute: u64,
    pub(super) tombstone: bool,
    pub(super) principal: Option<&'a [u8]>,
    pub(super) record: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let times = record.times();
        Columns {
            version: times.version,
            expires: times.deadline().0,
            absolute: times.absolute_deadline.0,
            tombstone: record.is_tombstone(),
            principal: record.user(),
            record: record.as_bytes(),
        }
    }
}

/// The record of a row, with the last touch in it.
pub(super) fn restored(bytes: &[u8], touched: Option<u64>, expires: u64) -> Result<Record> {
    let mut record = Record::from_bytes(bytes)?;
    if let Some(touched) = touched {
        record.touch_at(Millis(touched), Millis(expires));
    }
    Ok(record)
}

/// A time as it is stored.
pub(super) fn millis(time: SystemTime) -> u64 {
    Millis::from(time).0
}
