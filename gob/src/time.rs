//! Go's `time.Time`, and the Rust type for it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::temporal::{DateTimeParser, DateTimePrinter};
use jiff::tz::Offset;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::{Error, Reason};

/// Seconds from the year 1, where Go begins to count, to 1970: `unixToInternal` in Go's package `time`.
const TO_UNIX: i64 = 62_135_596_800;
/// The offset that means UTC in the encoding.
const UTC: i16 = -1;

/// A point in time that Go reads as a `time.Time`.
///
/// It has nanoseconds and an offset from UTC. With serde it is RFC 3339 text, and in a gob it is a `time.Time`. Where a
/// gob holds a `time.Time` already, plain RFC 3339 text replaces it as well; a new value becomes a `time.Time` only from
/// this type. Two times are equal if they are the same instant, whatever their offsets.
///
/// ```
/// use cloakroom_gob::GoTime;
/// use std::time::{Duration, SystemTime};
///
/// let time = GoTime::from(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
/// assert_eq!(time.to_string(), "1970-01-02T00:00:00Z");
/// assert_eq!(serde_json::from_str::<GoTime>("\"1970-01-02T01:00:00+01:00\"")?, time);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GoTime {
    time: Timestamp,
    /// The offset; `None` for UTC.
    offset: Option<Offset>,
}

impl GoTime {
    /// The serde name that tells this type from plain text.
    pub(crate) const NAME: &'static str = "cloakroom_gob::GoTime";

    /// Decodes the bytes of `time.Time.MarshalBinary`; `None` for other bytes, and for a year outside of 0 to 9999.
    pub fn from_payload(payload: &[u8]) -> Option<GoTime> {
        let (fixed, seconds) = match payload {
            [1, fixed @ ..] => (fixed, 0),
            [2, fixed @ .., seconds] => (fixed, i32::from(*seconds as i8)),
            _ => return None,
        };
        let fixed: &[u8; 14] = fixed.try_into().ok()?;
        let (second, rest) = fixed.split_first_chunk::<8>()?;
        let (nano, minutes) = rest.split_first_chunk::<4>()?;
        let second = i64::from_be_bytes(*second).checked_sub(TO_UNIX)?;
        let nano = i32::from_be_bytes(*nano);
        let minutes = i16::from_be_bytes(minutes.try_into().ok()?);
        let offset = match minutes {
            UTC if seconds == 0 => None,
            minutes => Some(Offset::from_seconds(i32::from(minutes) * 60 + seconds).ok()?),
        };
        let time = Timestamp::new(second, nano).ok().filter(|_| nano >= 0)?;
        Some(GoTime { time, offset }).filter(GoTime::has_text)
    }

    /// Returns the bytes of `time.Time.MarshalBinary`: version 1, or version 2 if the offset has seconds.
    pub fn to_payload(self) -> Vec<u8> {
        let (second, nano) = (self.time.as_second(), self.time.subsec_nanosecond());
        // Go's nanoseconds are never negative.
        let (second, nano) = if nano < 0 { (second - 1, nano + 1_000_000_000) } else { (second, nano) };
        let offset = self.offset.map(Offset::seconds);
        let minutes = offset.map_or(UTC, |seconds| (seconds / 60) as i16);
        let rest = offset.map_or(0, |seconds| seconds % 60) as i8;
        let mut payload = vec![if rest == 0 { 1 } else { 2 }];
        payload.extend_from_slice(&(second + TO_UNIX).to_be_bytes());
        payload.extend_from_slice(&nano.to_be_bytes());
        payload.extend_from_slice(&minutes.to_be_bytes());
        if rest != 0 {
            payload.push(rest as u8);
        }
        payload
    }

    /// Parses RFC 3339 text.
    pub(crate) fn parse(text: &str) -> Option<GoTime> {
        // The parser accepts more forms, such as a date alone, which is not a point in time.
        if text.as_bytes().get(10).is_none_or(|byte| !matches!(byte, b'T' | b't' | b' '))
            || text.contains('[')
        {
            return None;
        }
        let pieces = DateTimeParser::new().parse_pieces(text).ok()?;
        let offset = pieces.to_numeric_offset()?;
        let time = offset.to_timestamp(pieces.date().to_datetime(pieces.time()?)).ok()?;
        let is_utc = text.ends_with(['Z', 'z']);
        Some(GoTime { time, offset: (!is_utc).then_some(offset) }).filter(GoTime::has_text)
    }

