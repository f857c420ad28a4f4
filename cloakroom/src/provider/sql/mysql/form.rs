//! The form of an existing table, as the server describes it.

use sqlx::mysql::MySqlRow;
use sqlx::{Row, SqlStr};

use super::connection::{Arguments, ConnectionLease};
use super::error::{Fix, MySqlError};
use crate::provider::sql::table::TableName;

/// A table's columns and keys, as the server lists them.
#[derive(Debug, Default)]
pub(super) struct TableForm {
    /// The kind of table, such as `base table`, `view` or `system versioned`.
    pub(super) kind: String,
    pub(super) engine: String,
    pub(super) columns: Vec<TableColumn>,
    pub(super) keys: Vec<TableKey>,
    pub(super) triggers: u64,
}

#[derive(Debug)]
pub(super) struct TableColumn {
    pub(super) name: String,
    /// The type in lower case, without the display width of integers.
    pub(super) kind: String,
    pub(super) nullable: bool,
    /// True if every INSERT must give the column a value.
    pub(super) demanded: bool,
}

#[derive(Debug)]
pub(super) struct TableKey {
    pub(super) name: String,
    pub(super) unique: bool,
    /// The names of the columns in the key's order. A column of which the key holds only a prefix has `(` after its name.
    pub(super) columns: Vec<String>,
}

const COLUMNS: &str = "SELECT LOWER(CONVERT(column_name USING utf8mb4)), LOWER(CONVERT(column_type USING utf8mb4)), \
     is_nullable = 'YES', \
     is_nullable = 'NO' AND column_default IS NULL AND LOWER(extra) NOT REGEXP 'auto_increment|generated|row (start|end)' \
     FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";

const KEYS: &str = "SELECT CONVERT(index_name USING utf8mb4), non_unique = 0, \
     CONCAT(COALESCE(LOWER(CONVERT(column_name USING utf8mb4)), '('), IF(sub_part IS NULL, '', '(')) \
     FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? ORDER BY index_name, seq_in_index";

const TABLE: &str = "SELECT LOWER(CONVERT(table_type USING utf8mb4)), COALESCE(LOWER(CONVERT(engine USING utf8mb4)), 'none'), \
     (SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = ?) \
     FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";

impl TableKey {
    pub(super) fn is_primary(&self) -> bool {
        self.name.eq_ignore_ascii_case("PRIMARY")
    }
}

