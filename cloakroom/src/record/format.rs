//! The native record format, version 1, as `docs/format.md` gives it byte by byte.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Device, Label, Lifetime, Mark, Meta, Record, Times};
use crate::clock::Millis;
use crate::codec::{Buffer, Codec};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::{Level, Principal};

const MAGIC: &[u8; 4] = b"CLKR";
const VERSION: u8 = 1;
const AT_FORMAT: usize = 4;
/// Bytes before the fields.
pub(super) const HEADER: usize = 72;
/// More than any record's fields take; a length past it is corruption, seen before anything is allocated.
pub(super) const MAX_FIELDS: usize = 4096;

/// The offset of the codec's number, and the bit that is added to it if the data is sealed.
pub(super) const AT_CODEC: usize = 5;
pub(super) const SEALED: u8 = 0x80;
/// The codecs that the feature `beego` reads.
const GOB: u8 = 3;
const SCS: u8 = 4;

/// The offsets of the header's numbers, eight bytes each.
const AT_VERSION: usize = 8;
const AT_CREATED: usize = 16;
const AT_ISSUED: usize = 24;
pub(super) const AT_LAST_ACTIVE: usize = 32;
const AT_IDLE_DEADLINE: usize = 40;
pub(super) const AT_ABSOLUTE_DEADLINE: usize = 48;
const AT_AUTHENTICATED: usize = 56;
/// And the lengths, four bytes each.
pub(super) const AT_FIELDS_LEN: usize = 64;
pub(super) const AT_DATA_LEN: usize = 68;

/// A reader must know every field with a tag below this before it reads the data. It may pass over the others.
const OPTIONAL_TAGS: u8 = 128;
const TAG_PRINCIPAL: u8 = 1;
const TAG_SUCCESSOR: u8 = 2;
const TAG_GRACE_END: u8 = 3;
const TAG_ENDED: u8 = 4;
const TAG_LIFETIME: u8 = 5;
const TAG_ENDS_BY: u8 = 6;
const TAG_LEVEL: u8 = 7;
pub(super) const TAG_ID: u8 = 128;
pub(super) const TAG_SUCCESSOR_ID: u8 = 131;
pub(super) const TAG_NAMESPACE: u8 = 132;
const TAG_USER_AGENT: u8 = 129;
const TAG_NETWORK: u8 = 130;
/// The one field that a record may have several times.
const TAG_LABEL: u8 = 133;

