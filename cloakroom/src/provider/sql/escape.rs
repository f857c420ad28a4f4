//! The decoder of percent-encoded texts.

/// Decodes `escaped`. Returns `None` for a `%` without two hex digits, for a zero byte and for bytes that are not UTF-8.
/// In a query a `+` is a blank.
pub(super) fn unescape(escaped: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            b'+' if query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_texts_are_decoded_and_others_refused() {
        assert_eq!(unescape("a%2Fb%c3%a4+", false).unwrap(), "a/bä+");
        assert_eq!(unescape("a+b%2B", true).unwrap(), "a b+");
        for broken in ["%", "%2", "%zz", "%+1", "a%", "%ff", "%00"] {
            assert_eq!(unescape(broken, true), None, "{broken}");
        }
    }
}