impl TableForm {
    /// Reads the form of `table`; `None` if the table is missing.
    pub(super) async fn of(
        connection: &mut ConnectionLease<'_>,
        table: &TableName,
    ) -> Result<Option<TableForm>, MySqlError> {
        let named = |times: usize| {
            let mut bound = Arguments::default();
            (0..times).for_each(|_| bound.text(table.as_str()));
            bound
        };
        let rows = connection.fetch(&SqlStr::from_static(TABLE), named(2)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut form = TableForm { kind: text(row, 0)?, engine: text(row, 1)?, ..TableForm::default() };
        form.triggers = u64::from(number(row, 2)? != 0);
        for row in connection.fetch(&SqlStr::from_static(COLUMNS), named(1)).await? {
            let (name, kind) = (text(&row, 0)?, plain(&text(&row, 1)?));
            let (nullable, demanded) = (number(&row, 2)? != 0, number(&row, 3)? != 0);
            form.columns.push(TableColumn { name, kind, nullable, demanded });
        }
        for row in connection.fetch(&SqlStr::from_static(KEYS), named(1)).await? {
            let (name, unique, column) = (text(&row, 0)?, number(&row, 1)? != 0, text(&row, 2)?);
            match form.keys.last_mut().filter(|last| last.name == name) {
                Some(last) => last.columns.push(column),
                None => form.keys.push(TableKey { name, unique, columns: vec![column] }),
            }
        }
        Ok(Some(form))
    }

    pub(super) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns true if a unique key consists of `columns`.
    pub(super) fn is_unique(&self, columns: &[&str]) -> bool {
        self.keys.iter().any(|key| key.unique && key.columns == columns)
    }

    /// Returns true if a key begins with `columns`.
    pub(super) fn has_key(&self, columns: &[&str]) -> bool {
        self.keys.iter().any(|key| columns.iter().eq(key.columns.iter().take(columns.len())))
    }
}

fn text(row: &MySqlRow, place: usize) -> Result<String, MySqlError> {
    row.try_get(place).map_err(|_| MySqlError::Row { column: "description" })
}

fn number(row: &MySqlRow, place: usize) -> Result<i64, MySqlError> {
    row.try_get(place).map_err(|_| MySqlError::Row { column: "description" })
}

/// Removes the display width: `bigint(20)` and `bigint` are one type, and MySQL 8.0.19 no longer reports the width.
fn plain(column_type: &str) -> String {
    match column_type.split_once("int(") {
        Some((kind, rest)) => format!("{kind}int{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => column_type.to_owned(),
    }
}

/// The faults of a table, each with the part of an `ALTER TABLE` that fixes it, if one does.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(String, Option<String>)>);

impl Faults {
    pub(super) fn fixable(&mut self, found: impl Into<String>, by: impl Into<String>) {
        self.0.push((found.into(), Some(by.into())));
    }

    /// Adds a fault that no `ALTER TABLE` fixes.
    pub(super) fn fatal(&mut self, found: impl Into<String>) {
        self.0.push((found.into(), None));
    }

    /// Adds a fault for each further column that needs a value in every INSERT. This provider gives it none.
    pub(super) fn demanded(&mut self, form: &TableForm, ours: &[&str]) {
        for column in form.columns.iter().filter(|column| column.demanded && !ours.contains(&&*column.name)) {
            let found = format!("the column {} that is NOT NULL and has no default", column.name);
            self.fixable(found, format!("MODIFY `{}` {} NULL", column.name, column.kind));
        }
    }

    /// Adds a fault for each unique key on columns of `ours` that lacks a column of `id`. It would refuse rows that differ only there.
    pub(super) fn too_unique(&mut self, form: &TableForm, id: &[&str], ours: &[&str]) {
        let is_ours = |column: &String| ours.contains(&column.trim_end_matches('('));
        let harmless = |key: &&TableKey| {
            !key.columns.iter().all(is_ours)
                || id.iter().all(|name| key.columns.iter().any(|column| column == name))
        };
        for key in form.keys.iter().filter(|key| key.unique && !harmless(key)) {
            let found =
                format!("the unique key {} on {}", key.name, key.columns.join(", ").replace('(', " in part"));
            let by = if key.is_primary() {
                "DROP PRIMARY KEY".to_owned()
            } else {
                format!("DROP KEY `{}`", key.name)
            };
            self.fixable(found, by);
        }
    }

    /// Adds a fault if no unique key consists of `id`. Without one, two rows could be the same.
    pub(super) fn not_unique(&mut self, form: &TableForm, id: &[&str]) {
        if !form.is_unique(id) {
            // A primary key on our columns is dropped by `too_unique`; another one stays.
            let stays = form.keys.iter().any(|key| key.is_primary() && !key.columns[0].starts_with(id[0]));
            let (kind, id) = (if stays { "UNIQUE" } else { "PRIMARY" }, id.join(", "));
            self.fixable(format!("no primary key on {id}"), format!("ADD {kind} KEY ({id})"));
        }
    }

    pub(super) fn answer(self, table: &TableName, expected: &'static str) -> Result<(), MySqlError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let found = self.0.iter().map(|(found, _)| &**found).collect::<Vec<_>>().join(", ");
        let pieces: Option<Vec<_>> = self.0.iter().map(|(_, by)| by.as_deref()).collect();
        let fix = Fix(pieces.map(|pieces| format!("ALTER TABLE `{table}` {}", pieces.join(", "))));
        Err(MySqlError::Foreign { table: table.to_string(), expected, found, fix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_display_width_of_integers_is_ignored() {
        assert_eq!(plain("bigint(20) unsigned"), "bigint unsigned");
        assert_eq!(plain("tinyint(3) unsigned"), "tinyint unsigned");
        assert_eq!(plain("varbinary(192)"), "varbinary(192)");
        assert_eq!(plain("mediumblob"), "mediumblob");
    }
}
