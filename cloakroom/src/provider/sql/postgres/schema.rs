//! The two tables: the statements that create them, and the checks of existing ones.

use super::connection::PostgresLease;
use super::error::{PostgresError, RelationFix};
use super::form::{RelationFaults, RelationForm};
use super::name::TablePair;

/// A column that the provider needs: its name, its type in the server's words, and whether it must allow NULL.
struct RequiredColumn {
    name: &'static str,
    kind: &'static str,
    nullable: bool,
}

const fn needed(name: &'static str, kind: &'static str) -> RequiredColumn {
    RequiredColumn { name, kind, nullable: false }
}

const COLUMNS: [RequiredColumn; 9] = [
    needed("id", "text"),
    needed("version", "bigint"),
    needed("expires", "bigint"),
    needed("absolute", "bigint"),
    needed("idle", "bigint"),
    RequiredColumn { name: "touched", kind: "bigint", nullable: true },
    needed("tombstone", "boolean"),
    needed("due", "bigint"),
    needed("record", "bytea"),
];

const INDEX_COLUMNS: [RequiredColumn; 3] =
    [needed("kind", "text"), needed("value", "bytea"), needed("id", "text")];

const FORM: &str = "the table that `cloakroom schema postgres` prints";

/// Returns the statements that create the tables, one after the other.
pub(super) fn create(tables: &TablePair) -> Vec<String> {
    let (table, index) = (tables.table(), tables.index());
    vec![
        // The rest of each page is for the next versions of its rows, so that a change leaves the indexes as they are (HOT).
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (
  id        text COLLATE \"C\" NOT NULL, -- the store key: a hash of the session id, or the id if ids are kept in clear
  version   bigint           NOT NULL, -- every change compares it
  expires   bigint           NOT NULL, -- the deadline, in milliseconds since 1970 in UTC
  absolute  bigint           NOT NULL, -- the deadline that no use moves
  idle      bigint           NOT NULL, -- the idle time in milliseconds
  touched   bigint           NULL,     -- the last use, if it is later than the record says
  tombstone boolean          NOT NULL, -- true: not a session, but the mark of an ended one
  due       bigint           NOT NULL, -- the time when collection looks at the row, which no use moves
  record    bytea            NOT NULL, -- the session in the native format
  PRIMARY KEY (id)
) WITH (fillfactor = 80)"
        ),
        // A record is not compressed: lists read its beginning alone, and sealed records do not shrink.
        format!("ALTER TABLE {table} ALTER COLUMN record SET STORAGE EXTERNAL"),
        format!("CREATE INDEX IF NOT EXISTS {} ON {table} (due)", tables.due_index()),
        format!(
            "CREATE TABLE IF NOT EXISTS {index} (
  kind  text COLLATE \"C\" NOT NULL, -- principal or label
  value bytea            NOT NULL, -- the user or the label, in UTF-8
  id    text COLLATE \"C\" NOT NULL, -- the store key of the session
  PRIMARY KEY (kind, value, id)
)"
        ),
        format!("CREATE INDEX IF NOT EXISTS {} ON {index} (id)", tables.id_index()),
    ]
}

/// Creates the tables if they are missing. Checks the form of existing ones, which may belong to the application, and the user's rights.
/// Returns true if a crash of the server empties the table of the sessions.
pub(super) async fn prepare(
    connection: &mut PostgresLease<'_>,
    tables: &TablePair,
    lock: i64,
    make: bool,
) -> Result<bool, PostgresError> {
    let (table, index) = (tables.table(), tables.index());
    let mut forms =
        [RelationForm::of(connection, &table).await?, RelationForm::of(connection, &index).await?];
    if make && forms.iter().any(Option::is_none) {
        create_missing(connection, tables, lock).await?;
        forms = [RelationForm::of(connection, &table).await?, RelationForm::of(connection, &index).await?];
    }
    let [form, index_form] = forms;
    let form = form.ok_or_else(|| missing(&table, FORM))?;
    check(&table, &form, tables)?;
    check_index(&index, &index_form.ok_or_else(|| missing(&index, FORM))?, tables, form.is_unlogged())?;
    Ok(form.is_unlogged())
}

/// Creates both tables in one transaction. A lock lets one process do it at a time, since IF NOT EXISTS alone fails when two begin
/// at once.
async fn create_missing(
    connection: &mut PostgresLease<'_>,
    tables: &TablePair,
    lock: i64,
) -> Result<(), PostgresError> {
    let statements = create(tables).join(";\n");
    let all = format!("SELECT pg_catalog.pg_advisory_xact_lock({lock});\n{statements}");
    match connection.batch(&all).await {
        // An owner who is another role has the tables; `prepare` then reports which right is missing.
        Err(error) if error.is_missing_right() => Err(PostgresError::NoTable { table: tables.table() }),
        Err(error) => Err(error),
        Ok(()) => {
            tracing::info!(table = tables.table(), "created the sessions tables");
            Ok(())
        }
    }
}

