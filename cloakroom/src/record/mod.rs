//! One stored session: its bytes, its metadata and its deadlines.
//!
//! A [`Record`] is the stored format itself, behind one reference count. Fixed numbers stand in its header, so a deadline or a
//! version is read without parsing. Optional parts are fields with a tag. The data is an encoded map at the end.
//!
//! | file | part |
//! |---|---|
//! | `format.rs` | the header, the fields and the data, byte by byte |
//! | `head.rs` | the record without its data, for lists |
//! | `mark.rs`, `successor.rs` | tombstones: the end of an id, and the id that replaced it |
//! | `index.rs`, `label.rs` | the entries by which a store finds the record besides its key |
//! | `lifetime.rs`, `device.rs`, `namespace.rs`, `token.rs` | optional fields |
//! | `sealed.rs` | the record with encrypted data |
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

mod device;
mod format;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
mod head;
mod index;
mod label;
mod lifetime;
mod mark;
mod namespace;
mod sealed;
mod successor;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Millis;
#[cfg(feature = "beego")]
use crate::codec::Codec;
#[cfg(feature = "beego")]
use crate::error::Result;
use crate::principal::{Level, Principal};

pub use device::Device;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
pub(crate) use head::Head;
pub use index::{IndexEntry, IndexKind};
pub use label::Label;
pub use lifetime::Lifetime;
pub(crate) use mark::Mark;
pub(crate) use sealed::forged;

/// One stored session: its data as one encoded map, and before it what the store has to know.
///
/// It is one buffer in the native format (`docs/format.md`), which a provider keeps as it is ([`as_bytes`](Self::as_bytes)) and gives back
/// ([`from_bytes`](Self::from_bytes)). A clone shares the buffer. `Debug` shows no data.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

/// The metadata of a session: version, times, user, labels and device.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub(crate) times: Times,
    pub(crate) principal: Option<Principal>,
    /// Of its own, where the manager's policy does not count.
    pub(crate) lifetime: Option<Lifetime>,
    /// By when the session ends though its policy would let it live longer: another's word, such as an identity provider's.
    pub(crate) ends_by: Option<Millis>,
    pub(crate) level: Option<Level>,
    pub(crate) device: Option<Device>,
    pub(crate) labels: Vec<Label>,
    pub(crate) sealing: Sealing,
}

/// The form in which the data beside a [`Meta`] is stored. It does not count for equality.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sealing {
    Open,
    /// The key that sealed the record, as the sealed bytes name it.
    By([u8; 8]),
}

impl PartialEq for Sealing {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    pub(crate) version: u64,
    pub(crate) created: Millis,
    /// The time when the present id was issued.
    pub(crate) issued: Millis,
    pub(crate) last_active: Millis,
    pub(crate) idle_deadline: Millis,
    pub(crate) absolute_deadline: Millis,
    pub(crate) authenticated: Option<Millis>,
}

impl Record {
    /// Returns the record of a session from a store that keeps only its data and its times.
    #[cfg(feature = "beego")]
    #[allow(dead_code, reason = "the providers that know Beego's layout call this, and they are features")]
    pub(crate) fn of_value(
        codec: Codec,
        data: &[u8],
        version: u64,
        used: Millis,
        deadline: Millis,
    ) -> Result<Record> {
        codec.check(data)?;
        let times = Times {
            version,
            created: used,
            issued: used,
            last_active: used,
            idle_deadline: deadline,
            absolute_deadline: Millis::NEVER,
            authenticated: None,
        };
        Ok(Record::new(&Meta::new(times, None), codec, data))
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
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expired_at(now.into())
    }

    pub(crate) fn expired_at(&self, now: Millis) -> bool {
        self.deadline() <= now
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

impl Meta {
    /// Returns the version, which every change increases. A provider compares it before it replaces the record.
    pub fn version(&self) -> u64 {
        self.times.version
    }

    /// Returns the time at which the session began.
    pub fn created(&self) -> SystemTime {
        self.times.created.into()
    }

    /// Returns [the time of last use](crate::guide::lifetimes#the-time-of-last-use) as it was last written. It may be up to 60 s too early.
    pub fn last_active(&self) -> SystemTime {
        self.times.last_active.into()
    }

    /// Returns the earlier of the session's two deadlines. From this instant on it is expired.
    pub fn expires(&self) -> SystemTime {
        self.times.deadline().into()
    }

    /// Returns the time at which the session ends even if it is used; `None` if the policy sets no such time.
    pub fn absolute_deadline(&self) -> Option<SystemTime> {
        let deadline = self.times.absolute_deadline;
        (deadline != Millis::NEVER).then(|| deadline.into())
    }

    /// Returns the time of the user's last login; `None` for an anonymous session.
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.times.authenticated.map(SystemTime::from)
    }

    /// Returns the user whom the session belongs to; `None` for an anonymous session.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Returns the level of authentication; `None` for an anonymous session.
    pub fn level(&self) -> Option<Level> {
        self.principal.as_ref().map(|_| self.level.unwrap_or_default())
    }

    /// Returns the device, if the application has set one.
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Returns the labels by which the session is found, besides its user.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Returns true if a store finds the session by `entry`.
    pub fn is_indexed_by(&self, entry: &IndexEntry) -> bool {
        match entry.kind() {
            IndexKind::Principal => self.principal().is_some_and(|user| user.as_str() == entry.value()),
            IndexKind::Label => self.labels.iter().any(|label| label.as_str() == entry.value()),
        }
    }

    pub(crate) fn new(times: Times, principal: Option<Principal>) -> Meta {
        Meta {
            times,
            principal,
            lifetime: None,
            ends_by: None,
            level: None,
            device: None,
            labels: Vec::new(),
            sealing: Sealing::Open,
        }
    }
}

impl Times {
    pub(crate) fn deadline(&self) -> Millis {
        self.idle_deadline.min(self.absolute_deadline)
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
