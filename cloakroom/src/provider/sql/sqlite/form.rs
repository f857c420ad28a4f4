//! The form of an existing table, as SQLite describes it.

use rusqlite::Connection;

use super::error::SqliteError;
use crate::provider::sql::table::TableName;

/// A table's columns and keys.
#[derive(Debug)]
pub(super) struct DeclaredTable {
    pub(super) name: String,
    /// The kind, such as `table`, `view` or `virtual`.
    pub(super) kind: String,
    pub(super) columns: Vec<DeclaredColumn>,
    pub(super) keys: Vec<DeclaredKey>,
    pub(super) triggers: i64,
}

#[derive(Debug)]
pub(super) struct DeclaredColumn {
    pub(super) name: String,
    /// The type in upper case.
    pub(super) kind: String,
    pub(super) nullable: bool,
    /// True if every INSERT must give the column a value.
    pub(super) demanded: bool,
}

#[derive(Debug)]
pub(super) struct DeclaredKey {
    pub(super) name: String,
    pub(super) unique: bool,
    /// The names of the columns in the key's order. A column that the key compares by other rules than its bytes has `(` after its name.
    pub(super) columns: Vec<String>,
}

const TABLE: &str = "SELECT type, (SELECT COUNT(*) FROM sqlite_schema AS other \
     WHERE other.type = 'trigger' AND other.tbl_name = ?1 COLLATE NOCASE) FROM pragma_table_list WHERE name = ?1 COLLATE NOCASE \
     AND schema = 'main'";

const COLUMNS: &str = "SELECT lower(name), upper(type), \"notnull\", dflt_value IS NULL AND hidden = 0 \
     FROM pragma_table_xinfo(?1) ORDER BY cid";

const KEYS: &str = "SELECT name, \"unique\" AND NOT partial FROM pragma_index_list(?1)";

const KEY_COLUMNS: &str = "SELECT COALESCE(lower(name), '(') || CASE coll WHEN 'BINARY' THEN '' ELSE '(' END \
     FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno";

impl DeclaredTable {
    /// Returns the form of `table`, or `None` if there is no such table.
    pub(super) fn of(
        connection: &Connection,
        table: &TableName,
    ) -> Result<Option<DeclaredTable>, SqliteError> {
        let name = table.as_str();
        let mut statement = connection.prepare(TABLE)?;
        let mut rows = statement.query((name,))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (kind, triggers) = (row.get(0)?, row.get(1)?);
        let mut form =
            DeclaredTable { name: name.to_owned(), kind, triggers, columns: Vec::new(), keys: Vec::new() };
        let mut statement = connection.prepare(COLUMNS)?;
        let mut rows = statement.query((name,))?;
        while let Some(row) = rows.next()? {
            let (name, kind) = (row.get(0)?, row.get(1)?);
            let (not_null, no_default): (bool, bool) = (row.get(2)?, row.get(3)?);
            let column = DeclaredColumn { name, kind, nullable: !not_null, demanded: not_null && no_default };
            form.columns.push(column);
        }
        let mut statement = connection.prepare(KEYS)?;
        let mut rows = statement.query((name,))?;
        while let Some(row) = rows.next()? {
            let (name, unique): (String, bool) = (row.get(0)?, row.get(1)?);
            let mut statement = connection.prepare_cached(KEY_COLUMNS)?;
            let columns = statement.query_map((&name,), |row| row.get(0))?.collect::<Result<_, _>>()?;
            form.keys.push(DeclaredKey { name, unique, columns });
        }
        Ok(Some(form))
    }

    pub(super) fn column(&self, name: &str) -> Option<&DeclaredColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns true if a key begins with `columns`.
    pub(super) fn has_key(&self, columns: &[&str]) -> bool {
        self.keys.iter().any(|key| columns.iter().eq(key.columns.iter().take(columns.len())))
    }
}
