//! Times as text: exact for programs, relative for people.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Formats a time in RFC 3339 and UTC, as in `2026-01-31T14:03:22.5Z`. `None` if the time is too far off to have a
/// date.
pub(crate) fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}

/// A time, formatted for the page.
pub(crate) struct Moment {
    /// The time in RFC 3339, for the attribute `datetime`.
    pub(crate) exact: String,
    /// The date, as in `31 Jan 2026, 14:03:22 UTC`.
    pub(crate) date: String,
    /// The distance from now, as in `3 minutes ago` or `in 29 minutes`.
    pub(crate) relative: String,
}

impl Moment {
    /// Formats `time` as seen at `now`.
    pub(crate) fn new(time: SystemTime, now: SystemTime) -> Self {
        let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
        Moment {
            exact: stamp.to_string(),
            date: stamp.strftime("%-d %b %Y, %H:%M:%S UTC").to_string(),
            relative: relative(time, now),
        }
    }
}

fn relative(time: SystemTime, now: SystemTime) -> String {
    match time.duration_since(now) {
        Ok(ahead) => roughly(ahead).map_or("now".to_owned(), |span| format!("in {span}")),
        Err(past) => roughly(past.duration()).map_or("just now".to_owned(), |span| format!("{span} ago")),
    }
}

/// Rounds the span to its largest unit. `None` if it is under half a second.
pub(crate) fn roughly(span: Duration) -> Option<String> {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = (span.as_millis() as u64 + 500) / 1000;
    let (unit, name) = match seconds {
        0 => return None,
        1..=89 => (1, "second"),
        90..=5_399 => (MINUTE, "minute"),
        5_400..=129_599 => (HOUR, "hour"),
        _ => (DAY, "day"),
    };
    let count = (seconds + unit / 2) / unit;
    Some(format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_rfc_3339_and_in_words() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_868_202_500);
        assert_eq!(rfc3339(time).unwrap(), "2026-01-31T14:03:22.5Z");
        let moment = Moment::new(time, time - Duration::from_secs(29 * 60));
        assert_eq!(moment.date, "31 Jan 2026, 14:03:22 UTC");
        assert_eq!(moment.relative, "in 29 minutes");
    }

    #[test]
    fn spans_are_shown_in_their_largest_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        let ago = |seconds| relative(now - Duration::from_secs(seconds), now);
        assert_eq!(relative(now - Duration::from_millis(400), now), "just now");
        assert_eq!(ago(1), "1 second ago");
        assert_eq!(ago(89), "89 seconds ago");
        assert_eq!(ago(90), "2 minutes ago");
        assert_eq!(ago(8 * 3600), "8 hours ago");
        assert_eq!(ago(2 * 86_400), "2 days ago");
        assert_eq!(relative(now, now), "now");
    }
}
