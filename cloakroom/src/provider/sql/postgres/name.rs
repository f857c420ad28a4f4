//! The names of the two tables.

use crate::provider::sql::table::{TableName, TableNameError};

/// A table's name as it is configured: with its schema, or without one, which `search_path` then decides.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ConfiguredName {
    schema: Option<TableName>,
    pub(super) table: TableName,
}

impl ConfiguredName {
    /// Parses `table` or `schema.table`.
    pub(super) fn new(name: &str) -> Result<Self, TableNameError> {
        match name.split_once('.') {
            Some((schema, table)) => ConfiguredName::of(Some(schema), table),
            None => ConfiguredName::of(None, name),
        }
    }

    pub(super) fn of(schema: Option<&str>, table: &str) -> Result<Self, TableNameError> {
        let schema = schema.map(TableName::new).transpose()?;
        Ok(ConfiguredName { schema, table: TableName::new(table)? })
    }

    pub(super) fn schema(&self) -> Option<&str> {
        self.schema.as_ref().map(TableName::as_str)
    }

    /// Returns the tables as the statements of a migration name them.
    pub(super) fn as_given(&self) -> TablePair {
        TablePair { schema: self.schema().map(Box::from), table: self.table.clone() }
    }
}

impl From<TableName> for ConfiguredName {
    fn from(table: TableName) -> Self {
        ConfiguredName { schema: None, table }
    }
}

/// The two tables of a provider.
#[derive(Clone, Debug)]
pub(super) struct TablePair {
    /// The schema, as the server names it. It may contain any character.
    schema: Option<Box<str>>,
    table: TableName,
}

impl TablePair {
    pub(super) fn new(schema: &str, table: &TableName) -> Self {
        TablePair { schema: Some(schema.into()), table: table.clone() }
    }

    /// Returns the quoted name of the table of records.
    pub(super) fn table(&self) -> String {
        self.quoted(self.table.as_str())
    }

    /// Returns the quoted name of the table of index rows.
    pub(super) fn index(&self) -> String {
        self.quoted(self.table.index().as_str())
    }

    /// Returns the quoted name of an index of the first table. An index has its table's schema.
    pub(super) fn due_index(&self) -> String {
        quoted(&format!("{}_due", self.table))
    }

    /// Returns the quoted name of an index of the second table.
    pub(super) fn id_index(&self) -> String {
        quoted(&format!("{}_ids", self.table))
    }

    fn quoted(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        }
    }
}

/// Quotes an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_schema() {
        let name = ConfiguredName::new("app.sessions").unwrap();
        assert_eq!(name.as_given().table(), r#""app"."sessions""#);
        assert_eq!(name.as_given().index(), r#""app"."sessions_index""#);
        assert_eq!(ConfiguredName::new("sessions").unwrap().as_given().table(), r#""sessions""#);
        for name in ["a.b.c", ".t", "s.", "", "s.t;", "s\".t"] {
            assert!(ConfiguredName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_schema_cannot_end_its_quotes() {
        let table = TableName::new("t").unwrap();
        assert_eq!(TablePair::new("a\"b", &table).table(), r#""a""b"."t""#);
    }
}
