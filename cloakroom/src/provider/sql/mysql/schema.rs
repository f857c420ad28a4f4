//! The two tables: the statements that create them, and the checks of existing ones.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::connection::ConnectionLease;
use super::error::{Fix, MySqlError};
use super::form::{Faults, TableForm};
use super::statements::Statements;
use crate::provider::sql::table::TableName;

/// A column that the provider needs: its name, its type in the server's words, and whether it must allow NULL.
struct ExpectedColumn {
    name: &'static str,
    kind: &'static str,
    nullable: bool,
}

const fn column(name: &'static str, kind: &'static str) -> ExpectedColumn {
    ExpectedColumn { name, kind, nullable: false }
}

const fn nullable(name: &'static str, kind: &'static str) -> ExpectedColumn {
    ExpectedColumn { name, kind, nullable: true }
}

const COLUMNS: [ExpectedColumn; 8] = [
    // Binary, so that keys are compared byte for byte.
    column("id", "varbinary(192)"),
    column("version", "bigint unsigned"),
    column("expires", "bigint unsigned"),
    column("absolute", "bigint unsigned"),
    column("idle", "bigint unsigned"),
    nullable("touched", "bigint unsigned"),
    column("tombstone", "tinyint unsigned"),
    column("record", "mediumblob"),
];

const INDEX_COLUMNS: [ExpectedColumn; 3] =
    [column("kind", "varbinary(16)"), column("value", "varbinary(256)"), column("id", "varbinary(192)")];

const FORM: &str = "the table that `cloakroom schema mysql` prints";

/// The most bytes of a MEDIUMBLOB.
pub(super) const LARGEST_RECORD: usize = (1 << 24) - 1;

/// Returns the statement that creates the table.
pub(super) fn create(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS `{table}` (
  id        VARBINARY(192)   NOT NULL COMMENT 'the store key: a hash of the session id, or the id if ids are kept in clear',
  version   BIGINT UNSIGNED  NOT NULL COMMENT 'every change compares it',
  expires   BIGINT UNSIGNED  NOT NULL COMMENT 'the deadline, in milliseconds since 1970 in UTC',
  absolute  BIGINT UNSIGNED  NOT NULL COMMENT 'the deadline that no use moves',
  idle      BIGINT UNSIGNED  NOT NULL COMMENT 'the idle time in milliseconds',
  touched   BIGINT UNSIGNED  NULL     COMMENT 'the last use, if it is later than the record says',
  tombstone TINYINT UNSIGNED NOT NULL COMMENT '1: not a session, but the mark of an ended one',
  record    MEDIUMBLOB       NOT NULL COMMENT 'the session in the native format',
  PRIMARY KEY (id),
  KEY expiry (expires, tombstone)
) ENGINE = InnoDB"
    )
}

/// Returns the statement that creates the table of index rows, whose name is `index`.
pub(super) fn create_index(index: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS `{index}` (
  kind  VARBINARY(16)  NOT NULL COMMENT 'principal or label',
  value VARBINARY(256) NOT NULL COMMENT 'the user or the label, in UTF-8',
  id    VARBINARY(192) NOT NULL COMMENT 'the store key of the session',
  PRIMARY KEY (kind, value, id),
  KEY session (id)
) ENGINE = InnoDB"
    )
}

/// Creates the tables if they are missing. Checks the form of existing ones, which may belong to the application, and the user's rights.
pub(super) async fn prepare(
    connection: &mut ConnectionLease<'_>,
    sql: &Statements,
    table: &TableName,
    make: bool,
) -> Result<(), MySqlError> {
    let index = table.index();
    check(table, &form_of(connection, table, make.then(|| create(table))).await?)?;
    check_index(&index, &form_of(connection, &index, make.then(|| create_index(&index))).await?)?;
    let delete = statement(format!("DELETE FROM `{table}` WHERE id = ?"));
    let index_insert = sql.index_insert.first().unwrap_or(&sql.index_delete);
    for (table, right, statement) in [
        (table, "INSERT", &sql.insert),
        (table, "UPDATE", &sql.update),
        (table, "DELETE", &delete),
        (&index, "INSERT", index_insert),
        (&index, "DELETE", &sql.index_delete),
    ] {
        check_right(connection.prepare(statement).await, table, right)?;
    }
    Ok(())
}

