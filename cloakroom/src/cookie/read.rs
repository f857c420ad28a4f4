//! Reading the cookies of one name from a request's `Cookie` headers.

use http::header::HeaderValue;

/// Calls `take` with the value of every cookie called `name`, in the order of the headers.
///
/// Names are compared byte by byte, so that no other cookie passes for `__Host-`. Only the blanks and tabs between pairs are
/// trimmed; nothing is decoded or case-folded. Malformed pairs are ignored.
pub(crate) fn each_token<'a>(
    headers: impl IntoIterator<Item = &'a HeaderValue>,
    name: &[u8],
    mut take: impl FnMut(&'a [u8]),
) {
    for header in headers {
        let mut rest = Some(header.as_bytes());
        while let Some(pairs) = rest {
            let pair = match memchr::memchr(b';', pairs) {
                Some(end) => {
                    rest = Some(&pairs[end + 1..]);
                    &pairs[..end]
                }
                None => {
                    rest = None;
                    pairs
                }
            };
            if let Some([b'=', token @ ..]) = trim(pair).strip_prefix(name) {
                take(token);
            }
        }
    }
}

fn trim(mut pair: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', tail @ ..] = pair {
        pair = tail;
    }
    while let [head @ .., b' ' | b'\t'] = pair {
        pair = head;
    }
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[&[u8]], name: &str) -> Vec<String> {
        let headers: Vec<_> = headers.iter().map(|bytes| HeaderValue::from_bytes(bytes).unwrap()).collect();
        let mut found = Vec::new();
        each_token(&headers, name.as_bytes(), |value| found.push(String::from_utf8_lossy(value).into()));
        found
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        for neighbour in [
            "\u{2000}__Host-id=x",
            "\u{a0}__Host-id=x",
            "%5F%5FHost-id=x",
            "..Host-id=x",
            "__host-id=x",
            "__Host-id =x",
            "=__Host-id=x",
            "__Host-id",
            "a__Host-id=x",
            "__Host-idx=x",
        ] {
            assert_eq!(found(&[neighbour.as_bytes()], "__Host-id"), [""; 0], "{neighbour}");
        }
    }

    #[test]
    fn several_headers_equal_one() {
        let one = found(&[b"a=1; id=x; b=2; id=y"], "id");
        let crumbs = found(&[b"a=1", b"id=x", b"b=2", b"id=y"], "id");
        assert_eq!(one, ["x", "y"]);
        assert_eq!(crumbs, one);
    }

    #[test]
    fn a_malformed_pair_hides_no_cookie() {
        assert_eq!(found(&[b"\xff\xfe=\x80; ;;=;id=x ;\t\"broken"], "id"), ["x"]);
        assert_eq!(found(&[b"id="], "id"), [""]);
        assert_eq!(found(&[b""], "id"), [""; 0]);
    }
}
