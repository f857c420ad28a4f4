//! The two tables: the statements that create them, and the checks of existing ones.

use std::time::Instant;

use rusqlite::Connection;

use super::connection::retry_locked;
use super::error::{SqliteError, SqliteFix};
use super::form::{DeclaredColumn, DeclaredTable};
use crate::provider::sql::table::TableName;

/// A column that the provider needs: its name, its type, and whether it must allow NULL.
struct DeclaredNeed {
    name: &'static str,
    kind: &'static str,
    nullable: bool,
}

const fn column(name: &'static str, kind: &'static str) -> DeclaredNeed {
    DeclaredNeed { name, kind, nullable: false }
}

const COLUMNS: [DeclaredNeed; 8] = [
    column("id", "TEXT"),
    column("version", "INTEGER"),
    column("expires", "INTEGER"),
    column("absolute", "INTEGER"),
    column("idle", "INTEGER"),
    DeclaredNeed { name: "touched", kind: "INTEGER", nullable: true },
    column("tombstone", "INTEGER"),
    column("record", "BLOB"),
];

const INDEX_COLUMNS: [DeclaredNeed; 3] =
    [column("kind", "TEXT"), column("value", "TEXT"), column("id", "TEXT")];

const FORM: &str = "the table that `cloakroom schema sqlite` prints";

/// The largest record in bytes, as in the other SQL providers. SQLite would take more.
pub(super) const LARGEST_RECORD: usize = (1 << 24) - 1;

/// Returns the statements that create the table and its index.
pub(super) fn statements(table: &TableName) -> Vec<String> {
    [create(table), vec![create_expiry(table)], create_index(table)].concat()
}

fn create(table: &TableName) -> Vec<String> {
    vec![format!(
        "CREATE TABLE IF NOT EXISTS \"{table}\" (
  id        TEXT    NOT NULL PRIMARY KEY, -- the store key: a hash of the session id, or the id if ids are kept in clear
  version   INTEGER NOT NULL,             -- every change compares it
  expires   INTEGER NOT NULL,             -- the deadline, in milliseconds since 1970 in UTC
  absolute  INTEGER NOT NULL,             -- the deadline that no use moves
  idle      INTEGER NOT NULL,             -- the idle time in milliseconds
  touched   INTEGER NULL,                 -- the last use, if it is later than the record says
  tombstone INTEGER NOT NULL,             -- 1: not a session, but the mark of an ended one
  record    BLOB    NOT NULL              -- the session in the native format
) STRICT"
    )]
}

fn create_expiry(table: &TableName) -> String {
    format!("CREATE INDEX IF NOT EXISTS \"{table}_expiry\" ON \"{table}\" (expires, tombstone)")
}

fn create_index(table: &TableName) -> Vec<String> {
    let index = table.index();
    vec![
        format!(
            "CREATE TABLE IF NOT EXISTS \"{index}\" (
  kind  TEXT NOT NULL, -- principal or label
  value TEXT NOT NULL, -- the user or the label
  id    TEXT NOT NULL, -- the store key of the session
  PRIMARY KEY (kind, value, id)
) STRICT, WITHOUT ROWID"
        ),
        create_session(&index),
    ]
}

fn create_session(index: &TableName) -> String {
    format!("CREATE INDEX IF NOT EXISTS \"{index}_session\" ON \"{index}\" (id)")
}

/// Creates the tables if they are missing and `make` is true. Checks the form of existing ones, which may belong to the application.
pub(super) fn prepare(
    connection: &Connection,
    table: &TableName,
    make: bool,
    deadline: Option<Instant>,
) -> Result<(), SqliteError> {
    retry_locked(deadline, || {
        let index = table.index();
        let forms = || {
            Ok::<_, SqliteError>((
                DeclaredTable::of(connection, table)?,
                DeclaredTable::of(connection, &index)?,
            ))
        };
        let (mut rows, mut entries) = forms()?;
        // A transaction needs the lock, so it begins only if something is missing.
        if make && (rows.is_none() || entries.is_none()) {
            create_missing(connection, table, (rows.is_none(), entries.is_none()))?;
            tracing::info!(%table, "created a sessions table");
            (rows, entries) = forms()?;
        }
        check(table, rows.as_ref())?;
        check_index(&index, entries.as_ref())
    })
}