pub(super) fn missing(table: &str, expected: &'static str) -> PostgresError {
    let found = "no such table".to_owned();
    PostgresError::Foreign { table: table.to_owned(), expected, found, fix: RelationFix(None) }
}

/// Checks the user's rights on a table, and warns about triggers and a table that a crash empties.
pub(super) fn check_use(table: &str, form: &RelationForm, unneeded: &[&str]) -> Result<(), PostgresError> {
    const RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let lacks =
        |right: &&&str| form.lacks.iter().any(|lacking| lacking == **right) && !unneeded.contains(right);
    if let Some(right) = RIGHTS.iter().find(lacks) {
        return Err(PostgresError::Right { table: table.to_owned(), right });
    }
    if form.triggers > 0 {
        tracing::warn!(
            table,
            "a sessions table has triggers; sessions are safe only if the triggers do not change its rows"
        );
    }
    if form.is_unlogged() {
        tracing::warn!(
            table,
            "a sessions table is UNLOGGED: a crash of the server empties it, so every session ends; ALTER TABLE .. SET LOGGED keeps them"
        );
    }
    Ok(())
}

fn check(table: &str, form: &RelationForm, tables: &TablePair) -> Result<(), PostgresError> {
    let mut faults = RelationFaults::of(table);
    check_common(&mut faults, form, &COLUMNS);
    faults.check_unique(form, &["id"]);
    faults.check_not_too_unique(form, &["id"], &COLUMNS.map(|column| column.name));
    if !form.has_key("due") {
        let statement = format!("CREATE INDEX {} ON {table} (due)", tables.due_index());
        faults.fixable("no index on due", statement);
    }
    faults.answer(FORM)?;
    check_use(table, form, &[])
}

/// Checks the index table. Without it no session of a user is found, so it may be emptied only together with the sessions.
fn check_index(
    index: &str,
    form: &RelationForm,
    tables: &TablePair,
    sessions_unlogged: bool,
) -> Result<(), PostgresError> {
    const KEY: [&str; 3] = ["kind", "value", "id"];
    let mut faults = RelationFaults::of(index);
    check_common(&mut faults, form, &INDEX_COLUMNS);
    faults.check_unique(form, &KEY);
    faults.check_not_too_unique(form, &KEY, &KEY);
    if !form.has_key("id") {
        faults.fixable("no index on id", format!("CREATE INDEX {} ON {index} (id)", tables.id_index()));
    }
    if form.is_unlogged() && !sessions_unlogged {
        faults.alterable("an UNLOGGED table beside logged sessions, which a crash would empty", "SET LOGGED");
    }
    faults.answer(FORM)?;
    check_use(index, form, &["UPDATE"])
}

/// Checks the kind of table and the columns.
fn check_common(faults: &mut RelationFaults<'_>, form: &RelationForm, columns: &[RequiredColumn]) {
    faults.check_kind(form);
    for RequiredColumn { name, kind, nullable } in columns {
        // Texts are compared byte for byte.
        let collate = if *kind == "text" { " COLLATE \"C\"" } else { "" };
        match form.column(name) {
            None => faults.fatal(format!("no column {name} of type {kind}")),
            Some(found) if found.kind != *kind => {
                let told = format!("the column {name} of type {} and not {kind}", found.kind);
                faults.alterable(
                    told,
                    format!("ALTER COLUMN {name} TYPE {kind}{collate} USING {name}::{kind}"),
                );
            }
            Some(found) if *kind == "text" && !matches!(&*found.collation, "C" | "POSIX") => {
                let told = format!("the column {name} with the collation {} and not \"C\"", found.collation);
                faults.alterable(told, format!("ALTER COLUMN {name} TYPE {kind}{collate}"));
            }
            Some(found) if *nullable && found.not_null => {
                let told = format!("the column {name} that does not allow NULL");
                faults.alterable(told, format!("ALTER COLUMN {name} DROP NOT NULL"));
            }
            Some(_) => {}
        }
    }
    let ours: Vec<_> = columns.iter().map(|column| column.name).collect();
    faults.check_demanded(form, &ours);
}

#[cfg(test)]
mod tests {
    use super::super::form::{RelationColumn, RelationKey};
    use super::*;
    use crate::provider::sql::table::TableName;

    fn tables() -> TablePair {
        TablePair::new("public", &TableName::default())
    }

    fn key(name: &str, primary: bool, columns: &[&str]) -> RelationKey {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        RelationKey { name: name.to_owned(), primary, unique: primary, whole: true, columns }
    }

