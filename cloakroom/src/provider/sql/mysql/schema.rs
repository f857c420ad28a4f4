//! The table: the statement that creates it, and the check of an existing one.

use sqlx::{AssertSqlSafe, SqlSafeStr};

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
    nullable("touched", "bigint unsigned"),
    column("tombstone", "tinyint unsigned"),
    nullable("principal", "varbinary(256)"),
    column("record", "mediumblob"),
];

const FORM: &str = "the table that `cloakroom schema mysql` prints";

/// The most bytes of a MEDIUMBLOB.
pub(super) const LARGEST_RECORD: usize = (1 << 24) - 1;

/// Returns the statement that creates the table.
pub(super) fn create(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS `{table}` (
  id        VARBINARY(192)   NOT NULL COMMENT 'the store key: a hash of the session id, or the id where ids are kept in clear',
  version   BIGINT UNSIGNED  NOT NULL COMMENT 'compared and swapped by every change',
  expires   BIGINT UNSIGNED  NOT NULL COMMENT 'milliseconds since 1970 in UTC; from then on the row is not there',
  absolute  BIGINT UNSIGNED  NOT NULL COMMENT 'the deadline that no use moves',
  touched   BIGINT UNSIGNED  NULL     COMMENT 'last use, where that is later than the record says',
  tombstone TINYINT UNSIGNED NOT NULL COMMENT '1: no session, but the mark that one was here',
  principal VARBINARY(256)   NULL     COMMENT 'whose session it is, in UTF-8',
  record    MEDIUMBLOB       NOT NULL COMMENT 'the session in the native format',
  PRIMARY KEY (id),
  KEY expiry (expires, tombstone),
  KEY principal (principal, id)
) ENGINE = InnoDB"
    )
}

/// Creates the table if it is missing. Checks the form of an existing table, which may belong to the application, and the user's rights.
pub(super) async fn prepare(
    connection: &mut ConnectionLease<'_>,
    sql: &Statements,
    table: &TableName,
    make: bool,
) -> Result<(), MySqlError> {
    match connection.prepare(&sql.load).await {
        // The table is missing or has other columns. The check of its form reports which.
        Err(error) if error.is_wrong_table() => {}
        answer => check_right(answer, table, "SELECT")?,
    }
    let form = match TableForm::of(connection, table).await? {
        None => create_missing(connection, table, make).await?,
        Some(form) => form,
    };
    check(table, &form)?;
    if form.triggers > 0 {
        tracing::warn!(%table, "the sessions table has triggers; sessions are safe only if the triggers do not change its rows");
    }
    for (right, statement) in [("INSERT", &sql.insert), ("UPDATE", &sql.update), ("DELETE", &sql.delete)] {
        check_right(connection.prepare(statement).await, table, right)?;
    }
    Ok(())
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
    make: bool,
) -> Result<TableForm, MySqlError> {
    if !make {
        return Err(missing(table, FORM));
    }
    match connection.command(AssertSqlSafe(create(table)).into_sql_str()).await {
        Err(error) if error.is_missing_right() => Err(MySqlError::NoTable { table: table.to_string() }),
        Err(error) => Err(error),
        Ok(()) => {
            tracing::info!(%table, "created the sessions table");
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
    match (&*form.kind, &*form.engine) {
        ("base table", "innodb") => {}
        // Only InnoDB locks rows, keeps acknowledged changes, and rolls back transactions.
        ("base table", engine) => faults.fixable(format!("the engine {engine}"), "ENGINE = InnoDB"),
        ("system versioned", _) => {
            faults.fixable("a table with system versioning", "DROP SYSTEM VERSIONING");
        }
        (kind, _) => faults.fatal(format!("a {kind}")),
    }
    for ExpectedColumn { name, kind, nullable } in COLUMNS {
        let null = if nullable { "NULL" } else { "NOT NULL" };
        match form.column(name) {
            None => faults.fatal(format!("no column {name} of type {kind}")),
            Some(found) if found.kind != kind => {
                let found = format!("the column {name} of type {} and not {kind}", found.kind);
                faults.fixable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(found) if nullable && !found.nullable => {
                let found = format!("the column {name} that does not allow NULL");
                faults.fixable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(_) => {}
        }
    }
    let ours = COLUMNS.map(|column| column.name);
    faults.demanded(form, &ours);
    faults.not_unique(form, "id");
    faults.too_unique(form, "id", &ours);
    if !form.has_key(&["expires"]) {
        faults.fixable("no key on expires", "ADD KEY (expires, tombstone)");
    }
    // InnoDB appends the primary key to every other key.
    let ends_with_id = form.keys.iter().any(|key| key.is_primary() && key.columns == ["id"]);
    let implied = ends_with_id && form.keys.iter().any(|key| key.columns == ["principal"]);
    if !implied && !form.has_key(&["principal", "id"]) {
        faults.fixable("no key on principal and id", "ADD KEY (principal, id)");
    }
    faults.answer(table, FORM)
}

#[cfg(test)]
mod tests {
    use super::super::form::{TableColumn, TableKey};
    use super::*;

    fn as_made() -> TableForm {
        let columns = COLUMNS.map(|ExpectedColumn { name, kind, nullable }| TableColumn {
            name: name.to_owned(),
            kind: kind.to_owned(),
            nullable,
            demanded: !nullable,
        });
        let key = |name: &str, unique, columns: &[&str]| TableKey {
            name: name.to_owned(),
            unique,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        TableForm {
            kind: "base table".to_owned(),
            engine: "innodb".to_owned(),
            columns: columns.into(),
            keys: vec![
                key("PRIMARY", true, &["id"]),
                key("expiry", false, &["expires", "tombstone"]),
                key("principal", false, &["principal", "id"]),
            ],
            triggers: 0,
        }
    }

    #[test]
    fn the_created_table_passes_the_check() {
        let table = TableName::default();
        let statement = create(&table).to_lowercase();
        for ExpectedColumn { name, kind, .. } in COLUMNS {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = statement.lines().map(words).find(|line| line.starts_with(&format!("{name} {kind} ")));
            assert!(line.is_some(), "{name} {kind}");
        }
        assert!(check(&table, &as_made()).is_ok());
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
            (told(|form| drop(form.keys.remove(2))), "no key on principal", "ADD KEY (principal, id)"),
            (told(|form| form.keys[0].unique = false), "no primary key on id", "ADD PRIMARY KEY (id)"),
            (
                told(|form| form.keys[0].columns[0] += "("),
                "no primary key on id",
                "ADD PRIMARY KEY (id), DROP PRIMARY KEY",
            ),
            (
                told(|form| form.keys[2].columns = vec!["principal".into(), "expires".into()]),
                "no key on principal",
                "ADD KEY",
            ),
            (
                told(|form| form.columns[0].kind = "varchar(192)".into()),
                "id of type varchar(192)",
                "MODIFY id varbinary(192) NOT NULL",
            ),
            (
                told(|form| form.columns[6].nullable = false),
                "principal that does not allow NULL",
                "MODIFY principal varbinary(256) NULL",
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
