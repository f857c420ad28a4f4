//! The header of a record: its numbers at fixed offsets, read and changed without parsing.

use super::Times;
use crate::clock::Millis;
use crate::codec::Codec;

/// The length of the header in bytes. The fields follow it.
pub(super) const LEN: usize = 72;

/// The first bytes of every record.
pub(super) const MAGIC: &[u8; 4] = b"CLKR";
/// The format that this release writes. A newer release counts up.
pub(super) const VERSION: u8 = 1;

const AT_FORMAT: usize = 4;
const AT_CODEC: usize = 5;
const AT_RESERVED: usize = 6;
/// The bit that is added to the codec's number if the data is sealed.
const SEALED: u8 = 0x80;

/// The offsets of the numbers, eight bytes each.
const AT_VERSION: usize = 8;
const AT_CREATED: usize = 16;
const AT_ISSUED: usize = 24;
const AT_LAST_ACTIVE: usize = 32;
const AT_IDLE_DEADLINE: usize = 40;
const AT_ABSOLUTE_DEADLINE: usize = 48;
const AT_AUTHENTICATED: usize = 56;
/// The offsets of the lengths, four bytes each.
const AT_FIELDS_LEN: usize = 64;
const AT_DATA_LEN: usize = 68;

/// The header of a record, for reading.
#[derive(Clone, Copy)]
pub(super) struct Header<'a>(&'a [u8; LEN]);

impl<'a> Header<'a> {
    /// Returns the header of a checked record. Its length is known, so its bounds are checked once.
    #[inline]
    pub(super) fn of(record: &'a [u8]) -> Self {
        Header::read(record).unwrap_or(Header(&[0; LEN]))
    }

    /// Returns the header at the beginning of `bytes`; `None` if they are too short.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(Header)
    }

    /// Returns true if the bytes say that they are a record, of this format or of a newer one.
    pub(super) fn is_of_record(self) -> bool {
        self.0.starts_with(MAGIC) && self.0[AT_FORMAT] >= VERSION
    }

    /// Returns the number of the format.
    #[inline]
    pub(super) fn format(self) -> u8 {
        self.0[AT_FORMAT]
    }

    /// Returns true if a release wrote the record whose format this one does not know.
    #[inline]
    pub(super) fn is_newer(self) -> bool {
        self.format() != VERSION
    }

    pub(super) fn has_reserved(self) -> bool {
        self.0[AT_RESERVED..AT_VERSION] != [0, 0]
    }

    #[inline]
    pub(super) fn is_sealed(self) -> bool {
        self.0[AT_CODEC] & SEALED != 0
    }

    /// Returns the number of the codec, whether or not the data is sealed.
    pub(super) fn codec_tag(self) -> u8 {
        self.0[AT_CODEC] & !SEALED
    }

    /// Returns the codec of the data; `None` if it is sealed, or if this build lacks the codec.
    #[inline]
    pub(super) fn codec(self) -> Option<Codec> {
        Codec::from_tag(self.0[AT_CODEC])
    }

    /// Returns format, codec and the reserved bytes. They say how the rest is to be read.
    #[inline]
    pub(super) fn form(self) -> [u8; 4] {
        [self.0[AT_FORMAT], self.0[AT_CODEC], self.0[AT_RESERVED], self.0[AT_RESERVED + 1]]
    }

    #[inline]
    pub(super) fn version(self) -> u64 {
        self.millis(AT_VERSION).0
    }

    #[inline]
    pub(super) fn times(self) -> Times {
        Times {
            version: self.version(),
            created: self.millis(AT_CREATED),
            issued: self.millis(AT_ISSUED),
            last_active: self.last_active(),
            idle_deadline: self.millis(AT_IDLE_DEADLINE),
            absolute_deadline: self.absolute_deadline(),
            authenticated: Some(self.millis(AT_AUTHENTICATED)).filter(|at| at.0 != 0),
        }
    }

    #[inline]
    pub(super) fn last_active(self) -> Millis {
        self.millis(AT_LAST_ACTIVE)
    }

    #[inline]
    pub(super) fn absolute_deadline(self) -> Millis {
        self.millis(AT_ABSOLUTE_DEADLINE)
    }

    /// Returns the earlier of the two deadlines.
    #[inline]
    pub(super) fn deadline(self) -> Millis {
        self.millis(AT_IDLE_DEADLINE).min(self.absolute_deadline())
    }

    /// Returns the idle deadline after a use at `at`, the absolute one not considered.
    #[inline]
    pub(super) fn idle_deadline_after(self, at: Millis) -> Millis {
        let (used, deadline) = (self.last_active(), self.millis(AT_IDLE_DEADLINE));
        // A deadline before the last use leaves no idle time, and a use does not move it back.
        let idle = deadline.0.saturating_sub(used.0);
        deadline.max(Millis(at.0.saturating_add(idle)))
    }

    #[inline]
    pub(super) fn fields_len(self) -> usize {
        be_u32(&self.0[AT_FIELDS_LEN..])
    }

    #[inline]
    pub(super) fn data_len(self) -> usize {
        be_u32(&self.0[AT_DATA_LEN..])
    }

    #[inline]
    fn millis(self, at: usize) -> Millis {
        Millis(self.0[at..].first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk)))
    }
}

