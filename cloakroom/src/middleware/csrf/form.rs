//! The search for a token in a URL-encoded form, of which bytes arrive in pieces.

/// The result of a search for a form's field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormField {
    Found(String),
    Absent,
    /// The field does not end within the limit.
    TooFar,
}

/// The search for the first field of one name.
#[derive(Debug)]
pub(super) struct FieldSearch {
    name: Box<str>,
    limit: usize,
    /// The bytes after the last whole field.
    unread: Vec<u8>,
    total: usize,
}

impl FieldSearch {
    /// Returns the search for the field `name`, in the first `limit` bytes of a form.
    pub(super) fn new(name: Box<str>, limit: usize) -> Self {
        FieldSearch { name, limit, unread: Vec::new(), total: 0 }
    }

    /// Searches the next bytes of the form. Returns the result, once it is known.
    pub(super) fn read(&mut self, data: &[u8]) -> Option<FormField> {
        self.total = self.total.saturating_add(data.len());
        // Copy at most `limit` bytes, however large a piece is.
        let room = self.limit.saturating_sub(self.unread.len());
        self.unread.extend_from_slice(&data[..data.len().min(room)]);
        let whole = memchr::memrchr(b'&', &self.unread).unwrap_or(0);
        if let Some(value) = first_field(&self.unread[..whole], &self.name) {
            return Some(FormField::Found(value));
        }
        self.unread.drain(..whole);
        (self.total > self.limit).then_some(FormField::TooFar)
    }

    /// Returns the result for a form that has ended.
    pub(super) fn end(&self) -> FormField {
        first_field(&self.unread, &self.name).map_or(FormField::Absent, FormField::Found)
    }
}

/// Returns the value of the first field `name` in `pairs`, which ends with a whole field.
fn first_field(pairs: &[u8], name: &str) -> Option<String> {
    form_urlencoded::parse(pairs).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for the field `t`. Returns the result and the number of unread pieces.
    fn read(pieces: &[&str], limit: usize) -> (FormField, usize) {
        let mut search = FieldSearch::new("t".into(), limit);
        for (place, piece) in pieces.iter().enumerate() {
            if let Some(found) = search.read(piece.as_bytes()) {
                return (found, pieces.len() - place - 1);
            }
        }
        (search.end(), 0)
    }

    #[test]
    fn a_form_is_read_up_to_its_token() {
        let found = |token: &str| FormField::Found(token.to_owned());
        assert_eq!(read(&["t=abc"], 100), (found("abc"), 0));
        assert_eq!(read(&["t=abc&x=", "1", "2"], 100), (found("abc"), 2));
        assert_eq!(read(&["x=1&", "t=a", "bc", "&y=2", "3"], 100), (found("abc"), 1));
        assert_eq!(read(&["x=t=no&t=a%2Db+c&", "1"], 100), (found("a-b c"), 1));
        assert_eq!(read(&["t=one&t=two"], 100), (found("one"), 0));
        assert_eq!(read(&["xt=1&", "tt=2"], 100), (FormField::Absent, 0));
        assert_eq!(read(&[], 100), (FormField::Absent, 0));
        assert_eq!(read(&["t"], 100), (found(""), 0));
    }

    #[test]
    fn a_form_is_read_up_to_the_limit() {
        assert_eq!(read(&["x=12345", "67890&", "t=abc"], 10), (FormField::TooFar, 1));
        assert_eq!(read(&["x=1234567890&t=abc&"], 10), (FormField::TooFar, 0));
        assert_eq!(read(&["t=abcdefgh"], 10), (FormField::Found("abcdefgh".to_owned()), 0));
    }
}
