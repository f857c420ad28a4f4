//! The table: how it is made, and whether one that is there will do.

use sqlx::{AssertSqlSafe, Row, SqlSafeStr, SqlStr};

use super::error::MySqlError;
use super::link::{Arguments, Link};
use crate::provider::sql::table::TableName;

/// The columns, and what the server calls their types.
const COLUMNS: [(&str, &str); 8] = [
    ("id", "varbinary(192)"),
    ("version", "bigint unsigned"),
    ("expires", "bigint unsigned"),
    ("absolute", "bigint unsigned"),
    ("touched", "bigint unsigned"),
    ("tombstone", "tinyint unsigned"),
    ("principal", "varbinary(256)"),
    ("record", "mediumblob"),
];

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
  KEY principal (principal, expires)
) ENGINE = InnoDB"
    )
}

/// Makes the table if it is missing, and sees that one that is there is of the same form: an application may well have a
/// table of this name.
pub(super) async fn prepare(link: &mut Link<'_>, table: &TableName, make: bool) -> Result<(), MySqlError> {
    let mut found = columns(link, table).await?;
    if found.is_empty() && make {
        link.command(AssertSqlSafe(create(table)).into_sql_str()).await?;
        tracing::info!(%table, "the table of the sessions was made");
        found = columns(link, table).await?;
    }
    check(table, &found)?;
    check_engine(link, table).await
}

/// Names and types, in lower case. `bigint(20)` and `bigint` are one: MySQL 8.0.19 no longer says how wide it would print.
async fn columns(link: &mut Link<'_>, table: &TableName) -> Result<Vec<(String, String)>, MySqlError> {
    const COLUMNS_OF: &str = "SELECT LOWER(CONVERT(column_name USING utf8mb4)), \
         LOWER(CONVERT(column_type USING utf8mb4)) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";
    let mut bound = Arguments::default();
    bound.text(table.as_str());
    let rows = link.fetch(&SqlStr::from_static(COLUMNS_OF), bound).await?;
    let text = |row: &sqlx::mysql::MySqlRow, place: usize| {
        row.try_get::<String, _>(place).map_err(|_| MySqlError::Row { column: "description" })
    };
    rows.iter().map(|row| Ok((text(row, 0)?, plain(&text(row, 1)?)))).collect()
}

fn plain(column_type: &str) -> String {
    match column_type.split_once("int(") {
        Some((kind, rest)) => format!("{kind}int{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => column_type.to_owned(),
    }
}

fn check(table: &TableName, found: &[(String, String)]) -> Result<(), MySqlError> {
    let foreign = |expected, found| MySqlError::Foreign { table: table.to_string(), expected, found };
    if found.is_empty() {
        return Err(foreign("a table that is there", "no columns: it is missing".to_owned()));
    }
    for (name, kind) in COLUMNS {
        let column = found.iter().find(|(found, _)| found == name);
        match column {
            Some((_, found)) if found == kind => {}
            Some((_, found)) => return Err(foreign(kind, format!("the column {name} of type {found}"))),
            None => return Err(foreign(kind, format!("no column {name}"))),
        }
    }
    Ok(())
}

/// Only InnoDB locks rows, keeps what it has acknowledged, and undoes what was broken off.
async fn check_engine(link: &mut Link<'_>, table: &TableName) -> Result<(), MySqlError> {
    const ENGINE_OF: &str = "SELECT LOWER(CONVERT(engine USING utf8mb4)) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?";
    let mut bound = Arguments::default();
    bound.text(table.as_str());
    let rows = link.fetch(&SqlStr::from_static(ENGINE_OF), bound).await?;
    let engine = rows.first().and_then(|row| row.try_get::<Option<String>, _>(0).ok().flatten());
    match engine.as_deref() {
        Some("innodb") => Ok(()),
        other => Err(MySqlError::Foreign {
            table: table.to_string(),
            expected: "InnoDB",
            found: format!("the engine {}", other.unwrap_or("of a view")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_makes_the_columns_that_are_checked_for() {
        let table = TableName::default();
        let statement = create(&table).to_lowercase();
        for (name, kind) in COLUMNS {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = statement.lines().map(words).find(|line| line.starts_with(&format!("{name} {kind} ")));
            assert!(line.is_some(), "{name} {kind}");
        }
        let found: Vec<_> = COLUMNS.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into();
        assert!(check(&table, &found).is_ok());
        let missing = check(&table, &found[1..]).unwrap_err().to_string();
        assert!(missing.contains("no column id") && missing.contains("varbinary(192)"), "{missing}");
    }

    #[test]
    fn the_width_that_older_servers_tell_is_passed_over() {
        assert_eq!(plain("bigint(20) unsigned"), "bigint unsigned");
        assert_eq!(plain("tinyint(3) unsigned"), "tinyint unsigned");
        assert_eq!(plain("varbinary(192)"), "varbinary(192)");
        assert_eq!(plain("mediumblob"), "mediumblob");
    }
}
