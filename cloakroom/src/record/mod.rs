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

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Millis;
use crate::codec::{Codec, Limits};
use crate::error::{Error, ErrorKind, Result};
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

    /// Returns the record of a session that has `meta` and these values: for code that keeps sessions in a provider without a
    /// [`Manager`](crate::Manager).
    ///
    /// `values` is a map with text keys, or a struct. It is encoded in MessagePack, with at most `max_bytes` bytes, 1,024 keys and 32
    /// levels of nesting in a value.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::time::Duration;
    ///
    /// use cloakroom::providers::{Meta, Provider, Record, StoreKey, Updated};
    /// use cloakroom::{Clock, MemoryProvider, Principal};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let provider = MemoryProvider::new();
    /// let key = StoreKey::derive("shop", &"EA8ODQwLCgkIBwYFBAMCAQ".parse()?);
    /// let now = Clock::system().now();
    ///
    /// let meta = Meta::begin(now, now + Duration::from_secs(3600)).with_principal(Principal::new("alice")?, now);
    /// let first = Record::encode(&meta, &BTreeMap::from([("visits", 1)]), 65_536)?;
    /// let _free = provider.create(&key, &first).await?;
    ///
    /// // A change has a higher version than the record that it was made from.
    /// let meta = first.meta().with_version(first.version() + 1);
    /// let second = Record::encode(&meta, &BTreeMap::from([("visits", 2)]), 65_536)?;
    /// assert_eq!(provider.update(&key, &second, &first).await?, Updated::Done);
    /// assert_eq!(provider.update(&key, &second, &first).await?, Updated::Stale);
    ///
    /// let stored = provider.load(&key).await?.expect("it was stored");
    /// assert_eq!(stored.decode::<BTreeMap<String, u32>>()?["visits"], 2);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] past one of the limits; [`ErrorKind::Value`] if `values` is no map with text keys, or has a key twice.
    pub fn encode<T: Serialize + ?Sized>(meta: &Meta, values: &T, max_bytes: usize) -> Result<Record> {
        // The map itself is one level.
        let limits = Limits { bytes: max_bytes, depth: Limits::DEFAULT.depth + 1, ..Limits::DEFAULT };
        let codec = Codec::MESSAGE_PACK;
        let encoded = codec.encode("", values, &limits)?;
        let data = encoded.value().unwrap_or_default();
        codec.check(data).map_err(|error| Error::new(ErrorKind::Value, error))?;
        limits.keys(codec.count(data)?)?;
        Ok(Record::new(meta, codec, data))
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

    /// Returns the tombstone that takes the place of this record when its session ends `at` that time, for
    /// [`update`](crate::Provider::update). It has the next version.
    ///
    /// The key stays taken `until` the tombstone expires: choose a time by which every request that has loaded the session is over.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::time::Duration;
    ///
    /// use cloakroom::Clock;
    /// use cloakroom::providers::{Meta, Record};
    ///
    /// let now = Clock::system().now();
    /// let record = Record::encode(&Meta::begin(now, now + Duration::from_secs(3600)), &BTreeMap::from([("n", 1)]), 65_536)?;
    /// let tombstone = record.ended(now, now + Duration::from_secs(60));
    /// assert!(tombstone.is_tombstone() && tombstone.data().is_empty());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn ended(&self, at: SystemTime, until: SystemTime) -> Record {
        self.tombstone(&Mark::Ended, at.into(), until.into())
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
    /// Returns the metadata of an anonymous session that begins `at` that time, at version 1. It ends at `ends`, used or not.
    ///
    /// [`Record::encode`] has an example.
    pub fn begin(at: SystemTime, ends: SystemTime) -> Meta {
        let (at, ends) = (at.into(), ends.into());
        let times = Times {
            version: 1,
            created: at,
            issued: at,
            last_active: at,
            idle_deadline: ends,
            absolute_deadline: ends,
            authenticated: None,
        };
        Meta::new(times, None)
    }

    /// Sets the version. Every change needs a higher one than the record that it was made from.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Meta {
        self.times.version = version;
        self
    }

    /// Sets the time of the last use.
    #[must_use]
    pub fn with_last_active(mut self, at: SystemTime) -> Meta {
        self.times.last_active = at.into();
        self
    }

    /// Sets the user, and the time of the login.
    #[must_use]
    pub fn with_principal(mut self, principal: Principal, authenticated: SystemTime) -> Meta {
        self.principal = Some(principal);
        self.times.authenticated = Some(authenticated.into());
        self
    }

    /// Returns the version, which every change increases. A provider compares it before it replaces the record.
    pub fn version(&self) -> u64 {
        self.times.version
    }

    /// Returns the time at which the session began.
    pub fn created(&self) -> SystemTime {
        self.times.created.into()
    }

    /// Returns [the time of last use](crate::guide::lifetimes#the-time-of-last-use) as it was last written. It may be up to 60 s too early.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Manager, MemoryProvider, Principal, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # TestSession::new(&sessions).principal("alice").headers().await;
    /// for device in sessions.sessions_of(&Principal::new("alice")?).await? {
    ///     let unused = device.meta.last_active().elapsed().unwrap_or_default();
    ///     assert!(unused.as_secs() < 60, "last used less than a minute ago");
    /// }
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn last_active(&self) -> SystemTime {
        self.times.last_active.into()
    }

    /// Returns the earlier of the session's two deadlines. From this instant on it is expired.
    ///
    /// The other methods of the record count by the same instant: see [`Record::expires`].
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let clock = Clock::system();
    /// let idle = testkit::record(&clock).idle(Duration::from_secs(60)).absolute(Duration::from_secs(3600)).build();
    /// let meta = idle.meta();
    /// assert_eq!(meta.expires(), meta.created() + Duration::from_secs(60));
    /// assert_eq!(meta.absolute_deadline(), Some(meta.created() + Duration::from_secs(3600)));
    /// # }
    /// ```
    pub fn expires(&self) -> SystemTime {
        self.times.deadline().into()
    }

    /// Returns the time at which the session ends even if it is used; `None` if the policy sets no such time.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    /// use std::time::Duration;
    ///
    /// let record = || testkit::record(&Clock::system());
    /// let meta = record().absolute(Duration::from_secs(8 * 60 * 60)).build().meta();
    /// assert_eq!(meta.absolute_deadline(), Some(meta.created() + Duration::from_secs(8 * 60 * 60)));
    /// assert_eq!(record().no_absolute().build().meta().absolute_deadline(), None);
    /// # }
    /// ```
    pub fn absolute_deadline(&self) -> Option<SystemTime> {
        let deadline = self.times.absolute_deadline;
        (deadline != Millis::NEVER).then(|| deadline.into())
    }

    /// Returns the time of the user's last login; `None` for an anonymous session.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, testkit};
    ///
    /// let record = || testkit::record(&Clock::system());
    /// assert!(record().build().meta().authenticated().is_none());
    /// let meta = record().principal("alice").build().meta();
    /// assert_eq!(meta.authenticated(), Some(meta.created()), "the session began with the login");
    /// # }
    /// ```
    pub fn authenticated(&self) -> Option<SystemTime> {
        self.times.authenticated.map(SystemTime::from)
    }

    /// Returns the user whom the session belongs to; `None` for an anonymous session.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Returns the level of authentication; `None` for an anonymous session.
    ///
    /// A session that [needs a higher one](crate::Session::require_level) asks the user to authenticate again.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// # use cloakroom::{Level, Manager, MemoryProvider, Principal, testkit::TestSession};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # TestSession::new(&sessions).principal("alice").level(Level::new(2)).headers().await;
    /// let list = sessions.sessions_of(&Principal::new("alice")?).await?;
    /// assert_eq!(list[0].meta.level(), Some(Level::new(2)));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// # }
    /// ```
    pub fn level(&self) -> Option<Level> {
        self.principal.as_ref().map(|_| self.level.unwrap_or_default())
    }

    /// Returns the device, if the application has set one.
    ///
    /// [`Session::set_device`](crate::Session::set_device) sets it at the login, for a list of the user's devices:
    ///
    /// ```
    /// # use cloakroom::{Device, Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # let mut request = http::HeaderMap::new();
    /// # request.insert("user-agent", "curl/8.5".parse().unwrap());
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_device(Device::of_request(&request))?;
    /// session.save().await?;
    /// let list = sessions.sessions_of(&Principal::new("alice")?).await?;
    /// assert_eq!(list[0].meta.device().and_then(Device::user_agent), Some("curl/8.5"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }

    /// Returns the labels by which the session is found, besides its user.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Returns true if a store finds the session by `entry`.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{Clock, Principal, providers::IndexEntry, testkit};
    ///
    /// let meta = testkit::record(&Clock::system()).principal("alice").build().meta();
    /// assert!(meta.is_indexed_by(&IndexEntry::from(&Principal::new("alice")?)));
    /// assert!(!meta.is_indexed_by(&IndexEntry::from(&Principal::new("bob")?)));
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
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