    /// Returns true if RFC 3339 can express it: the year has four digits.
    fn has_text(&self) -> bool {
        let offset = self.offset.unwrap_or(Offset::UTC);
        (0..=9999).contains(&offset.to_datetime(self.time).year())
    }
}

impl FromStr for GoTime {
    type Err = Error;

    /// Parses RFC 3339 text, such as `2026-11-23T14:00:00+08:00`.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(GoTime::parse(text).ok_or(Reason::Value)?)
    }
}

impl From<SystemTime> for GoTime {
    /// Converts to UTC, to the nanosecond. A year outside of 0 to 9999 becomes the nearest time within.
    fn from(time: SystemTime) -> Self {
        let found = Timestamp::try_from(time).map(|time| GoTime { time, offset: None });
        found.ok().filter(GoTime::has_text).unwrap_or_else(|| {
            let seconds = if time < UNIX_EPOCH { -62_167_219_200 } else { 253_402_207_200 };
            GoTime { time: Timestamp::constant(seconds, 0), offset: None }
        })
    }
}

impl From<GoTime> for SystemTime {
    fn from(time: GoTime) -> Self {
        let (second, nano) = (time.time.as_second(), time.time.subsec_nanosecond());
        let span = Duration::new(second.unsigned_abs(), nano.unsigned_abs());
        if second < 0 || nano < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
    }
}

impl PartialEq for GoTime {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time
    }
}

impl Eq for GoTime {}

impl fmt::Display for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset.filter(|offset| offset.seconds() % 60 == 0) {
            Some(offset) => {
                f.write_str(&DateTimePrinter::new().timestamp_with_offset_to_string(&self.time, offset))
            }
            // RFC 3339 has no seconds in an offset, so such a time is shown in UTC.
            None => write!(f, "{}", self.time),
        }
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(GoTime::NAME, &self.to_string())
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = GoTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoTime, E> {
                GoTime::parse(text).ok_or_else(|| E::custom("expected an RFC 3339 time"))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<GoTime, D::Error> {
                let text = String::deserialize(inner)?;
                GoTime::parse(&text).ok_or_else(|| D::Error::custom("expected an RFC 3339 time"))
            }
        }

        deserializer.deserialize_newtype_struct(GoTime::NAME, Text)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn a_time_has_the_bytes_that_go_gives_it() {
        // From time.Time's MarshalBinary: Go's zero time, nanoseconds in UTC, and an offset of hours.
        for (text, bytes) in [
            ("0001-01-01T00:00:00Z", "01 00000000 00000000 00000000 ffff"),
            ("2014-08-21T13:05:07.123456789Z", "01 0000000e cb87e583 075bcd15 ffff"),
            ("2026-02-28T23:59:59+08:00", "01 0000000e e13507ff 00000000 01e0"),
        ] {
            let bytes = HEXLOWER.decode(bytes.replace(' ', "").as_bytes()).unwrap();
            let time = GoTime::from_payload(&bytes).unwrap();
            assert_eq!((time.to_string().as_str(), time.to_payload()), (text, bytes.clone()));
            assert_eq!(GoTime::parse(text).unwrap().to_payload(), bytes);
        }
        // 1890-01-01T00:00:00+00:19:32, an offset that RFC 3339 cannot express.
        let bytes = HEXLOWER.decode(b"020000000de118cdec00000000001320").unwrap();
        let time = GoTime::from_payload(&bytes).unwrap();
        assert_eq!((time.to_string().as_str(), time.to_payload()), ("1889-12-31T23:40:28Z", bytes));
    }

    #[test]
    fn other_texts_and_bytes_are_not_a_time() {
        for text in [
            "",
            "2026",
            "2026-11-23",
            "2026-11-23T01:02:03",
            "2026-11-23T01:02:03Z[UTC]",
            "-000001-01-01T00:00:00Z",
        ] {
            assert!(GoTime::parse(text).is_none(), "{text}");
        }
        for payload in [&b""[..], b"\x03", &[1; 14], &[1; 16], &[2; 15], &[0xff; 15]] {
            assert!(GoTime::from_payload(payload).is_none(), "{payload:?}");
        }
    }

    #[test]
    fn a_system_time_round_trips_to_the_nanosecond() {
        for span in [Duration::new(0, 1), Duration::new(1_700_000_000, 999_999_999)] {
            for time in [UNIX_EPOCH + span, UNIX_EPOCH - span] {
                let go = GoTime::from(time);
                assert_eq!(SystemTime::from(go), time);
                assert_eq!(GoTime::from_payload(&go.to_payload()), Some(go));
            }
        }
    }
}