impl Record {
    /// The first bytes of every record in the native format.
    #[allow(dead_code, reason = "a provider needs it, and it is a feature")]
    pub(crate) const BEGINNING: &'static [u8] = MAGIC;

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
        check(bytes).map_err(|error| Error::new(ErrorKind::Corrupt, error))?;
        let record = Record(Arc::from(bytes));
        // The provider that opens a sealed record checks its data then.
        if !record.is_sealed() {
            record.check_data()?;
        }
        Ok(record)
    }

    /// Checks the data, where this build can read it.
    pub(super) fn check_data(&self) -> Result<()> {
        match self.incompatibility() {
            None => self.codec().check(self.data()),
            Some(_) => Ok(()),
        }
    }

    /// Answers whether this build can read the data and may change the record.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] for a newer format, a field that only a newer release knows, and a codec that this build lacks.
    pub(crate) fn check_readable(&self) -> Result<()> {
        match self.incompatibility() {
            None => Ok(()),
            Some(reason) => Err(Error::new(ErrorKind::Incompatible, reason)),
        }
    }

    /// Returns true if a newer format encloses the data, so that its seal cannot be checked either.
    pub(super) fn is_newer(&self) -> bool {
        self.header()[AT_FORMAT] != VERSION
    }

    /// Returns true if the record is a session that this build can read as it is: readable, not sealed, no tombstone.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let (header, fields) = (self.header(), self.fields());
        let readable = header[AT_FORMAT] == VERSION && Codec::from_tag(header[AT_CODEC]).is_some();
        // Most records have no fields at all.
        readable && (fields.is_empty() || Fields(fields).flatten().all(|(tag, _)| is_of_session(tag)))
    }

    fn incompatibility(&self) -> Option<Incompatibility> {
        let header = self.header();
        let codec = header[AT_CODEC] & !SEALED;
        if self.is_newer() {
            return Some(Incompatibility::Format { found: header[AT_FORMAT] });
        }
        if Codec::from_tag(codec).is_none() {
            return Some(match codec {
                GOB | SCS => Incompatibility::Feature,
                found => Incompatibility::Codec { found },
            });
        }
        let newer = |tag: &u8| !is_of_session(*tag) && !is_of_tombstone(*tag);
        let field = Fields(self.fields()).flatten().map(|(tag, _)| tag).find(newer);
        field.map(|tag| Incompatibility::Field { tag })
    }

    /// Returns a record of a map that `codec` has encoded.
    #[allow(dead_code, reason = "the testkit and the cookie provider call this, and they are features")]
    pub(crate) fn new(meta: &Meta, codec: Codec, data: &[u8]) -> Record {
        Record::assemble(meta, None, codec, data)
    }

    /// Returns a record of the data that `write` appends, which takes `room` bytes or about that.
    pub(crate) fn written(
        meta: &Meta,
        codec: Codec,
        room: usize,
        write: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Record> {
        let mut draft = Draft::new();
        draft.begin(form_of(codec), meta.times, &fields_of(meta, None), room);
        write(&mut draft.0)?;
        Ok(draft.finish())
    }

    pub(super) fn assemble(meta: &Meta, mark: Option<&Mark>, codec: Codec, data: &[u8]) -> Record {
        let mut draft = Draft::new();
        draft.begin(form_of(codec), meta.times, &fields_of(meta, mark), data.len());
        draft.0.extend_from_slice(data);
        draft.finish()
    }

    /// Returns the record with other numbers, the same fields and the data that `write` appends.
    pub(crate) fn rewritten(
        &self,
        times: Times,
        room: usize,
        write: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Record> {
        let mut draft = Draft::new();
        draft.begin(self.form(), times, self.fields(), room);
        write(&mut draft.0)?;
        Ok(draft.finish())
    }

    /// Changes the metadata and keeps the data.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta();
        change(&mut meta);
        *self = self.with_meta(meta);
    }

    /// Returns the record with `meta` beside its data, and the fields that a later release has added.
    pub(crate) fn with_meta(&self, meta: Meta) -> Record {
        let mut fields = fields_of(&meta, self.mark().as_ref());
        let unknown = Fields(self.fields()).flatten().filter(|(tag, _)| is_unknown(*tag));
        unknown.for_each(|(tag, value)| push_field(&mut fields, tag, value));
        let mut draft = Draft::new();
        draft.begin(self.form(), meta.times, &fields, self.data().len());
        draft.0.extend_from_slice(self.data());
        draft.finish()
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
        let used = self.millis(AT_LAST_ACTIVE);
        self.set_use(used.max(at), self.idle_deadline_after(at));
    }

    /// Returns the idle deadline after a use at `at`, the absolute one not considered.
    fn idle_deadline_after(&self, at: Millis) -> Millis {
        let (used, deadline) = (self.millis(AT_LAST_ACTIVE), self.millis(AT_IDLE_DEADLINE));
        // A deadline before the last use leaves no idle time, and a use does not move it back.
        let idle = deadline.0.saturating_sub(used.0);
        deadline.max(Millis(at.0.saturating_add(idle)))
    }

    /// Returns the deadline of the record once it was used at `at`.
    pub(crate) fn deadline_after(&self, at: Millis) -> Millis {
        self.idle_deadline_after(at).min(self.millis(AT_ABSOLUTE_DEADLINE))
    }

    /// Sets the last use to `at` and the idle deadline to `deadline`, or to the absolute one if that is earlier.
    pub(crate) fn set_use(&mut self, at: Millis, deadline: Millis) {
        let deadline = deadline.min(self.millis(AT_ABSOLUTE_DEADLINE));
        let bytes = Arc::make_mut(&mut self.0);
        let mut put = |place: usize, number: Millis| {
            bytes[place..place + 8].copy_from_slice(&number.0.to_be_bytes());
        };
        put(AT_LAST_ACTIVE, at);
        put(AT_IDLE_DEADLINE, deadline);
    }

    /// Returns the record in a format that does not exist yet, for tests.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn of_newer_release(&self) -> Record {
        const FIELD: &[u8] = &[100, 0, 1, 9];
        const DATA: &[u8] = b"\xc1\xc1";
        let mut bytes = [&self.0[..HEADER], self.fields(), FIELD, DATA].concat();
        bytes[AT_FORMAT..AT_VERSION].copy_from_slice(&[u8::MAX, 77, 5, 6]);
        bytes[AT_FIELDS_LEN..AT_DATA_LEN]
            .copy_from_slice(&((self.fields().len() + FIELD.len()) as u32).to_be_bytes());
        bytes[AT_DATA_LEN..HEADER].copy_from_slice(&(DATA.len() as u32).to_be_bytes());
        Record(Arc::from(bytes))
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
        be_u64(&self.0[AT_VERSION..])
    }

    /// Returns the user whom the session belongs to; `None` for an anonymous session and for a tombstone.
    pub fn principal(&self) -> Option<Principal> {
        Principal::new(std::str::from_utf8(self.user()?).ok()?).ok()
    }

    /// Returns the user's name as it is stored, for a comparison without a copy.
    pub(crate) fn user(&self) -> Option<&[u8]> {
        self.field(TAG_PRINCIPAL)
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
        Fields(self.fields()).flatten().filter(|(tag, _)| *tag == TAG_LABEL).map(|(_, value)| value)
    }

    pub(crate) fn has_label(&self, label: &[u8]) -> bool {
        self.label_values().any(|value| value == label)
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
        let text = |tag| self.field(tag).and_then(|value| std::str::from_utf8(value).ok()).map(Box::from);
        let device = Device { user_agent: text(TAG_USER_AGENT), network: text(TAG_NETWORK) };
        Meta {
            times: self.times(),
            principal: self.principal(),
            lifetime: self.lifetime(),
            ends_by: self
                .field(TAG_ENDS_BY)
                .filter(|value| value.len() == 8)
                .map(|value| Millis(be_u64(value))),
            level: self.field(TAG_LEVEL).and_then(<[u8]>::first).map(|number| Level::new(*number)),
            device: (!device.is_empty()).then_some(device),
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
        &self.0[HEADER + be_u32(&self.0[AT_FIELDS_LEN..])..]
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
        self.has_fields() && self.has_mark()
    }

    #[inline]
    pub(crate) fn has_fields(&self) -> bool {
        be_u32(&self.header()[AT_FIELDS_LEN..]) != 0
    }

    fn has_mark(&self) -> bool {
        let is_mark = |tag| matches!(tag, TAG_SUCCESSOR | TAG_ENDED);
        Fields(self.fields()).flatten().any(|(tag, _)| is_mark(tag))
    }

    /// Returns what a tombstone says; `None` for a session.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let key = |value| std::str::from_utf8(value).ok()?.parse().ok();
        match (self.field(TAG_SUCCESSOR), self.field(TAG_GRACE_END)) {
            (Some(successor), Some(end)) => {
                Some(Mark::Rotated { successor: key(successor)?, until: Millis(be_u64(end)) })
            }
            (Some(successor), None) => Some(Mark::Replaced { successor: key(successor)? }),
            (None, _) => self.field(TAG_ENDED).map(|_| Mark::Ended),
        }
    }

    /// Returns the session's own lifetime; `None` if the manager's policy applies.
    #[inline]
    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        // Most records have no fields at all.
        if !self.has_fields() {
            return None;
        }
        self.field(TAG_LIFETIME).and_then(Lifetime::from_bytes)
    }

    pub(crate) fn codec(&self) -> Codec {
        Codec::from_tag(self.0[AT_CODEC]).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn times(&self) -> Times {
        let header = self.header();
        let millis = |place: usize| Millis(be_u64(&header[place..place + 8]));
        Times {
            version: millis(AT_VERSION).0,
            created: millis(AT_CREATED),
            issued: millis(AT_ISSUED),
            last_active: millis(AT_LAST_ACTIVE),
            idle_deadline: millis(AT_IDLE_DEADLINE),
            absolute_deadline: millis(AT_ABSOLUTE_DEADLINE),
            authenticated: Some(millis(AT_AUTHENTICATED)).filter(|at| at.0 != 0),
        }
    }

    fn millis(&self, place: usize) -> Millis {
        Millis(be_u64(&self.header()[place..]))
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Millis {
        self.millis(AT_IDLE_DEADLINE).min(self.millis(AT_ABSOLUTE_DEADLINE))
    }

    /// Returns format version, codec and the reserved bytes. They say how the rest is to be read.
    fn form(&self) -> [u8; 4] {
        let header = self.header();
        [header[AT_FORMAT], header[AT_CODEC], header[6], header[7]]
    }

    /// Returns the header. Its length is known, so its bounds are checked once.
    fn header(&self) -> &[u8; HEADER] {
        self.0.first_chunk().unwrap_or(&[0; HEADER])
    }

    pub(super) fn fields(&self) -> &[u8] {
        &self.0[HEADER..HEADER + be_u32(&self.0[AT_FIELDS_LEN..])]
    }

    pub(super) fn field(&self, tag: u8) -> Option<&[u8]> {
        let mut fields = Fields(self.fields());
        fields.find_map(|field| field.ok().filter(|(found, _)| *found == tag)).map(|(_, value)| value)
    }
}

/// Encodes the fields in the order of the specification, which golden files compare. An absent field takes no bytes.
fn fields_of(meta: &Meta, mark: Option<&Mark>) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut push =
        |tag, value: Option<&[u8]>| value.into_iter().for_each(|value| push_field(&mut fields, tag, value));
    push(TAG_PRINCIPAL, meta.principal.as_ref().map(|principal| principal.as_str().as_bytes()));
    match mark {
        None => {}
        Some(Mark::Ended) => push(TAG_ENDED, Some(b"")),
        Some(Mark::Replaced { successor }) => {
            push(TAG_SUCCESSOR, Some(successor.as_bytes()));
            push(TAG_ENDED, Some(b""));
        }
        Some(Mark::Rotated { successor, until }) => {
            push(TAG_SUCCESSOR, Some(successor.as_bytes()));
            push(TAG_GRACE_END, Some(&until.0.to_be_bytes()));
        }
    }
    push(TAG_LIFETIME, meta.lifetime.map(Lifetime::to_bytes).as_ref().map(|bytes| &bytes[..]));
    push(TAG_ENDS_BY, meta.ends_by.map(|end| end.0.to_be_bytes()).as_ref().map(|bytes| &bytes[..]));
    push(TAG_LEVEL, meta.level.map(|level| [level.number()]).as_ref().map(|bytes| &bytes[..]));
    if let Some(device) = &meta.device {
        push(TAG_USER_AGENT, device.user_agent().map(str::as_bytes));
        push(TAG_NETWORK, device.network().map(str::as_bytes));
    }
    meta.labels.iter().for_each(|label| push(TAG_LABEL, Some(label.as_str().as_bytes())));
    fields
}