/// The reason why [`Record::decode`] has no values to return.
#[derive(Debug, thiserror::Error)]
enum NoValues {
    #[error(
        "expected a record with readable data, found sealed data; wrap the provider in `SealedProvider` with its keys"
    )]
    Sealed,
    #[error("expected a session, found a tombstone; check `is_tombstone` first")]
    Tombstone,
    #[error("expected data in MessagePack or JSON, found Go's gob, whose values are read one by one")]
    Go,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::codec::Change;

    const BEGUN: SystemTime = UNIX_EPOCH;
    const HOUR: Duration = Duration::from_secs(3600);

    fn encode(values: impl Serialize) -> Result<Record> {
        Record::encode(&Meta::begin(BEGUN, BEGUN + HOUR), &values, 1000)
    }

    #[track_caller]
    fn refused(values: impl Serialize, kind: ErrorKind) {
        assert_eq!(encode(values).unwrap_err().kind(), kind);
    }

    #[test]
    fn an_encoded_record_gives_back_its_values_and_metadata() {
        let values = json!({"list": [1, -1, 0.5, null, {"deep": true}], "text": "tea", "large": u64::MAX});
        let record = encode(&values).unwrap();
        assert_eq!(record.decode::<serde_json::Value>().unwrap(), values);
        assert_eq!(Record::from_bytes(record.as_bytes()).unwrap(), record);

        let login = BEGUN + HOUR / 4;
        let meta = record.meta().with_version(7).with_last_active(login);
        let meta = meta.with_principal(Principal::new("alice").unwrap(), login);
        let changed = Record::encode(&meta, &values, 1000).unwrap().meta();
        assert_eq!((changed.version(), changed.created(), changed.last_active()), (7, BEGUN, login));
        assert_eq!((changed.expires(), changed.absolute_deadline()), (BEGUN + HOUR, Some(BEGUN + HOUR)));
        assert_eq!((changed.principal().unwrap().as_str(), changed.authenticated()), ("alice", Some(login)));
    }

    #[test]
    fn a_touch_does_not_prolong_an_encoded_record() {
        let mut record = encode(json!({})).unwrap();
        record.touch(BEGUN + HOUR / 2);
        assert_eq!(record.expires(), BEGUN + HOUR);
    }

    #[test]
    fn no_values_are_an_empty_map_in_each_codec() {
        for codec in [Codec::MESSAGE_PACK, Codec::JSON] {
            let record = Record::new(&Meta::begin(BEGUN, BEGUN + HOUR), codec, b"");
            assert_eq!(record.decode::<BTreeMap<String, u8>>().unwrap(), BTreeMap::new());
        }
    }

    #[test]
    fn values_past_a_limit_or_without_text_keys_are_refused() {
        refused(json!(["no", "map"]), ErrorKind::Value);
        refused(BTreeMap::from([(1, "a number")]), ErrorKind::Value);
        refused(json!({"long": "x".repeat(1000)}), ErrorKind::TooLarge);
        let keys: BTreeMap<String, ()> = (0..1025).map(|n| (n.to_string(), ())).collect();
        let error = Record::encode(&Meta::begin(BEGUN, BEGUN + HOUR), &keys, 65_536).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let nested = |levels| (0..levels).fold(json!(1), |value, _| json!([value]));
        encode(json!({"deep": nested(32)})).unwrap();
        refused(json!({"deep": nested(33)}), ErrorKind::TooLarge);
    }

    #[test]
    fn a_tombstone_has_no_values_and_the_next_version() {
        let tombstone = encode(json!({"n": 1})).unwrap().ended(BEGUN, BEGUN + HOUR / 2);
        assert_eq!((tombstone.version(), tombstone.expires()), (2, BEGUN + HOUR / 2));
        let error = tombstone.decode::<serde_json::Value>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn values_of_another_form_are_an_error_without_the_value() {
        let mut data = crate::codec::Buffer::new();
        let change = Change::new("k", |bytes| bytes.extend_from_slice(b"\xa7hunter2"));
        Codec::MESSAGE_PACK.merge(b"", &[change], &Limits::DEFAULT, &mut data).unwrap();
        let record = Record::new(&Meta::begin(BEGUN, BEGUN + HOUR), Codec::MESSAGE_PACK, &data);
        let error = record.decode::<BTreeMap<String, u8>>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
