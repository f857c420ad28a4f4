//! One stored session: its bytes, its metadata and its deadlines.
//!
//! A [`Record`] is the stored format itself, behind one reference count. Fixed numbers stand in its header, so a deadline or a
//! version is read without parsing. Optional parts are fields with a tag. The data is an encoded map at the end.
//!
//! | file | part |
//! |---|---|
//! | `header.rs` | the numbers at the beginning: times, form, lengths |
//! | `fields.rs` | the optional fields, and the tags that name them |
//! | `check.rs` | the checks: are bytes a record, and can this build read its data |
//! | `write.rs` | new records, changed records, tombstones and uses |
//! | `sealed.rs` | the record with encrypted data |
//! | `head.rs` | the record without its data, for lists |
//! | `meta.rs` | the metadata, apart from its bytes |
//! | `device.rs`, `label.rs`, `lifetime.rs`, `mark.rs` | the values of fields |
//! | `index.rs` | the entries by which a store finds the record besides its key |
//!
//! `docs/format.md` is the specification, and the golden files in `tests/golden` hold examples.
//!
//! # Kinds of records
//!
//! | kind | told by | counts as a session |
//! |---|---|---|
//! | a session | no field of a tombstone | yes |
//! | ended | the field *ended* | no |
//! | replaced, by a login or `regenerate` | *ended* and *successor*: for a time, a login may join the successor | no |
//! | rotated | *successor* and *grace end*: until then, the id leads to the successor | no |
//!
//! A tombstone has the header of a session, so a store keeps, expires and collects it in the same way. It has no user, so no list shows it.
//! The time of the end is where a session has the time of its last use.
//!
//! # Reading bytes from a store
//!
//! [`Record::from_bytes`] distinguishes three cases, since they need different reactions:
//!
//! 1. **Not a record** (`Corrupt`): a wrong length, an unknown mark, a malformed field, damaged data. The provider puts it aside and the
//!    visitor begins anew.
//! 2. **A record that this build cannot use** (`Incompatible`, only once its data is asked for): a newer format, an unknown field below
//!    tag 128, a codec that is not built in. It is never put aside. Stores still count, list, collect and end it.
//! 3. **A record.** Its data is checked too, unless it is sealed: then it is checked when it is opened.
//!
//! The header and the fields of tombstones keep their place in every future format, so that the second case stays possible.

mod check;
mod device;
mod fields;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
mod head;
mod header;
mod index;
mod label;
mod lifetime;
mod mark;
mod meta;
mod sealed;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use self::check::NoValues;
use self::fields::{Fields, TAG_ID, TAG_NAMESPACE, TAG_SUCCESSOR_ID};
use self::header::Header;
use crate::clock::Millis;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;
use crate::principal::Principal;

pub use device::Device;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
pub(crate) use head::Head;
pub use index::{IndexEntry, IndexKind};
pub use label::Label;
pub use lifetime::Lifetime;
pub(crate) use mark::Mark;
pub use meta::Meta;
pub(crate) use meta::{Sealing, Times};
pub(crate) use sealed::forged;

/// One stored session: its data as one encoded map, and before it what the store has to know.
///
/// It is one buffer in the native format (`docs/format.md`), which a provider keeps as it is ([`as_bytes`](Self::as_bytes)) and gives back
/// ([`from_bytes`](Self::from_bytes)). A clone shares the buffer. `Debug` shows no data.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

impl Record {
    /// The first bytes of every record in the native format.
    #[allow(dead_code, reason = "a provider needs it, and it is a feature")]
    pub(crate) const BEGINNING: &'static [u8] = header::MAGIC;

    /// The length of a record without its fields and its data, in bytes.
    pub(crate) const HEADER: usize = header::LEN;

