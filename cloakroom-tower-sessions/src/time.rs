//! Times of tower-sessions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Converts a time. One before 1970 becomes 1970.
pub(crate) fn from_offset(time: OffsetDateTime) -> SystemTime {
    let since = u64::try_from(time.unix_timestamp()).map(|seconds| Duration::new(seconds, time.nanosecond()));
    UNIX_EPOCH.checked_add(since.unwrap_or_default()).unwrap_or(UNIX_EPOCH)
}

/// Converts a time. One past the range becomes 1970, which is over.
pub(crate) fn to_offset(time: SystemTime) -> OffsetDateTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = i128::try_from(since.as_nanos()).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use time::{Date, Month, PrimitiveDateTime, UtcOffset};

    use super::*;

    #[test]
    fn times_come_back_in_utc() {
        let odd = Duration::new(1_764_592_496, 789_000_000);
        assert_eq!(from_offset(to_offset(UNIX_EPOCH + odd)), UNIX_EPOCH + odd);
        let east = to_offset(UNIX_EPOCH + odd).to_offset(UtcOffset::from_hms(5, 30, 0).unwrap());
        assert_eq!(from_offset(east), UNIX_EPOCH + odd);
    }

    #[test]
    fn times_past_a_range_become_1970_or_stay() {
        let (first, last) = (PrimitiveDateTime::MIN.assume_utc(), PrimitiveDateTime::MAX.assume_utc());
        assert_eq!(from_offset(first), UNIX_EPOCH);
        assert_eq!(to_offset(from_offset(last)), last);
        let before = Date::from_calendar_date(1969, Month::December, 31).unwrap().midnight().assume_utc();
        assert_eq!(from_offset(before), UNIX_EPOCH);
    }
}
