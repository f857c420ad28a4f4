//! The writing of records: new ones, others made of them, and uses.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::fields::{self, TAG_ID, TAG_NAMESPACE, TAG_SUCCESSOR_ID};
use super::header::{self, Header, HeaderMut};
use super::{Mark, Meta, Record, Times};
use crate::clock::Millis;
use crate::codec::{Buffer, Codec, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;

impl Record {
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

    /// Returns a record of a map that `codec` has encoded.
    #[allow(dead_code, reason = "the testkit and the cookie provider call this, and they are features")]
    pub(crate) fn new(meta: &Meta, codec: Codec, data: &[u8]) -> Record {
        Record::assemble(meta, None, codec, data)
    }

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

    /// Returns a record of the data that `write` appends, which takes `room` bytes or about that.
    pub(crate) fn written(
        meta: &Meta,
        codec: Codec,
        room: usize,
        write: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Record> {
        let mut draft = Draft::new();
        draft.begin(header::form_of(codec), &meta.times, &fields::encode(meta, None), room);
        write(&mut draft.0)?;
        Ok(draft.finish())
    }

    fn assemble(meta: &Meta, mark: Option<&Mark>, codec: Codec, data: &[u8]) -> Record {
        let fields = fields::encode(meta, mark);
        Draft::complete(header::form_of(codec), &meta.times, &fields, data)
    }

    /// Returns the record with other numbers, the same fields and the data that `write` appends.
    pub(crate) fn rewritten(
        &self,
        times: Times,
        room: usize,
        write: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Record> {
        let mut draft = Draft::new();
        draft.begin(self.header().form(), &times, self.fields().0, room);
        write(&mut draft.0)?;
        Ok(draft.finish())
    }

    /// Returns the record with `meta` beside its data, and the fields that a later release has added.
    pub(crate) fn with_meta(&self, meta: Meta) -> Record {
        let fields = self.fields().rewritten(&meta, self.mark().as_ref());
        Draft::complete(self.header().form(), &meta.times, &fields, self.data())
    }

    /// Returns the tombstone that replaces this record at `ended`, and expires at `forgotten`.
    ///
    /// `ended` is stored where a session has the time of its last use.
    pub(crate) fn tombstone(&self, mark: &Mark, ended: Millis, forgotten: Millis) -> Record {
        let former = self.times();
        let times = Times {
            // A caller that compares versions must see that this is another record.
            version: former.version.wrapping_add(1),
            last_active: ended,
            idle_deadline: forgotten,
            absolute_deadline: Millis::NEVER,
            ..former
        };
        Record::assemble(&Meta::new(times, None), Some(mark), self.codec(), b"")
    }

    /// Returns this record with the session's id in it, for a record that the client carries as its token.
    pub(crate) fn with_id(&self, id: &SessionId) -> Record {
        self.with_field(TAG_ID, id.expose().as_bytes())
    }

    /// Returns this tombstone with the successor's id in it, sealed: see `engine/tombstones.rs`.
    pub(crate) fn with_successor_id(&self, sealed: &[u8]) -> Record {
        self.with_field(TAG_SUCCESSOR_ID, sealed)
    }

    /// Returns this record with a mark of its manager's namespace, for a record whose key is the plain id.
    pub(crate) fn with_namespace(&self, mark: &[u8]) -> Record {
        self.with_field(TAG_NAMESPACE, mark)
    }

    fn with_field(&self, tag: u8, value: &[u8]) -> Record {
        let fields = self.fields().with(tag, value);
        Draft::complete(self.header().form(), &self.times(), &fields, self.data())
    }

    /// Records a use at `at`: what a provider that keeps whole records does for [`touch`](crate::Provider::touch).
    ///
    /// The idle time of the record is the time from its last use to its idle deadline. The use moves the last use to `at` and the
    /// idle deadline to `at` plus the idle time. Neither moves back, and the idle deadline never passes the absolute one.
    ///
    /// ```
    /// # #[cfg(feature = "testkit")] {
    /// use cloakroom::{ManualClock, testkit};
    /// use std::time::Duration;
    ///
    /// let time = ManualClock::default();
    /// let mut record = testkit::record(&time.clock()).idle(Duration::from_secs(600)).build();
    /// time.advance(Duration::from_secs(60));
    /// record.touch(time.clock().now());
    /// assert_eq!(record.expires(), time.clock().now() + Duration::from_secs(600));
    /// # }
    /// ```
    pub fn touch(&mut self, at: SystemTime) {
        self.touch_at(at.into());
    }

    /// Does what [`touch`](Self::touch) does, on the numbers of the record.
    pub(crate) fn touch_at(&mut self, at: Millis) {
        let header = self.header();
        let (used, deadline) = (header.last_active().max(at), header.idle_deadline_after(at));
        self.set_use(used, deadline);
    }

    /// Sets the last use to `at` and the idle deadline to `deadline`, or to the absolute one if that is earlier.
    pub(crate) fn set_use(&mut self, at: Millis, deadline: Millis) {
        let deadline = deadline.min(self.header().absolute_deadline());
        let mut header = HeaderMut(Arc::make_mut(&mut self.0));
        header.set_last_active(at);
        header.set_idle_deadline(deadline);
    }

    /// Changes the metadata and keeps the data.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta();
        change(&mut meta);
        *self = self.with_meta(meta);
    }

    /// Returns the record in a format that does not exist yet, for tests.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn of_newer_release(&self) -> Record {
        const FORM: [u8; 4] = [u8::MAX, 77, 5, 6];
        const FIELD: &[u8] = &[100, 0, 1, 9];
        const DATA: &[u8] = b"\xc1\xc1";
        let fields = [self.fields().0, FIELD].concat();
        Draft::complete(FORM, &self.times(), &fields, DATA)
    }
}

/// A record that still lacks its data. Large, so it stays where it was made.
struct Draft(Buffer);

impl Draft {
    fn new() -> Self {
        Draft(Buffer::new())
    }

    /// Returns the record with these parts.
    fn complete(form: [u8; 4], times: &Times, fields: &[u8], data: &[u8]) -> Record {
        let mut draft = Draft::new();
        draft.begin(form, times, fields, data.len());
        draft.0.extend_from_slice(data);
        draft.finish()
    }

    /// Writes the header and the fields, and reserves `room` bytes for the data. The length of the data is set by [`finish`](Self::finish).
    #[inline]
    fn begin(&mut self, form: [u8; 4], times: &Times, fields: &[u8], room: usize) {
        self.0.reserve(header::LEN + fields.len() + room);
        self.0.extend_from_slice(&header::encode(form, times, fields.len()));
        if !fields.is_empty() {
            self.0.extend_from_slice(fields);
        }
    }

    #[inline]
    fn finish(&mut self) -> Record {
        let data = self.0.len() - header::LEN - Header::of(&self.0).fields_len();
        HeaderMut(&mut self.0).set_data_len(data);
        Record(Arc::from(&self.0[..]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::codec::Change;
    use crate::principal::Principal;

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