/// Returns true if neither [`Meta`] nor [`Mark`] has this field, so that a rewrite must keep it.
fn is_unknown(tag: u8) -> bool {
    let optional = tag >= OPTIONAL_TAGS && !matches!(tag, TAG_USER_AGENT | TAG_NETWORK | TAG_LABEL);
    optional || (!is_of_session(tag) && !is_of_tombstone(tag))
}

/// Returns true if a session that this build reads may have this field.
fn is_of_session(tag: u8) -> bool {
    matches!(tag, TAG_PRINCIPAL | TAG_LIFETIME | TAG_ENDS_BY | TAG_LEVEL | OPTIONAL_TAGS..)
}

fn is_of_tombstone(tag: u8) -> bool {
    matches!(tag, TAG_SUCCESSOR | TAG_GRACE_END | TAG_ENDED)
}

fn form_of(codec: Codec) -> [u8; 4] {
    [VERSION, codec.tag(), 0, 0]
}

/// A record that still lacks its data. Large, so it stays where it was made.
struct Draft(Buffer);

impl Draft {
    fn new() -> Self {
        Draft(Buffer::new())
    }

    /// Writes the header and the fields, and reserves `room` bytes for the data. The length of the data is set by [`finish`](Self::finish).
    #[inline]
    fn begin(&mut self, form: [u8; 4], times: Times, fields: &[u8], room: usize) {
        let mut header = [0; HEADER];
        header[..AT_FORMAT].copy_from_slice(MAGIC);
        header[AT_FORMAT..AT_VERSION].copy_from_slice(&form);
        let mut put = |place: usize, number: u64| {
            header[place..place + 8].copy_from_slice(&number.to_be_bytes());
        };
        put(AT_VERSION, times.version);
        put(AT_CREATED, times.created.0);
        put(AT_ISSUED, times.issued.0);
        put(AT_LAST_ACTIVE, times.last_active.0);
        put(AT_IDLE_DEADLINE, times.idle_deadline.0);
        put(AT_ABSOLUTE_DEADLINE, times.absolute_deadline.0);
        put(AT_AUTHENTICATED, times.authenticated.map_or(0, |at| at.0));
        header[AT_FIELDS_LEN..AT_DATA_LEN].copy_from_slice(&(fields.len() as u32).to_be_bytes());
        self.0.reserve(HEADER + fields.len() + room);
        self.0.extend_from_slice(&header);
        if !fields.is_empty() {
            self.0.extend_from_slice(fields);
        }
    }

