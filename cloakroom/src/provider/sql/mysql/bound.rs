//! The values of a statement: bound to a prepared statement, or written into its text.

use std::fmt::Write;

use sqlx::Arguments as _;
use sqlx::mysql::MySqlArguments;

/// The values of a statement, in the order of its `?`.
#[derive(Default)]
pub(super) struct Arguments<'a>(Vec<BoundValue<'a>>);

enum BoundValue<'a> {
    Number(u64),
    /// A signed number, like the expression for the server's clock.
    Time(Option<i64>),
    Bytes(&'a [u8]),
    /// A text, which is compared by a column's collation. Bytes are not.
    Text(&'a str),
}

impl<'a> Arguments<'a> {
    pub(super) fn bytes(&mut self, bytes: &'a [u8]) {
        self.0.push(BoundValue::Bytes(bytes));
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.push(BoundValue::Number(number));
    }

    pub(super) fn text(&mut self, text: &'a str) {
        self.0.push(BoundValue::Text(text));
    }

    /// Binds the time that deadlines are compared with; `None` for the server's clock.
    pub(super) fn now(&mut self, now: Option<i64>) {
        self.0.push(BoundValue::Time(now));
    }

    /// Returns the values for a prepared statement.
    pub(super) fn encoded(&self) -> MySqlArguments {
        let mut encoded = MySqlArguments::default();
        for value in &self.0 {
            // Numbers, texts and bytes always encode. If one were left out, the driver would refuse the statement.
            let _ = match value {
                BoundValue::Number(number) => encoded.add(number),
                BoundValue::Time(time) => encoded.add(time),
                BoundValue::Bytes(bytes) => encoded.add(*bytes),
                BoundValue::Text(text) => encoded.add(*text),
            };
        }
        encoded
    }

    /// Returns `sql` with the values in the place of its `?`, as digits or hexadecimal, which need no escaping.
    pub(super) fn inlined(&self, sql: &str) -> String {
        let mut parts = sql.split('?');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for (value, part) in self.0.iter().zip(parts) {
            // Writing to a String cannot fail.
            let _ = match value {
                BoundValue::Number(number) => write!(text, "{number}"),
                BoundValue::Time(Some(time)) => write!(text, "{time}"),
                BoundValue::Time(None) => write!(text, "NULL"),
                BoundValue::Bytes(bytes) => {
                    write!(text, "x'{}'", data_encoding::HEXLOWER.encode_display(bytes))
                }
                BoundValue::Text(letters) => {
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
    fn an_inlined_value_cannot_end_its_quotes() {
        let mut bound = Arguments::default();
        bound.bytes(b"a'\\\0");
        bound.text("ä'");
        bound.number(u64::MAX);
        bound.now(None);
        assert_eq!(
            bound.inlined("SELECT ?, ? WHERE a = ? AND b < 2 OR c > COALESCE(?, 1)"),
            "SELECT x'61275c00', _utf8mb4 x'c3a427' WHERE a = 18446744073709551615 AND b < 2 OR c > COALESCE(NULL, 1)"
        );
    }
}