    fn form(columns: &[RequiredColumn], keys: Vec<RelationKey>) -> RelationForm {
        let columns = columns.iter().map(|column| RelationColumn {
            name: column.name.to_owned(),
            kind: column.kind.to_owned(),
            not_null: !column.nullable,
            demanded: !column.nullable,
            collation: if column.kind == "text" { "C".to_owned() } else { String::new() },
        });
        let columns = columns.collect();
        RelationForm {
            kind: "r".to_owned(),
            persistence: "p".to_owned(),
            columns,
            keys,
            ..RelationForm::default()
        }
    }

    fn as_made() -> RelationForm {
        form(&COLUMNS, vec![key("t_pkey", true, &["id"]), key("t_due", false, &["due"])])
    }

    fn index_as_made() -> RelationForm {
        let keys = vec![key("i_pkey", true, &["kind", "value", "id"]), key("t_ids", false, &["id"])];
        form(&INDEX_COLUMNS, keys)
    }

    #[test]
    fn the_form_that_is_created_passes_the_check() {
        check("t", &as_made(), &tables()).unwrap();
        check_index("i", &index_as_made(), &tables(), false).unwrap();
    }

    #[test]
    fn the_error_of_another_index_form_says_how_to_fix_it() {
        let told = |change: fn(&mut RelationForm)| {
            let mut form = index_as_made();
            change(&mut form);
            check_index("i", &form, &tables(), false).unwrap_err().to_string()
        };
        for (text, found, fix) in [
            (
                told(|form| drop(form.keys.remove(1))),
                "no index on id",
                "CREATE INDEX \"cloakroom_sessions_ids\" ON i (id)",
            ),
            (
                told(|form| drop(form.keys.remove(0))),
                "no primary key on kind, value, id",
                "ADD PRIMARY KEY (kind, value, id)",
            ),
            (
                told(|form| form.keys[1].unique = true),
                "the unique index t_ids on id",
                "DROP CONSTRAINT \"t_ids\"",
            ),
            (
                told(|form| form.columns[1].kind = "text".into()),
                "value of type text",
                "TYPE bytea USING value::bytea",
            ),
            (told(|form| form.lacks = vec!["DELETE".into()]), "the right DELETE", "GRANT"),
            (
                told(|form| form.persistence = "u".into()),
                "an UNLOGGED table beside logged sessions",
                "ALTER TABLE i SET LOGGED",
            ),
        ] {
            assert!(text.contains(found) && text.contains(fix), "{text}");
        }
        let mut form = index_as_made();
        form.persistence = "u".into();
        check_index("i", &form, &tables(), true).unwrap();
        form.lacks = vec!["UPDATE".into()];
        check_index("i", &form, &tables(), true).unwrap();
    }

    #[test]
    fn the_error_of_another_form_says_how_to_fix_it() {
        let told = |change: fn(&mut RelationForm)| {
            let mut form = as_made();
            change(&mut form);
            check("t", &form, &tables()).unwrap_err().to_string()
        };
        for (text, found, fix) in [
            (told(|form| form.keys.clear()), "no primary key on id", "ADD PRIMARY KEY (id); CREATE INDEX"),
            (told(|form| drop(form.keys.remove(1))), "no index on due", "ON t (due)"),
            (told(|form| form.keys[0].whole = false), "no primary key on id", "ADD UNIQUE (id)"),
            (
                told(|form| form.columns[0].kind = "character varying(192)".into()),
                "id of type character",
                "TYPE text COLLATE \"C\"",
            ),
            (
                told(|form| form.columns[0].collation = "en_US".into()),
                "the collation en_US",
                "TYPE text COLLATE \"C\"",
            ),
            (
                told(|form| form.columns[5].not_null = true),
                "touched that does not allow NULL",
                "DROP NOT NULL",
            ),
            (told(|form| drop(form.columns.remove(7))), "no column due of type bigint", "name another table"),
            (told(|form| form.kind = "v".into()), "a view", "name another table"),
            (told(|form| form.kind = "p".into()), "a partitioned table", "name another table"),
            (told(|form| form.persistence = "t".into()), "a temporary table", "name another table"),
            (told(|form| form.rules = 1), "a table with rules", "name another table"),
            (told(|form| form.filtered = true), "row-level security", "DISABLE ROW LEVEL SECURITY"),
            (
                told(|form| {
                    let column = RelationColumn { name: "Own".into(), ..form.columns[1].clone() };
                    form.columns.push(column);
                }),
                "the column Own that is NOT NULL",
                "ALTER COLUMN \"Own\" DROP NOT NULL",
            ),
            (told(|form| form.lacks = vec!["UPDATE".into()]), "the right UPDATE", "GRANT"),
        ] {
            assert!(text.contains(found) && text.contains(fix), "{text}");
        }
    }
}