/// The header at the beginning of some bytes, for changes. A change of bytes that are too short does nothing.
pub(super) struct HeaderMut<'a>(pub(super) &'a mut [u8]);

impl HeaderMut<'_> {
    #[inline]
    pub(super) fn set_last_active(&mut self, at: Millis) {
        self.put(AT_LAST_ACTIVE, at.0.to_be_bytes());
    }

    #[inline]
    pub(super) fn set_idle_deadline(&mut self, deadline: Millis) {
        self.put(AT_IDLE_DEADLINE, deadline.0.to_be_bytes());
    }

    /// Sets whether the data is sealed.
    pub(super) fn set_sealed(&mut self, sealed: bool) {
        if let Some(codec) = self.0.get_mut(AT_CODEC) {
            *codec = if sealed { *codec | SEALED } else { *codec & !SEALED };
        }
    }

    /// Sets the length of the data, which the limits of the encoder keep far below 4 GiB.
    #[inline]
    pub(super) fn set_data_len(&mut self, len: usize) {
        self.put(AT_DATA_LEN, (len as u32).to_be_bytes());
    }

    #[inline]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(place) = self.0.get_mut(at..at + N) {
            place.copy_from_slice(&bytes);
        }
    }
}

/// Returns the form of a record that this release writes.
#[inline]
pub(super) fn form_of(codec: Codec) -> [u8; 4] {
    [VERSION, codec.tag(), 0, 0]
}

/// Returns a header with these numbers. It says that there is no data yet.
#[inline]
pub(super) fn encode(form: [u8; 4], times: &Times, fields: usize) -> [u8; LEN] {
    let mut header = [0; LEN];
    header[..AT_FORMAT].copy_from_slice(MAGIC);
    header[AT_FORMAT..AT_VERSION].copy_from_slice(&form);
    let mut put = |at: usize, number: u64| header[at..at + 8].copy_from_slice(&number.to_be_bytes());
    put(AT_VERSION, times.version);
    put(AT_CREATED, times.created.0);
    put(AT_ISSUED, times.issued.0);
    put(AT_LAST_ACTIVE, times.last_active.0);
    put(AT_IDLE_DEADLINE, times.idle_deadline.0);
    put(AT_ABSOLUTE_DEADLINE, times.absolute_deadline.0);
    put(AT_AUTHENTICATED, times.authenticated.map_or(0, |at| at.0));
    header[AT_FIELDS_LEN..AT_DATA_LEN].copy_from_slice(&(fields as u32).to_be_bytes());
    header
}

#[inline]
fn be_u32(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk) as usize)
}
