//! The columns of a record's row.

use std::time::SystemTime;

use crate::clock::Millis;
use crate::error::Result;
use crate::record::Record;

/// The columns written for a record: its bytes, and the fields that statements compare.
///
/// A touch writes only `touched`, the time of the last use, and `expires`, the new deadline. It does not write the record, which may be
/// large. [`StoredRow::record`] applies the touch to the record.
pub(super) struct Columns<'a> {
    pub(super) version: u64,
    /// The deadline, in milliseconds since 1970 like every time here. From then on the row does not exist for any statement.
    pub(super) expires: u64,
    /// The absolute deadline. No touch moves `expires` past it.
    pub(super) absolute: u64,
    /// The idle time in milliseconds. A touch moves `expires` to this long after the use.
    pub(super) idle: u64,
    pub(super) tombstone: bool,
    pub(super) record: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let times = record.times();
        Columns {
            version: times.version,
            expires: times.deadline().0,
            absolute: times.absolute_deadline.0,
            idle: times.idle_deadline.0.saturating_sub(times.last_active.0),
            tombstone: record.is_tombstone(),
            record: record.as_bytes(),
        }
    }
}

/// The time that an unreadable record is kept: a week, in milliseconds.
pub(super) const KEEP_UNREADABLE: u32 = 7 * 24 * 3_600 * 1_000;

/// A row as it is stored. [`record`](Self::record) decodes it.
pub(super) struct StoredRow {
    pub(super) bytes: Vec<u8>,
    pub(super) touched: Option<u64>,
}

impl StoredRow {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decodes the record and applies the last touch.
    pub(super) fn record(&self) -> Result<Record> {
        let mut record = Record::from_bytes(&self.bytes)?;
        if let Some(touched) = self.touched {
            record.touch_at(Millis(touched));
        }
        Ok(record)
    }
}

/// Converts a time to milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    Millis::from(time).0
}
