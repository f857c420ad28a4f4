//! The table: how it is made, and whether one that is there will do.

use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::error::{Mend, MySqlError};
use super::form::{Faults, Form};
use super::link::Link;
use super::statements::Statements;
use crate::provider::sql::table::TableName;

/// A column: its name, what the server calls its type, and whether it has to take NULL.
struct Expected {
    name: &'static str,
    kind: &'static str,
    nullable: bool,
}

const fn column(name: &'static str, kind: &'static str) -> Expected {
    Expected { name, kind, nullable: false }
}

const fn nullable(name: &'static str, kind: &'static str) -> Expected {
    Expected { name, kind, nullable: true }
}

const COLUMNS: [Expected; 8] = [
    // Compared byte for byte, as `principal` is.
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

/// What a MEDIUMBLOB holds.
pub(super) const LARGEST_RECORD: usize = (1 << 24) - 1;

/// The statement that makes the table.
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

/// Makes the table if it is missing, and checks that one that is there has the same form, as an application may well have a table of this
/// name, and that the user may change it.
pub(super) async fn prepare(
    link: &mut Link<'_>,
    sql: &Statements,
    table: &TableName,
    make: bool,
) -> Result<(), MySqlError> {
    match link.prepare(&sql.load).await {
        // It is missing or has other columns, and its form tells which.
        Err(error) if error.is_of_schema() => {}
        answer => may(answer, table, "SELECT")?,
    }
    let form = match Form::of(link, table).await? {
        None => made(link, table, make).await?,
        Some(form) => form,
    };
    check(table, &form)?;
    if form.triggers > 0 {
        tracing::warn!(%table, "the table of the sessions has triggers; sessions are safe only if they leave its rows alone");
    }
    for (right, statement) in [("INSERT", &sql.insert), ("UPDATE", &sql.update), ("DELETE", &sql.delete)] {
        may(link.prepare(statement).await, table, right)?;
    }
    Ok(())
}

/// The answer to a statement that was prepared to see whether the user has the right to run it.
pub(super) fn may(
    answer: Result<(), MySqlError>,
    table: &TableName,
    right: &'static str,
) -> Result<(), MySqlError> {
    match answer {
        Err(error) if error.is_of_rights() => Err(MySqlError::Right { table: table.to_string(), right }),
        // Nothing can be prepared at the moment, and `Link` goes without.
        Err(error) if error.is_unprepared() => Ok(()),
        answer => answer,
    }
}

async fn made(link: &mut Link<'_>, table: &TableName, make: bool) -> Result<Form, MySqlError> {
    if !make {
        return Err(missing(table, FORM));
    }
    match link.command(AssertSqlSafe(create(table)).into_sql_str()).await {
        Err(error) if error.is_of_rights() => Err(MySqlError::NoTable { table: table.to_string() }),
        Err(error) => Err(error),
        Ok(()) => {
            tracing::info!(%table, "the table of the sessions was made");
            Form::of(link, table).await?.ok_or_else(|| missing(table, FORM))
        }
    }
}

pub(super) fn missing(table: &TableName, expected: &'static str) -> MySqlError {
    let found = "none: it is missing".to_owned();
    MySqlError::Foreign { table: table.to_string(), expected, found, mend: Mend(None) }
}

fn check(table: &TableName, form: &Form) -> Result<(), MySqlError> {
    let mut faults = Faults::default();
    match (&*form.kind, &*form.engine) {
        ("base table", "innodb") => {}
        // Only InnoDB locks rows, keeps what it has acknowledged, and undoes what was broken off.
        ("base table", engine) => faults.mendable(format!("the engine {engine}"), "ENGINE = InnoDB"),
        ("system versioned", _) => {
            faults.mendable("a table that keeps every former row", "DROP SYSTEM VERSIONING");
        }
        (kind, _) => faults.fatal(format!("a {kind}")),
    }
    for Expected { name, kind, nullable } in COLUMNS {
        let null = if nullable { "NULL" } else { "NOT NULL" };
        match form.column(name) {
            None => faults.fatal(format!("no column {name} of type {kind}")),
            Some(found) if found.kind != kind => {
                let found = format!("the column {name} of type {} and not {kind}", found.kind);
                faults.mendable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(found) if nullable && !found.nullable => {
                let found = format!("the column {name} that takes no NULL");
                faults.mendable(found, format!("MODIFY {name} {kind} {null}"));
            }
            Some(_) => {}
        }
    }
    let ours = COLUMNS.map(|column| column.name);
    faults.demanded(form, &ours);
    faults.not_unique(form, "id");
    faults.too_unique(form, "id", &ours);
    if !form.has_key(&["expires"]) {
        faults.mendable("no key on expires", "ADD KEY (expires, tombstone)");
    }
    // InnoDB's keys end with the primary key.
    let ends_with_id = form.keys.iter().any(|key| key.is_primary() && key.columns == ["id"]);
    let implied = ends_with_id && form.keys.iter().any(|key| key.columns == ["principal"]);
    if !implied && !form.has_key(&["principal", "id"]) {
        faults.mendable("no key on principal and id", "ADD KEY (principal, id)");
    }
    faults.answer(table, FORM)
}

#[cfg(test)]
mod tests {
    use super::super::form::{Column, Key};
    use super::*;

    fn as_made() -> Form {
        let columns = COLUMNS.map(|Expected { name, kind, nullable }| Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            nullable,
            demanded: !nullable,
        });
        let key = |name: &str, unique, columns: &[&str]| Key {
            name: name.to_owned(),
            unique,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        Form {
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
    fn the_statement_makes_the_columns_that_are_checked_for() {
        let table = TableName::default();
        let statement = create(&table).to_lowercase();
        for Expected { name, kind, .. } in COLUMNS {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = statement.lines().map(words).find(|line| line.starts_with(&format!("{name} {kind} ")));
            assert!(line.is_some(), "{name} {kind}");
        }
        assert!(check(&table, &as_made()).is_ok());
    }

    #[test]
    fn a_table_of_another_form_is_told_how_to_mend_it() {
        let table = TableName::default();
        let told = |change: fn(&mut Form)| {
            let mut form = as_made();
            change(&mut form);
            check(&table, &form).unwrap_err().to_string()
        };
        for (text, found, mend) in [
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
                "principal that takes no NULL",
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
                "every former row",
                "DROP SYSTEM VERSIONING",
            ),
        ] {
            assert!(text.contains(found) && text.contains(mend), "{text}");
        }
    }
}