    #[inline]
    fn finish(&mut self) -> Record {
        let data = self.0.len() - HEADER - be_u32(&self.0[AT_FIELDS_LEN..]);
        // The limits of the encoder keep the data far below 4 GiB.
        self.0[AT_DATA_LEN..HEADER].copy_from_slice(&(data as u32).to_be_bytes());
        Record(Arc::from(&self.0[..]))
    }
}

pub(super) fn push_field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    // Every field is bounded by its own type, at 256 bytes or less.
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
}

/// The fields of a record: a tag, a length in two bytes and the value, each.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8]), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let tag = *self.0.first()?;
        let split = self.0.get(1..3).and_then(|len| {
            let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
            self.0[3..].split_at_checked(len)
        });
        let (value, rest) = split.unwrap_or_default();
        self.0 = rest;
        Some(if split.is_some() { Ok((tag, value)) } else { Err(FormatError::Field { tag }) })
    }
}

/// Answers whether `bytes` is a record, but for its data. Of a newer format it checks what every format has in common.
fn check(bytes: &[u8]) -> Result<(), FormatError> {
    let header = bytes.get(..HEADER).ok_or(FormatError::Short { found: bytes.len() })?;
    if &header[..AT_FORMAT] != MAGIC || header[AT_FORMAT] < VERSION {
        return Err(FormatError::Magic);
    }
    let newer = header[AT_FORMAT] > VERSION;
    if !newer && header[6..8] != [0, 0] {
        return Err(FormatError::Reserved);
    }
    let fields = be_u32(&header[AT_FIELDS_LEN..]);
    let data = be_u32(&header[AT_DATA_LEN..]);
    if fields > MAX_FIELDS || HEADER + fields + data != bytes.len() {
        return Err(FormatError::Length { found: bytes.len(), fields, data });
    }
    let (mut successor, mut grace_end, mut ended, mut labels) = (false, false, false, 0);
    for field in Fields(&bytes[HEADER..HEADER + fields]) {
        let (tag, value) = field?;
        let text = std::str::from_utf8(value).ok();
        let well_formed = match tag {
            TAG_PRINCIPAL => text.is_some_and(|name| Principal::new(name).is_ok()),
            TAG_SUCCESSOR => {
                successor = true;
                text.is_some_and(|key| key.parse::<StoreKey>().is_ok())
            }
            TAG_GRACE_END => {
                grace_end = true;
                value.len() == 8
            }
            TAG_ENDED => {
                ended = true;
                value.is_empty()
            }
            _ if newer => true,
            TAG_LIFETIME => Lifetime::from_bytes(value).is_some(),
            TAG_ENDS_BY => value.len() == 8,
            TAG_LEVEL => value.len() == 1,
            TAG_USER_AGENT | TAG_NETWORK => text.is_some(),
            TAG_LABEL => {
                labels += 1;
                labels <= Label::MAX_COUNT && text.is_some_and(|label| Label::new(label).is_ok())
            }
            // A newer release's own.
            _ => true,
        };
        if !well_formed {
            return Err(FormatError::Field { tag });
        }
    }
    // A successor is of an id that was rotated, which has a grace, or of one that has ended, which has none.
    match (successor, grace_end, ended) {
        (false, false, _) | (true, true, false) | (true, false, true) => Ok(()),
        _ => Err(FormatError::Field { tag: TAG_SUCCESSOR }),
    }
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

fn be_u32(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk) as usize)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error("expected a record of at least {HEADER} bytes, found {found}")]
    Short { found: usize },
    #[error("expected a record that begins with CLKR; these bytes are something else")]
    Magic,
    #[error("expected two zero bytes at offset 6")]
    Reserved,
    #[error("the record says {fields} bytes of fields and {data} of data, which are not the {found} found")]
    Length { found: usize, fields: usize, data: usize },
    #[error("field {tag} is malformed")]
    Field { tag: u8 },
}

