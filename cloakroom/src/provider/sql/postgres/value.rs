//! The values that are bound to statements.

use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// A bound value.
///
/// `Debug` shows no value, since the driver logs the parameters of each statement at the level `debug`.
pub(super) enum SqlValue<'a> {
    Bytes(&'a [u8]),
    Text(&'a str),
    Number(i64),
    /// A number or NULL.
    MaybeNumber(Option<i64>),
    Flag(bool),
    Texts(&'a [&'a str]),
    ByteStrings(&'a [&'a [u8]]),
}

impl SqlValue<'_> {
    /// Returns the type that the statement is told. The server then infers nothing.
    pub(super) fn kind(&self) -> Type {
        match self {
            SqlValue::Bytes(_) => Type::BYTEA,
            SqlValue::Text(_) => Type::TEXT,
            SqlValue::Number(_) | SqlValue::MaybeNumber(_) => Type::INT8,
            SqlValue::Flag(_) => Type::BOOL,
            SqlValue::Texts(_) => Type::TEXT_ARRAY,
            SqlValue::ByteStrings(_) => Type::BYTEA_ARRAY,
        }
    }
}

impl std::fmt::Debug for SqlValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            SqlValue::Bytes(bytes) => bytes.to_sql(kind, out),
            SqlValue::Text(text) => text.to_sql(kind, out),
            SqlValue::Number(number) => number.to_sql(kind, out),
            SqlValue::MaybeNumber(number) => number.to_sql(kind, out),
            SqlValue::Flag(flag) => flag.to_sql(kind, out),
            SqlValue::Texts(texts) => texts.to_sql(kind, out),
            SqlValue::ByteStrings(all) => all.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// Converts a time or a length of time to the number that is stored. A larger one becomes the largest, which never comes.
pub(super) fn stored(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// Converts a stored number back to a time.
pub(super) fn unstored(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let values = [SqlValue::Text("secret"), SqlValue::Bytes(b"secret"), SqlValue::Texts(&["secret"])];
        assert_eq!(format!("{values:?}"), "[hidden, hidden, hidden]");
    }
}