/// Returns the form of a table, which `create` creates if it is missing. Checks the right to read it first.
async fn form_of(
    connection: &mut ConnectionLease<'_>,
    table: &TableName,
    create: Option<String>,
) -> Result<TableForm, MySqlError> {
    match connection.prepare(&statement(format!("SELECT id FROM `{table}` WHERE id = ?"))).await {
        // The table is missing or has other columns. The check of its form reports which.
        Err(error) if error.is_wrong_table() => {}
        answer => check_right(answer, table, "SELECT")?,
    }
    let form = match TableForm::of(connection, table).await? {
        None => create_missing(connection, table, create).await?,
        Some(form) => form,
    };
    if form.triggers > 0 {
        tracing::warn!(%table, "a sessions table has triggers; sessions are safe only if the triggers do not change its rows");
    }
    Ok(form)
}

fn statement(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

/// Converts the answer to a statement that was prepared to check the user's `right`.
pub(super) fn check_right(
    answer: Result<(), MySqlError>,
    table: &TableName,
    right: &'static str,
) -> Result<(), MySqlError> {
    match answer {
        Err(error) if error.is_missing_right() => Err(MySqlError::Right { table: table.to_string(), right }),
        // The server prepares no statement at the moment. `ConnectionLease` then sends statements unprepared.
        Err(error) if error.cannot_be_prepared() => Ok(()),
        answer => answer,
    }
}

async fn create_missing(
    connection: &mut ConnectionLease<'_>,
    table: &TableName,
    create: Option<String>,
) -> Result<TableForm, MySqlError> {
    let Some(create) = create else { return Err(missing(table, FORM)) };
    match connection.command(statement(create)).await {
        Err(error) if error.is_missing_right() => Err(MySqlError::NoTable { table: table.to_string() }),
        Err(error) => Err(error),
        Ok(()) => {
            tracing::info!(%table, "created a sessions table");
            TableForm::of(connection, table).await?.ok_or_else(|| missing(table, FORM))
        }
    }
}

pub(super) fn missing(table: &TableName, expected: &'static str) -> MySqlError {
    let found = "no such table".to_owned();
    MySqlError::Foreign { table: table.to_string(), expected, found, fix: Fix(None) }
}

fn check(table: &TableName, form: &TableForm) -> Result<(), MySqlError> {
    let mut faults = Faults::default();
    if form.column("principal").is_some() && form.column("idle").is_none() {
        faults
            .fatal("the column principal of an unreleased version, whose sessions this version cannot read");
        return faults.answer(table, FORM);
    }
    check_common(&mut faults, form, &COLUMNS);
    faults.not_unique(form, &["id"]);
    faults.too_unique(form, &["id"], &COLUMNS.map(|column| column.name));
    if !form.has_key(&["expires"]) {
        faults.fixable("no key on expires", "ADD KEY (expires, tombstone)");
    }
    faults.answer(table, FORM)
}

fn check_index(index: &TableName, form: &TableForm) -> Result<(), MySqlError> {
    const KEY: [&str; 3] = ["kind", "value", "id"];
    let mut faults = Faults::default();
    check_common(&mut faults, form, &INDEX_COLUMNS);
    faults.not_unique(form, &KEY);
    faults.too_unique(form, &KEY, &KEY);
    if !form.has_key(&["id"]) {
        faults.fixable("no key on id", "ADD KEY (id)");
    }
    faults.answer(index, FORM)
}

/// Checks the kind of table, the engine and the columns.
fn check_common(faults: &mut Faults, form: &TableForm, columns: &[ExpectedColumn]) {
    match (&*form.kind, &*form.engine) {
        ("base table", "innodb") => {}
        // Only InnoDB locks rows, keeps acknowledged changes, and rolls back transactions.
        ("base table", engine) => faults.fixable(format!("the engine {engine}"), "ENGINE = InnoDB"),
        ("system versioned", _) => {
            faults.fixable("a table with system versioning", "DROP SYSTEM VERSIONING");
        }
        (kind, _) => faults.fatal(format!("a {kind}")),
    }
    for ExpectedColumn { name, kind, nullable } in columns {
        let null = if *nullable { "NULL" } else { "NOT NULL" };
        match form.column(name) {
            None => faults.fatal(format!("no column {name} of type {kind}")),
            Some(found) if found.kind != *kind => {
                let found = format!("the column {name} of type {} and not {kind}", found.kind);
                faults.fixable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(found) if *nullable && !found.nullable => {
                let found = format!("the column {name} that does not allow NULL");
                faults.fixable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(_) => {}
        }
    }
    let ours: Vec<_> = columns.iter().map(|column| column.name).collect();
    faults.demanded(form, &ours);
}

#[cfg(test)]
mod tests {
    use super::super::form::{TableColumn, TableKey};
    use super::*;

    fn key(name: &str, unique: bool, columns: &[&str]) -> TableKey {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        TableKey { name: name.to_owned(), unique, columns }
    }

    fn form(columns: &[ExpectedColumn], keys: Vec<TableKey>) -> TableForm {
        let columns = columns.iter().map(|column| TableColumn {
            name: column.name.to_owned(),
            kind: column.kind.to_owned(),
            nullable: column.nullable,
            demanded: !column.nullable,
        });
        let columns = columns.collect();
        TableForm { kind: "base table".to_owned(), engine: "innodb".to_owned(), columns, keys, triggers: 0 }
    }

    fn as_made() -> TableForm {
        form(&COLUMNS, vec![key("PRIMARY", true, &["id"]), key("expiry", false, &["expires", "tombstone"])])
    }

    fn index_as_made() -> TableForm {
        let keys = vec![key("PRIMARY", true, &["kind", "value", "id"]), key("session", false, &["id"])];
        form(&INDEX_COLUMNS, keys)
    }

    #[test]
    fn the_created_tables_pass_the_check() {
        let table = TableName::default();
        for (statement, columns) in
            [(create(&table), &COLUMNS[..]), (create_index(&table.index()), &INDEX_COLUMNS[..])]
        {
            let words = |line: &str| line.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
            for ExpectedColumn { name, kind, .. } in columns {
                let line =
                    statement.lines().map(words).find(|line| line.starts_with(&format!("{name} {kind} ")));
                assert!(line.is_some(), "{name} {kind}");
            }
        }
        check(&table, &as_made()).unwrap();
        check_index(&table.index(), &index_as_made()).unwrap();
    }

    #[test]
    fn the_error_of_an_unreleased_table_says_what_to_do() {
        let mut form = as_made();
        form.columns.retain(|column| column.name != "idle");
        form.columns.push(TableColumn {
            name: "principal".to_owned(),
            kind: "varbinary(256)".to_owned(),
            nullable: true,
            demanded: false,
        });
        let text = check(&TableName::default(), &form).unwrap_err().to_string();
        assert!(text.contains("the column principal") && text.contains("name another table"), "{text}");
    }

    #[test]
    fn the_error_of_another_index_form_says_how_to_fix_it() {
        let index = TableName::default().index();
        let told = |change: fn(&mut TableForm)| {
            let mut form = index_as_made();
            change(&mut form);
            check_index(&index, &form).unwrap_err().to_string()
        };
        for (text, found, fix) in [
            (told(|form| drop(form.keys.remove(1))), "no key on id", "ADD KEY (id)"),
            (
                told(|form| drop(form.keys.remove(0))),
                "no primary key on kind, value, id",
                "ADD PRIMARY KEY (kind, value, id)",
            ),
            (told(|form| form.keys[1].unique = true), "the unique key session on id", "DROP KEY `session`"),
            (
                told(|form| form.columns[1].kind = "varchar(256)".into()),
                "value of type varchar(256)",
                "MODIFY value varbinary(256) NOT NULL",
            ),
        ] {
            assert!(text.contains(found) && text.contains(fix), "{text}");
        }
    }

    #[test]
    fn the_error_of_another_form_says_how_to_fix_it() {
        let table = TableName::default();
        let told = |change: fn(&mut TableForm)| {
            let mut form = as_made();
            change(&mut form);
            check(&table, &form).unwrap_err().to_string()
        };
        for (text, found, fix) in [
            (told(|form| form.engine = "myisam".into()), "the engine myisam", "ENGINE = InnoDB"),
            (
                told(|form| form.keys.clear()),
                "no primary key on id",
                "ADD PRIMARY KEY (id), ADD KEY (expires, tombstone)",
            ),
            (told(|form| drop(form.keys.remove(0))), "no primary key on id", "ADD PRIMARY KEY (id)"),
            (told(|form| drop(form.keys.remove(1))), "no key on expires", "ADD KEY (expires, tombstone)"),
            (told(|form| form.keys[0].unique = false), "no primary key on id", "ADD PRIMARY KEY (id)"),
            (
                told(|form| form.keys[0].columns[0] += "("),
                "no primary key on id",
                "ADD PRIMARY KEY (id), DROP PRIMARY KEY",
            ),
            (
                told(|form| form.columns[0].kind = "varchar(192)".into()),
                "id of type varchar(192)",
                "MODIFY id varbinary(192) NOT NULL",
            ),
            (
                told(|form| form.columns[5].nullable = false),
                "touched that does not allow NULL",
                "MODIFY touched bigint unsigned NULL",
            ),
            (
                told(|form| drop(form.columns.remove(0))),
                "no column id of type varbinary(192)",
                "name another table",
            ),
            (told(|form| form.kind = "view".into()), "a view", "name another table"),
            (
                told(|form| form.kind = "system versioned".into()),
                "system versioning",
                "DROP SYSTEM VERSIONING",
            ),
        ] {
            assert!(text.contains(found) && text.contains(fix), "{text}");
        }
    }
}
