//! Sample records, made without a manager.

use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Millis};
use crate::codec::{Buffer, Codec, Limits};
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::record::{Label, Mark, Meta, Record, Times};

/// The defaults of [`ManagerBuilder`](crate::ManagerBuilder): 30 minutes idle, 8 hours absolute.
const IDLE: Duration = Duration::from_secs(30 * 60);
const ABSOLUTE: Duration = Duration::from_secs(8 * 60 * 60);

/// Begins a record that is created now: anonymous, empty, at version 1. It expires after 30 idle minutes, or after 8 hours.
///
/// ```
/// use cloakroom::{Clock, testkit};
///
/// let clock = Clock::system();
/// let record = testkit::record(&clock).principal("alice").value("n", 1).build();
/// assert_eq!(record.meta().version(), 1);
/// assert!(!record.is_expired(clock.now()));
/// ```
pub fn record(clock: &Clock) -> RecordBuilder {
    let now = clock.millis();
    RecordBuilder {
        now,
        meta: Meta::new(
            Times {
                version: 1,
                created: now,
                issued: now,
                last_active: now,
                idle_deadline: now.after(IDLE),
                absolute_deadline: now.after(ABSOLUTE),
                authenticated: None,
            },
            None,
        ),
        codec: Codec::default(),
        data: Vec::new(),
    }
}

/// Returns an empty record with this version. On a store that compares versions, it can stand for the record from which a change
/// was made, as the last argument of [`update`](crate::Provider::update).
///
/// ```
/// assert_eq!(cloakroom::testkit::base(7).version(), 7);
/// ```
pub fn base(version: u64) -> Record {
    record(&Clock::system()).version(version).build()
}

/// A builder of one [`Record`], from [`record()`].
///
/// Durations count from the call of [`record()`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct RecordBuilder {
    now: Millis,
    meta: Meta,
    codec: Codec,
    data: Vec<u8>,
}

impl RecordBuilder {
    /// Sets the version; 1 by default.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// assert_eq!(testkit::record(&Clock::system()).version(7).build().version(), 7);
    /// ```
    pub fn version(mut self, version: u64) -> Self {
        self.meta.times.version = version;
        self
    }

    /// Sets the user, with a login now.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).principal("alice").build();
    /// assert_eq!(record.principal().unwrap().as_str(), "alice");
    /// assert!(record.meta().authenticated().is_some());
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `name` is not a valid [`Principal`].
    pub fn principal(mut self, name: impl AsRef<str>) -> Self {
        self.meta.principal = Some(Principal::new(name).expect("a principal of 1 to 256 bytes"));
        self.meta.times.authenticated = Some(self.now);
        self
    }

    /// Adds a label.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).label("device-7").build();
    /// assert_eq!(record.labels()[0].as_str(), "device-7");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `text` is not a valid [`Label`], or if the record already has [`Label::MAX_COUNT`] labels.
    pub fn label(mut self, text: impl AsRef<str>) -> Self {
        assert!(
            self.meta.labels.len() < Label::MAX_COUNT,
            "a record has at most {} labels",
            Label::MAX_COUNT
        );
        self.meta.labels.push(Label::new(text).expect("a label of 1 to 256 bytes"));
        self
    }

    /// Sets the idle deadline.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let record = testkit::record(&Clock::system()).idle(Duration::ZERO).build();
    /// assert!(record.is_expired(Clock::system().now()));
    /// ```
    pub fn idle(mut self, after: Duration) -> Self {
        self.meta.times.idle_deadline = self.now.after(after);
        self
    }

    /// Sets the absolute deadline.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// # use std::time::Duration;
    /// let meta = testkit::record(&Clock::system()).absolute(Duration::from_secs(60)).build().meta();
    /// assert_eq!(meta.expires(), meta.created() + Duration::from_secs(60), "earlier than the idle deadline");
    /// ```
    pub fn absolute(mut self, after: Duration) -> Self {
        self.meta.times.absolute_deadline = self.now.after(after);
        self
    }

    /// Removes the absolute deadline.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).no_absolute().build();
    /// assert_eq!(record.meta().absolute_deadline(), None);
    /// ```
    pub fn no_absolute(mut self) -> Self {
        self.meta.times.absolute_deadline = Millis::NEVER;
        self
    }

    /// Removes both deadlines.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// # use std::time::Duration;
    /// let clock = Clock::system();
    /// let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    /// assert!(!testkit::record(&clock).endless().build().is_expired(clock.now() + century));
    /// ```
    pub fn endless(mut self) -> Self {
        self.meta.times.idle_deadline = Millis::NEVER;
        self.no_absolute()
    }