    /// Returns the record in the native format, for a store to keep. `docs/format.md` describes it byte by byte.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, providers::Record, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).principal("alice").value("cart", ["tea"]).build();
    /// let stored: Vec<u8> = record.as_bytes().to_vec();
    /// assert_eq!(Record::from_bytes(&stored)?, record);
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a record in the native format. Its memory stays in proportion to the length of `bytes`.
    ///
    /// A record that a newer release wrote, or whose codec this build lacks, is accepted. A store can read its deadlines, its user
    /// and its kind, so it can count, list, collect and end it. A manager that needs its data returns an error of kind
    /// [`Incompatible`](ErrorKind::Incompatible).
    ///
    /// ```
    /// use cloakroom::{ErrorKind, providers::Record};
    ///
    /// let error = Record::from_bytes(b"another program's file").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Corrupt);
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for all other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record> {
        check::check(bytes).map_err(|error| Error::new(ErrorKind::Corrupt, error))?;
        let record = Record(Arc::from(bytes));
        // The provider that opens a sealed record checks its data then.
        if !record.is_sealed() {
            record.check_data()?;
        }
        Ok(record)
    }

    /// Checks the data, where this build can read it.
    fn check_data(&self) -> Result<()> {
        match check::incompatibility(self.header(), self.fields()) {
            None => self.codec().check(self.data()),
            Some(_) => Ok(()),
        }
    }

    /// Answers whether this build can read the data and may change the record.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] for a newer format, a field that only a newer release knows, and a codec that this build lacks.
    pub(crate) fn check_readable(&self) -> Result<()> {
        match check::incompatibility(self.header(), self.fields()) {
            None => Ok(()),
            Some(reason) => Err(Error::new(ErrorKind::Incompatible, reason)),
        }
    }

