//! The name of the table, checked so that statements may contain it.

use std::fmt;

/// A table's name: 1 to 57 letters, digits and `_`, not beginning with a digit.
///
/// With the suffix of the index table it has at most 63 characters, the limit of PostgreSQL. MySQL allows 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName(Box<str>);

impl TableName {
    const MOST: usize = 57;

    pub(super) fn new(name: &str) -> Result<Self, TableNameError> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if plain && begins && name.len() <= Self::MOST {
            Ok(TableName(name.into()))
        } else {
            Err(TableNameError)
        }
    }

    /// Returns the name of the table of index rows.
    pub(super) fn index(&self) -> TableName {
        TableName(format!("{}_index", self.0).into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TableName {
    fn default() -> Self {
        TableName("cloakroom_sessions".into())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the table's name: expected 1 to {most} letters, digits and _ that do not begin with a digit, found another name",
    most = TableName::MOST
)]
pub(super) struct TableNameError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_end_its_quotes_is_refused() {
        for name in ["sessions", "_s1", "S", &"x".repeat(57)] {
            assert_eq!(TableName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "1s", "a`b", "a b", "a.b", "a-b", "a;", "ä", "a\0", &"x".repeat(58)] {
            let error = TableName::new(name).unwrap_err().to_string();
            assert!(
                error.contains("expected 1 to 57 letters, digits and _")
                    && error.ends_with("found another name"),
                "{name}: {error}"
            );
        }
    }
}