    /// Sets three different times in the past: created `age` ago, id issued half as long ago, last used a quarter as long ago.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::system();
    /// let record = testkit::record(&clock).aged(Duration::from_secs(400)).build();
    /// let unused = clock.now().duration_since(record.meta().last_active()).unwrap();
    /// assert!((100..110).contains(&unused.as_secs()));
    /// ```
    pub fn aged(mut self, age: Duration) -> Self {
        let ago = |part: u32| Millis(self.now.0.saturating_sub(Millis::count_in(age / part)));
        let times = &mut self.meta.times;
        (times.created, times.issued, times.last_active) = (ago(1), ago(2), ago(4));
        self
    }

    /// Sets the codec of the data, and empties the data.
    ///
    /// ```
    /// # use cloakroom::{Clock, config::Codec, testkit};
    /// let record = testkit::record(&Clock::system()).codec(Codec::JSON).value("n", 1).build();
    /// assert_eq!(record.data(), br#"{"n":1}"#);
    /// ```
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self.data = Vec::new();
        self
    }

    /// Sets one value, as [`Session::set`](crate::Session::set) does.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).value("cart", ["tea", "milk"]).build();
    /// assert!(!record.data().is_empty());
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the value cannot be encoded within the default limits.
    pub fn value(mut self, key: &str, value: impl Serialize) -> Self {
        let change = self.codec.encode(key, &value, &Limits::DEFAULT).expect("a value that the codec takes");
        let mut data = Buffer::new();
        let merged = self.codec.merge(&self.data, &[change], &Limits::DEFAULT, &mut data);
        merged.expect("a map within the limits");
        self.data = data.to_vec();
        self
    }

    /// Sets data of exactly `size` bytes in MessagePack: one key with one binary value. Large data holds every byte value.
    ///
    /// The smallest such data has 5 bytes, so sizes of 1 to 4 become 5. A size of 0 is empty data.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// for size in [0, 5, 260, 261, 65_536, 65_542, 1 << 20] {
    ///     assert_eq!(testkit::record(&Clock::system()).filled(size).build().data().len(), size);
    /// }
    /// ```
    pub fn filled(mut self, size: usize) -> Self {
        self.codec = Codec::MESSAGE_PACK;
        self.data = filling(size);
        self
    }

    /// Builds the record.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).principal("alice").value("n", 1).build();
    /// assert!(!record.is_tombstone() && !record.data().is_empty());
    /// ```
    pub fn build(self) -> Record {
        Record::new(&self.meta, self.codec, &self.data)
    }

    /// Builds the record as a later release might write it: in another format, with data and a field that this release does not
    /// know. This release can list, count and end such a session, but cannot read its data.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// let record = testkit::record(&Clock::system()).principal("alice").newer();
    /// assert_eq!(record.meta().principal().map(|user| user.as_str()), Some("alice"));
    /// ```
    pub fn newer(self) -> Record {
        self.build().of_newer_release()
    }

    /// Builds the tombstone that the record leaves when `successor` replaces its id. The old id works for `grace` more. The
    /// tombstone expires at the earlier of the record's deadlines.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let mark = testkit::record(&Clock::system()).tombstone(&"new-key".parse()?, Duration::from_secs(30));
    /// assert!(mark.is_tombstone());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn tombstone(self, successor: &StoreKey, grace: Duration) -> Record {
        let mark = Mark::Rotated { successor: successor.clone(), until: self.now.after(grace) };
        let (now, forgotten) = (self.now, self.meta.times.deadline());
        self.build().tombstone(&mark, now, forgotten)
    }

    /// Builds the tombstone that the record leaves when its session ends. It expires at the earlier of the record's deadlines.
    ///
    /// ```
    /// # use cloakroom::{Clock, testkit};
    /// assert!(testkit::record(&Clock::system()).ended().is_tombstone());
    /// ```
    pub fn ended(self) -> Record {
        let (now, forgotten) = (self.now, self.meta.times.deadline());
        self.build().tombstone(&Mark::Ended, now, forgotten)
    }
}

fn filling(size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    // fixmap of one, fixstr "d", then bin 8, bin 16 or bin 32 with its length.
    let mut bytes = vec![0x81, 0xa1, b'd'];
    match size.saturating_sub(5) {
        len @ 0..=255 => bytes.extend_from_slice(&[0xc4, len as u8]),
        _ if size <= 6 + 65_535 => {
            bytes.push(0xc5);
            bytes.extend_from_slice(&((size - 6) as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xc6);
            bytes.extend_from_slice(&((size - 8) as u32).to_be_bytes());
        }
    }
    // The period of 507 is odd, so neighbouring blocks of a power of two differ, and swapped blocks show.
    let pattern = (0..=255u8).chain((0..251).rev()).cycle();
    let rest = size.max(5) - bytes.len();
    bytes.extend(pattern.take(rest));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_the_builder_is_well_formed() {
        for size in (0..600).chain(65_530..65_550).chain([1 << 20]) {
            let record = record(&Clock::system()).filled(size).build();
            assert!(size < 5 || record.data().len() == size, "{size}");
            assert_eq!(Record::from_bytes(record.as_bytes()).unwrap(), record);
        }
    }
}