    /// Returns true if the record is a session that this build can read as it is: readable, not sealed, no tombstone.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let (header, fields) = (self.header(), self.fields());
        let readable = !header.is_newer() && header.codec().is_some();
        // Most records have no fields at all.
        readable && (fields.is_empty() || fields.are_of_session())
    }

    /// Returns the version, which every change increases. A provider compares it before it replaces the record.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).version(3).build();
    /// assert_eq!(record.version(), 3);
    /// # }
    /// ```
    pub fn version(&self) -> u64 {
        self.header().version()
    }

    /// Returns the earlier of the session's two deadlines. From this instant on it is expired.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::system();
    /// let record = testkit::record(&clock).idle(Duration::from_secs(60)).absolute(Duration::from_secs(3600)).build();
    /// assert!(!record.is_expired(clock.now()));
    /// assert!(record.is_expired(record.expires()), "at the deadline itself it is expired");
    /// # }
    /// ```
    pub fn expires(&self) -> SystemTime {
        self.deadline().into()
    }

    /// Returns true if the session has expired by `now`.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::system();
    /// let record = testkit::record(&clock).idle(Duration::from_secs(60)).build();
    /// assert!(!record.is_expired(clock.now()));
    /// assert!(record.is_expired(clock.now() + Duration::from_secs(60)));
    /// # }
    /// ```
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expired_at(now.into())
    }

    pub(crate) fn expired_at(&self, now: Millis) -> bool {
        self.deadline() <= now
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Millis {
        self.header().deadline()
    }

    /// Returns the deadline of the record once it was used at `at`.
    pub(crate) fn deadline_after(&self, at: Millis) -> Millis {
        let header = self.header();
        header.idle_deadline_after(at).min(header.absolute_deadline())
    }

    #[inline]
    pub(crate) fn times(&self) -> Times {
        self.header().times()
    }

    /// Returns the user whom the session belongs to; `None` for an anonymous session and for a tombstone.
    pub fn principal(&self) -> Option<Principal> {
        Principal::new(std::str::from_utf8(self.user()?).ok()?).ok()
    }

    /// Returns the user's name as it is stored, for a comparison without a copy.
    pub(crate) fn user(&self) -> Option<&[u8]> {
        self.fields().user()
    }

    /// Returns the labels of the session, at most [`Label::MAX_COUNT`].
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).label("device-7").label("device-8").build();
    /// let labels: Vec<_> = record.labels().iter().map(|label| label.as_str().to_owned()).collect();
    /// assert_eq!(labels, ["device-7", "device-8"]);
    /// # }
    /// ```
    pub fn labels(&self) -> Vec<Label> {
        let text = |value| std::str::from_utf8(value).ok();
        self.label_values().filter_map(|value| Label::new(text(value)?).ok()).collect()
    }

    /// Returns the labels as they are stored, for a comparison without a copy.
    pub(crate) fn label_values(&self) -> impl Iterator<Item = &[u8]> {
        self.fields().labels()
    }

    pub(crate) fn has_label(&self, label: &[u8]) -> bool {
        self.label_values().any(|value| value == label)
    }

    /// Returns the entries that a store indexes this record by: its user and its labels. A tombstone has none.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).principal("alice").label("device-7").build();
    /// let values: Vec<_> = record.index_entries().map(|entry| entry.value().to_owned()).collect();
    /// assert_eq!(values, ["alice", "device-7"]);
    /// # }
    /// ```
    pub fn index_entries(&self) -> impl Iterator<Item = IndexEntry> + use<> {
        let is_session = !self.is_tombstone();
        let principal = self.principal().filter(|_| is_session);
        let labels = if is_session { self.labels() } else { Vec::new() };
        let labels = labels.into_iter().map(|label| IndexEntry::from(&label));
        principal.map(|principal| IndexEntry::from(&principal)).into_iter().chain(labels)
    }

    /// Returns true if `entry` is one of [`index_entries`](Self::index_entries). A tombstone has none.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::providers::{IndexEntry, Label};
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).label("device-7").build();
    /// assert!(record.is_indexed_by(&IndexEntry::from(&Label::new("device-7")?)));
    /// assert!(!record.is_indexed_by(&IndexEntry::from(&Label::new("device-8")?)));
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn is_indexed_by(&self, entry: &IndexEntry) -> bool {
        !self.is_tombstone()
            && match entry.kind() {
                IndexKind::Principal => self.user() == Some(entry.value().as_bytes()),
                IndexKind::Label => self.has_label(entry.value().as_bytes()),
            }
    }

    /// Returns everything but the data: times, version, user, labels and device.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, providers::Listed, testkit};
    ///
    /// // A store makes a line of a list without reading any data.
    /// let record = testkit::record(&Clock::system()).principal("alice").value("n", 1).build();
    /// let listed = Listed { key: "key-1".parse()?, meta: record.meta() };
    /// assert_eq!(listed.meta.principal().unwrap().as_str(), "alice");
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn meta(&self) -> Meta {
        let fields = self.fields();
        Meta {
            times: self.times(),
            principal: self.principal(),
            lifetime: self.lifetime(),
            ends_by: fields.ends_by(),
            level: fields.level(),
            device: fields.device(),
            labels: self.labels(),
            sealing: self.sealing(),
        }
    }

    /// Returns the encoded map of the session's keys and values.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, config::Codec, testkit};
    ///
    /// let record = testkit::record(&Clock::system()).codec(Codec::JSON).value("n", 1).build();
    /// assert_eq!(record.data(), br#"{"n":1}"#);
    /// # }
    /// ```
    pub fn data(&self) -> &[u8] {
        &self.0[header::LEN + self.header().fields_len()..]
    }

    /// Returns all values of the session, as a map or a struct.
    ///
    /// [`encode`](Self::encode) has an example.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if the values do not have the form of `T`; [`ErrorKind::Incompatible`] if a newer release wrote the record;
    /// [`ErrorKind::Unsupported`] if the record is sealed, a tombstone, or encoded as Go does.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.check_readable()?;
        let codec = self.codec();
        let reason = if self.is_sealed() {
            NoValues::Sealed
        } else if self.is_tombstone() {
            NoValues::Tombstone
        } else if !codec.nests() {
            NoValues::Go
        } else {
            let data = self.data();
            return codec.decode(if data.is_empty() { codec.empty() } else { data });
        };
        Err(Error::new(ErrorKind::Unsupported, reason))
    }

    pub(crate) fn codec(&self) -> Codec {
        self.header().codec().unwrap_or_default()
    }

    /// Returns true if this is a tombstone: the mark of a session that ended, or whose id was replaced.
    ///
    /// Providers store and load tombstones like any record; [`count`](crate::Provider::count), [`scan`](crate::Provider::scan)
    /// and [`indexed`](crate::Provider::indexed) leave them out, and nothing but expiry ends them.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let session = testkit::record(&Clock::system()).principal("alice");
    /// assert!(!session.clone().build().is_tombstone());
    /// let mark = session.ended();
    /// assert!(mark.is_tombstone() && mark.principal().is_none());
    /// # }
    /// ```
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        // Most records have no fields at all.
        self.has_fields() && self.fields().has_mark()
    }

    #[inline]
    pub(crate) fn has_fields(&self) -> bool {
        self.header().fields_len() != 0
    }

    /// Returns what a tombstone says; `None` for a session.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.fields().mark()
    }

    /// Returns the session's own lifetime; `None` if the manager's policy applies.
    #[inline]
    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        // Most records have no fields at all.
        if !self.has_fields() {
            return None;
        }
        self.fields().lifetime()
    }

    /// Returns the id of the session, if the client carries the record as its token. A record that a store keeps has none.
    pub fn token_id(&self) -> Option<SessionId> {
        std::str::from_utf8(self.fields().find(TAG_ID)?).ok()?.parse().ok()
    }

    /// Returns the sealed id of the successor, where the tombstone has one.
    pub(crate) fn successor_id(&self) -> Option<&[u8]> {
        self.fields().find(TAG_SUCCESSOR_ID)
    }

    /// Returns true if another namespace's manager has made this record. One without a mark may be anybody's.
    pub(crate) fn is_of_another_namespace(&self, mark: &[u8]) -> bool {
        self.fields().find(TAG_NAMESPACE).is_some_and(|found| found != mark)
    }

    /// Returns true if the data is sealed. [`data`](Self::data) is then no map.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.header().is_sealed()
    }

    /// Returns true if the record is sealed in a format that only a newer release can open.
    pub(crate) fn is_sealed_anew(&self) -> bool {
        self.is_sealed() && self.header().is_newer()
    }

    fn sealing(&self) -> Sealing {
        if !self.is_sealed() {
            return Sealing::Open;
        }
        // Sealed bytes that are too short to name a key count as sealed by an unknown one.
        Sealing::By(self.data().first_chunk().copied().unwrap_or_default())
    }

    #[inline]
    fn header(&self) -> Header<'_> {
        Header::of(&self.0)
    }

    #[inline]
    fn fields(&self) -> Fields<'_> {
        Fields(&self.0[header::LEN..header::LEN + self.header().fields_len()])
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("meta", &self.meta())
            .field("bytes", &self.data().len())
            .field("tombstone", &self.is_tombstone())
            .finish_non_exhaustive()
    }
}

/// Returns a record of this version, for tests that only need a base.
#[cfg(test)]
#[allow(dead_code, reason = "the tests of providers call this, and each provider is a feature")]
pub(crate) fn base(version: u64) -> Record {
    let now = crate::clock::Clock::system().millis();
    let times = Times {
        version,
        created: now,
        issued: now,
        last_active: now,
        idle_deadline: now.after(std::time::Duration::from_secs(600)),
        absolute_deadline: crate::clock::Millis::NEVER,
        authenticated: None,
    };
    Record::new(&Meta::new(times, None), crate::codec::Codec::MESSAGE_PACK, &[0x80])
}
