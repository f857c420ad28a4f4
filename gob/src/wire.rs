//! Numbers, bytes and messages of a gob, as the documentation of encoding/gob gives them.

use crate::error::Reason;

/// A position in a gob, which is a sequence of messages, each after its length.
///
/// A value may continue in the next message: a type definition within it ends the message.
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    /// The end of the current message.
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Reader { data, at: 0, end: 0 }
    }

    /// Returns true if the current message has been read to its end.
    pub(crate) fn at_end(&self) -> bool {
        self.at == self.end
    }

    /// Returns the number of unread bytes in this message and all later ones: an upper bound on what can follow.
    pub(crate) fn remaining(&self) -> u64 {
        (self.data.len() - self.at) as u64
    }

    /// Moves to the next message; an error if there is none.
    pub(crate) fn next_message(&mut self) -> Result<(), Reason> {
        self.end = self.data.len();
        let len = self.uint()?;
        match usize::try_from(len).ok().and_then(|len| self.at.checked_add(len)) {
            Some(end) if end <= self.data.len() => self.end = end,
            _ => return Err(Reason::Truncated),
        }
        Ok(())
    }

    pub(crate) fn uint(&mut self) -> Result<u64, Reason> {
        let at = self.at;
        let first = self.take(1)?[0];
        if first <= 0x7f {
            return Ok(u64::from(first));
        }
        // The byte count, negated. More than eight bytes are an error. Go accepts leading zeros, and so does this.
        let width = usize::from(first.wrapping_neg());
        if width > 8 {
            return Err(Reason::Number { at });
        }
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(crate) fn int(&mut self) -> Result<i64, Reason> {
        let bits = self.uint()?;
        let magnitude = (bits >> 1) as i64;
        Ok(if bits & 1 == 1 { !magnitude } else { magnitude })
    }

    /// Reads the bits of a float, whose bytes gob sends in reverse order.
    pub(crate) fn float_bits(&mut self) -> Result<u64, Reason> {
        self.uint().map(u64::swap_bytes)
    }

    /// Reads bytes and the length before them.
    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Reason> {
        let found = self.uint()?;
        match usize::try_from(found) {
            Ok(len) if len <= self.end - self.at => self.take(len),
            _ => Err(Reason::Length { what, found }),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        if self.end - self.at < len {
            return Err(Reason::Truncated);
        }
        let start = self.at;
        self.at += len;
        Ok(&self.data[start..self.at])
    }
}

pub(crate) fn put_uint(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        _ => {
            let bytes = number.to_be_bytes();
            let zeros = number.leading_zeros() as usize / 8;
            out.push((8 - zeros as u8).wrapping_neg());
            out.extend_from_slice(&bytes[zeros..]);
        }
    }
}

pub(crate) fn put_int(out: &mut Vec<u8>, number: i64) {
    let bits = if number < 0 { (!number as u64) << 1 | 1 } else { (number as u64) << 1 };
    put_uint(out, bits);
}

pub(crate) fn put_float_bits(out: &mut Vec<u8>, bits: u64) {
    put_uint(out, bits.swap_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends `message` to `out` after its length, and clears it.
pub(crate) fn put_message(out: &mut Vec<u8>, message: &mut Vec<u8>) {
    put_bytes(out, message);
    message.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T>(
        bytes: &'a [u8],
        read: impl Fn(&mut Reader<'a>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let mut reader = Reader { data: bytes, at: 0, end: bytes.len() };
        read(&mut reader)
    }

    #[test]
    fn numbers_are_written_as_go_documents_them() {
        // encoding/gob: "the value 256 is transmitted as (FE 01 00)", "-129 ... FE 01 01", and 17.0 as FE 31 40.
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            out
        };
        assert_eq!(written(&|out| put_uint(out, 7)), b"\x07");
        assert_eq!(written(&|out| put_uint(out, 256)), b"\xfe\x01\x00");
        assert_eq!(written(&|out| put_uint(out, u64::MAX)), b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(written(&|out| put_int(out, -129)), b"\xfe\x01\x01");
        assert_eq!(written(&|out| put_int(out, i64::MIN)), b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(written(&|out| put_float_bits(out, 17.0_f64.to_bits())), b"\xfe\x31\x40");
    }

    #[test]
    fn numbers_round_trip_at_every_width() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_uint(&mut out, number);
                assert_eq!(read(&out, Reader::uint).unwrap(), number);
                let mut out = Vec::new();
                put_int(&mut out, number as i64);
                assert_eq!(read(&out, Reader::int).unwrap(), number as i64);
            }
        }
    }

    #[test]
    fn a_false_length_is_an_error() {
        assert!(matches!(read(b"\xf7123456789", Reader::uint), Err(Reason::Number { at: 0 })));
        assert!(matches!(read(b"\x80", Reader::uint), Err(Reason::Number { at: 0 })));
        assert!(matches!(read(b"\xfe\x01", Reader::uint), Err(Reason::Truncated)));
        assert!(matches!(
            read(b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff", |reader| reader.bytes("a text").map(drop)),
            Err(Reason::Length { .. })
        ));
        let mut reader = Reader::new(b"\x05abc");
        assert!(matches!(reader.next_message(), Err(Reason::Truncated)));
    }
}
