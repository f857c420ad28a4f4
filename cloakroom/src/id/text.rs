//! Short ASCII text, and its alphabets.

/// ASCII text, without an allocation up to 54 bytes. That covers the builder's ids and keys, and makes the type 56 bytes.
#[derive(Clone)]
pub(super) enum Text {
    Inline { len: u8, bytes: [u8; Text::INLINE] },
    Heap(Box<[u8]>),
}

impl Text {
    const INLINE: usize = 54;

    /// Joins two parts. The caller guarantees that both are ASCII.
    #[inline]
    pub(super) fn new(first: &[u8], second: &[u8]) -> Self {
        let len = first.len() + second.len();
        if len > Text::INLINE {
            return Text::Heap([first, second].concat().into());
        }
        let mut bytes = [0; Text::INLINE];
        bytes[..first.len()].copy_from_slice(first);
        bytes[first.len()..len].copy_from_slice(second);
        Text::Inline { len: len as u8, bytes }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Text::Heap(text) => text,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Returns true if `text` has only the characters `A-Z a-z 0-9 - _`.
///
/// It runs on every session cookie, so it works on chunks of 16 bytes, which the compiler vectorizes. The last chunk
/// overlaps the one before.
#[inline]
pub(crate) fn are_base64url(text: &[u8]) -> bool {
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & is_base64url(byte));
    match text.last_chunk::<16>() {
        Some(last) => text.as_chunks::<16>().0.iter().all(|piece| all(piece)) && all(last),
        None => all(text),
    }
}

fn is_base64url(byte: u8) -> bool {
    // Arithmetic without a branch: upper and lower case differ in one bit.
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    letter | digit | (byte == b'-') | (byte == b'_')
}

pub(super) fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