fn create_missing(
    connection: &Connection,
    table: &TableName,
    (rows, entries): (bool, bool),
) -> Result<(), SqliteError> {
    let mut wanted = Vec::new();
    if rows {
        wanted.extend(create(table));
        wanted.push(create_expiry(table));
    }
    if entries {
        wanted.extend(create_index(table));
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let made =
        connection.execute_batch(&wanted.join(";\n")).and_then(|()| connection.execute_batch("COMMIT"));
    if made.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    Ok(made?)
}

fn check(table: &TableName, form: Option<&DeclaredTable>) -> Result<(), SqliteError> {
    let Some(form) = form else { return Err(missing(table)) };
    let mut faults = SqliteFaults::common(form, &COLUMNS);
    faults.unique(form, &["id"], &COLUMNS.map(|column| column.name));
    if !form.has_key(&["expires"]) {
        faults.0.push(("no index on expires".to_owned(), Some(create_expiry(table))));
    }
    faults.answer(table)
}

fn check_index(index: &TableName, form: Option<&DeclaredTable>) -> Result<(), SqliteError> {
    const KEY: [&str; 3] = ["kind", "value", "id"];
    let Some(form) = form else { return Err(missing(index)) };
    let mut faults = SqliteFaults::common(form, &INDEX_COLUMNS);
    faults.unique(form, &KEY, &KEY);
    if !form.has_key(&["id"]) {
        faults.0.push(("no index on id".to_owned(), Some(create_session(index))));
    }
    faults.answer(index)
}

fn missing(table: &TableName) -> SqliteError {
    let found = "no such table".to_owned();
    SqliteError::Foreign { table: table.to_string(), expected: FORM, found, fix: SqliteFix(None) }
}

/// The faults of a table, each with the statement that fixes it, if one does.
struct SqliteFaults(Vec<(String, Option<String>)>);

impl SqliteFaults {
    /// Checks the kind of table and the columns.
    fn common(form: &DeclaredTable, columns: &[DeclaredNeed]) -> Self {
        let mut faults = Vec::new();
        if form.kind != "table" {
            faults.push(format!("a {}", form.kind));
        }
        for DeclaredNeed { name, kind, nullable } in columns {
            match form.column(name) {
                None => faults.push(format!("no column {name} of type {kind}")),
                Some(found) if found.kind != *kind => {
                    faults.push(format!("the column {name} of type {} and not {kind}", found.kind));
                }
                Some(found) if *nullable && !found.nullable => {
                    faults.push(format!("the column {name} that does not allow NULL"));
                }
                Some(_) => {}
            }
        }
        let is_ours = |found: &&DeclaredColumn| columns.iter().any(|column| column.name == found.name);
        for found in form.columns.iter().filter(|found| found.demanded && !is_ours(found)) {
            faults.push(format!("the column {} that is NOT NULL and has no default", found.name));
        }
        if form.triggers > 0 {
            tracing::warn!(table = %form.name, "a sessions table has triggers; sessions are safe only if the triggers do not change its rows");
        }
        SqliteFaults(faults.into_iter().map(|fault| (fault, None)).collect())
    }

    /// Checks that a unique key consists of `id`, and that no other unique key consists of columns of `ours`.
    fn unique(&mut self, form: &DeclaredTable, id: &[&str], ours: &[&str]) {
        let unique = || form.keys.iter().filter(|key| key.unique);
        if !unique().any(|key| key.columns == id) {
            self.0.push((format!("no primary key on {} that compares bytes", id.join(", ")), None));
        }
        for key in unique() {
            let all_ours = key.columns.iter().all(|column| ours.contains(&&**column));
            if all_ours && !id.iter().all(|name| key.columns.iter().any(|column| column == name)) {
                self.0.push((format!("the unique index {} on {}", key.name, key.columns.join(", ")), None));
            }
        }
    }

    fn answer(self, table: &TableName) -> Result<(), SqliteError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let fixes: Option<Vec<_>> = self.0.iter().map(|(_, fix)| fix.clone()).collect();
        let found: Vec<_> = self.0.into_iter().map(|(found, _)| found).collect();
        let fix = SqliteFix(fixes.map(|fixes| fixes.join("; ")));
        Err(SqliteError::Foreign { table: table.to_string(), expected: FORM, found: found.join(", "), fix })
    }
}