/// The reason why this build cannot read a record that is not corrupt.
#[derive(Debug, thiserror::Error)]
enum Incompatibility {
    #[error(
        "a newer release wrote this session, in format {found} where this one reads {VERSION}; it is left as it is: \
         finish the upgrade, or let the session end"
    )]
    Format { found: u8 },
    #[error(
        "a newer release wrote this session, with codec {found}; it is left as it is: finish the upgrade, or let the session end"
    )]
    Codec { found: u8 },
    #[error(
        "this session's codec is gob, which is not built in; it is left as it is: build with the feature `beego`"
    )]
    Feature,
    #[error(
        "a newer release wrote this session, with field {tag}, which this one does not know; it is left as it is: \
         finish the upgrade, or let the session end"
    )]
    Field { tag: u8 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let times = Times {
            version: 7,
            created: Millis(1_000),
            issued: Millis(1_500),
            last_active: Millis(2_000),
            idle_deadline: Millis(3_000),
            absolute_deadline: Millis::NEVER,
            authenticated: Some(Millis(1_500)),
        };
        let principal = Some(Principal::new("alice").unwrap());
        Record::new(&Meta::new(times, principal), Codec::MESSAGE_PACK, b"\x81\xa1n\x01")
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let live = sample();
        assert_eq!(Record::from_bytes(live.as_bytes()).unwrap(), live);
        assert_eq!((live.version(), live.data()), (7, &b"\x81\xa1n\x01"[..]));
        assert_eq!(live.principal(), Some(Principal::new("alice").unwrap()));
        let successor: StoreKey = "abcdef".parse().unwrap();
        for mark in [
            Mark::Rotated { successor: successor.clone(), until: Millis(9) },
            Mark::Replaced { successor },
            Mark::Ended,
        ] {
            let tombstone = live.tombstone(&mark, Millis(5), Millis(10));
            assert_eq!(Record::from_bytes(tombstone.as_bytes()).unwrap(), tombstone);
            assert!(tombstone.is_tombstone() && !live.is_tombstone());
            assert_eq!((tombstone.mark(), tombstone.principal()), (Some(mark), None));
            assert_eq!(
                (tombstone.deadline(), tombstone.version(), tombstone.data()),
                (Millis(10), 8, &b""[..])
            );
        }
    }

    #[test]
    fn what_a_session_has_of_its_own_reads_back() {
        let mut record = sample();
        let lifetime = Lifetime::remembered(std::time::Duration::from_secs(77));
        let mut headers = http::HeaderMap::new();
        headers.insert("user-agent", "Firefox".parse().unwrap());
        let device = Device::of_request(&headers).with_address("10.1.2.3".parse().unwrap());
        record.edit(|meta| {
            meta.lifetime = Some(lifetime);
            meta.ends_by = Some(Millis(4_000));
            meta.level = Some(Level::new(3));
            meta.device = Some(device.clone());
        });
        let read = Record::from_bytes(record.as_bytes()).unwrap().meta();
        assert_eq!(
            (read.lifetime, read.ends_by, read.level()),
            (Some(lifetime), Some(Millis(4_000)), Some(Level::new(3)))
        );
        assert_eq!((read.device(), read.principal()), (Some(&device), sample().principal().as_ref()));
        record.edit(|meta| *meta = sample().meta());
        assert_eq!(record, sample());
    }

    #[test]
    fn fields_that_contradict_one_another_are_an_error() {
        let with_fields = |fields: &[(u8, &[u8])]| {
            let mut added = Vec::new();
            fields.iter().for_each(|(tag, value)| push_field(&mut added, *tag, value));
            let mut bytes = sample().as_bytes().to_vec();
            let end = bytes.len() - 4;
            bytes.splice(end..end, added.iter().copied());
            let len = (be_u32(&bytes[64..]) + added.len()) as u32;
            bytes[64..68].copy_from_slice(&len.to_be_bytes());
            Record::from_bytes(&bytes).is_ok()
        };
        let (key, time, none): (&[u8], &[u8], &[u8]) = (b"abcdef", &[0; 8], b"");
        assert!(
            with_fields(&[(2, key), (3, time)])
                && with_fields(&[(2, key), (4, none)])
                && with_fields(&[(4, none)])
        );
        assert!(
            !with_fields(&[(2, key)]) && !with_fields(&[(3, time)]) && !with_fields(&[(3, time), (4, none)])
        );
        assert!(!with_fields(&[(2, key), (3, time), (4, none)]) && !with_fields(&[(4, b"x")]));
        assert!(
            !with_fields(&[(5, &[2; 17])]) && !with_fields(&[(5, &[0; 16])]) && !with_fields(&[(7, none)])
        );
    }

    #[test]
    fn a_touch_moves_two_times_and_never_past_the_absolute_deadline() {
        let mut record = sample();
        record.edit(|meta| meta.times.absolute_deadline = Millis(5_000));
        let before = record.times();
        record.touch(Millis(before.last_active.0 + 3_000).into());
        let used = Millis(before.last_active.0 + 3_000);
        let expected = Times { last_active: used, idle_deadline: Millis(5_000), ..before };
        assert_eq!(record.times(), expected);
        assert_eq!(record.data(), sample().data());
    }

    #[test]
    fn touches_give_the_same_times_in_any_order() {
        for absolute in [3_700, 5_500, u64::MAX] {
            let mut record = sample();
            record.edit(|meta| meta.times.absolute_deadline = Millis(absolute));
            let touched = |order: [u64; 3]| {
                let mut record = record.clone();
                order.into_iter().for_each(|at| record.touch(Millis(at).into()));
                record.times()
            };
            let orders = [[1_900, 2_500, 2_900], [2_900, 1_900, 2_500], [2_500, 2_900, 1_900]];
            assert_eq!(touched(orders[0]), touched(orders[1]), "{absolute}");
            assert_eq!(touched(orders[0]), touched(orders[2]), "{absolute}");
        }
    }

    #[test]
    fn a_touch_survives_odd_times() {
        let odd = [0, 1, 2_000, 1 << 53, u64::MAX - 1, u64::MAX];
        for (used, idle) in odd.into_iter().flat_map(|used| odd.map(|idle| (used, idle))) {
            for at in odd {
                let mut record = sample();
                record.edit(|meta| {
                    let times = &mut meta.times;
                    (times.last_active, times.idle_deadline) = (Millis(used), Millis(idle));
                    times.absolute_deadline = Millis::NEVER;
                });
                record.touch_at(Millis(at));
                let expected = at.saturating_add(idle.saturating_sub(used)).max(idle);
                let times = record.times();
                assert_eq!((times.last_active.0, times.idle_deadline.0), (used.max(at), expected));
            }
        }
    }

    #[test]
    fn labels_come_back_and_are_bounded() {
        let label = |n: usize| Label::new(format!("label-{n}")).unwrap();
        let mut record = sample();
        record.edit(|meta| meta.labels = (0..Label::MAX_COUNT).map(label).collect());
        let read = Record::from_bytes(record.as_bytes()).unwrap();
        assert_eq!(read.labels(), (0..Label::MAX_COUNT).map(label).collect::<Vec<_>>());
        assert_eq!(read.meta().labels(), read.labels());
        assert_eq!(read.index_entries().count(), 1 + Label::MAX_COUNT);
        record.edit(|meta| meta.labels.push(label(9)));
        assert_eq!(Record::from_bytes(record.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
        record.edit(|meta| *meta = sample().meta());
        assert_eq!(record, sample(), "a rewrite carries no label along");
    }

    #[test]
    fn every_truncation_and_every_appended_byte_is_an_error() {
        let bytes = sample().as_bytes().to_vec();
        for len in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
        }
        let longer = [&bytes[..], b"\0"].concat();
        assert_eq!(Record::from_bytes(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn an_unknown_field_is_passed_over_only_where_its_tag_allows() {
        let with_field = |tag| {
            let mut bytes = sample().as_bytes().to_vec();
            let end = bytes.len() - 4;
            bytes.splice(end..end, [tag, 0, 2, 9, 9]);
            let fields = be_u32(&bytes[64..]) as u32 + 5;
            bytes[64..68].copy_from_slice(&fields.to_be_bytes());
            Record::from_bytes(&bytes)
        };
        let read = with_field(200).unwrap();
        assert_eq!((read.meta(), read.data()), (sample().meta(), sample().data()));
        read.check_readable().unwrap();
        assert!(read.is_plain());
        let newer = with_field(100).unwrap();
        let refused = newer.check_readable().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Incompatible);
        assert!(refused.to_string().contains("field 100") && !newer.is_plain());
    }

    #[test]
    fn a_newer_format_tells_its_deadlines_user_and_kind() {
        let (ours, newer) = (sample(), sample().of_newer_release());
        assert_eq!(Record::from_bytes(newer.as_bytes()).unwrap(), newer);
        assert_eq!((newer.times(), newer.principal()), (ours.times(), ours.principal()));
        assert!(!newer.is_tombstone() && !newer.is_plain());
        let refused = newer.check_readable().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Incompatible);
        assert!(refused.to_string().contains("format 255 where this one reads 1"), "{refused}");
        let mut touched = newer.clone();
        touched.touch(Millis(2_500).into());
        assert_eq!(touched.times().last_active, Millis(2_500));
        assert_eq!((touched.form(), touched.data()), (newer.form(), newer.data()));
    }

    #[test]
    fn a_rewrite_keeps_the_form_and_the_fields_of_a_newer_release() {
        let newer = sample().of_newer_release();
        let mut edited = newer.clone();
        edited.edit(|meta| meta.times.version += 1);
        assert_eq!(
            (edited.form(), edited.data(), edited.field(100)),
            (newer.form(), newer.data(), newer.field(100))
        );
    }

    #[test]
    fn a_newer_session_is_ended_by_a_tombstone_of_this_release() {
        let ended = sample().of_newer_release().tombstone(&Mark::Ended, Millis(5), Millis(10));
        assert_eq!((ended.mark(), ended.version()), (Some(Mark::Ended), 8));
        ended.check_readable().unwrap();
    }

    #[test]
    fn a_codec_that_is_not_built_in_is_no_corruption() {
        let mut bytes = sample().as_bytes().to_vec();
        bytes[AT_CODEC] = 9;
        let record = Record::from_bytes(&bytes).unwrap();
        let refused = record.check_readable().unwrap_err();
        assert_eq!((refused.kind(), record.is_plain()), (ErrorKind::Incompatible, false));
        assert!(refused.to_string().contains("codec 9"), "{refused}");
        bytes[AT_FORMAT] = 0;
        assert_eq!(Record::from_bytes(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn lengths_that_do_not_add_up_allocate_nothing() {
        let mut bytes = sample().as_bytes().to_vec();
        bytes[68..72].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Record::from_bytes(&bytes).unwrap_err().to_string().contains("4294967295 of data"));
    }
}
