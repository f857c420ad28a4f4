//! The values behind a statement's `?`: bound to a prepared statement, or written into its text.

use std::fmt::Write;

use sqlx::Arguments as _;
use sqlx::mysql::MySqlArguments;

/// The values of a statement, in the order of its `?`.
#[derive(Default)]
pub(super) struct Arguments<'a>(Vec<Value<'a>>);

enum Value<'a> {
    Number(u64),
    /// Signed, as the expression is that stands for the server's clock.
    Time(Option<i64>),
    Nothing,
    Bytes(&'a [u8]),
    /// Compared by the collation of a column, where bytes are not.
    Text(&'a str),
}

impl<'a> Arguments<'a> {
    pub(super) fn bytes(&mut self, bytes: &'a [u8]) {
        self.0.push(Value::Bytes(bytes));
    }

    pub(super) fn optional(&mut self, bytes: Option<&'a [u8]>) {
        self.0.push(bytes.map_or(Value::Nothing, Value::Bytes));
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.push(Value::Number(number));
    }

    pub(super) fn text(&mut self, text: &'a str) {
        self.0.push(Value::Text(text));
    }

    /// The time that deadlines are compared with; `None` for the server's own.
    pub(super) fn now(&mut self, now: Option<i64>) {
        self.0.push(Value::Time(now));
    }

    /// For a prepared statement.
    pub(super) fn encoded(&self) -> MySqlArguments {
        let mut encoded = MySqlArguments::default();
        for value in &self.0 {
            // Numbers, texts and bytes encode without fail; were one left out, the driver would refuse the statement for its count.
            let _ = match value {
                Value::Number(number) => encoded.add(number),
                Value::Time(time) => encoded.add(time),
                Value::Nothing => encoded.add(None::<&[u8]>),
                Value::Bytes(bytes) => encoded.add(*bytes),
                Value::Text(text) => encoded.add(*text),
            };
        }
        encoded
    }

    /// `sql` with the values in the place of its `?`: digits, or hexadecimal, which needs no escaping.
    pub(super) fn inlined(&self, sql: &str) -> String {
        let mut parts = sql.split('?');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (value, part) in self.0.iter().zip(parts) {
            // A String takes whatever is written.
            let _ = match value {
                Value::Number(number) => write!(text, "{number}"),
                Value::Time(Some(time)) => write!(text, "{time}"),
                Value::Time(None) | Value::Nothing => write!(text, "NULL"),
                Value::Bytes(bytes) => write!(text, "x'{}'", data_encoding::HEXLOWER.encode_display(bytes)),
                Value::Text(letters) => {
                    write!(text, "_utf8mb4 x'{}'", data_encoding::HEXLOWER.encode_display(letters.as_bytes()))
                }
            };
            text.push_str(part);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_a_text_cannot_end_its_quotes() {
        let mut bound = Arguments::default();
        bound.bytes(b"a'\\\0");
        bound.text("ä'");
        bound.number(u64::MAX);
        bound.optional(None);
        bound.now(None);
        assert_eq!(
            bound.inlined("SELECT ?, ? WHERE a = ? AND b = ? OR c > COALESCE(?, 1)"),
            "SELECT x'61275c00', _utf8mb4 x'c3a427' WHERE a = 18446744073709551615 AND b = NULL OR c > COALESCE(NULL, 1)"
        );
    }
}
