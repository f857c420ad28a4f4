//! The layout of Beego's `postgres` provider: a row holds the value of an id and the time of the last save.
//!
//! The time has no zone: it is what the clock on the wall of the Go server showed. So each statement is told that server's zone.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::connection::PostgresLease;
use super::error::PostgresError;
use super::form::{RelationFaults, RelationForm};
use super::name::TablePair;
use super::schema;
use super::start::{self, Losses};
use super::statements::{self, SqlText};
use super::store::{LARGEST_RECORD, PostgresStore};
use super::value::{SqlValue, stored};
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::foreign::{FoundValue, Life, Values};
use crate::provider::sql::step::MAX_ATTEMPTS;
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};

/// The name of Beego's table.
pub(super) const TABLE: &str = "session";

/// The rows of one table. A clone is a handle on the same table.
#[derive(Clone)]
pub(super) struct PostgresBeegoRows(Arc<PostgresBeegoTable>);

struct PostgresBeegoTable {
    store: PostgresStore,
    sql: PostgresBeegoStatements,
    clock: Clock,
    lifetime: Duration,
    /// The zone of the Go server.
    zone: Box<str>,
    losses: Losses,
}

/// The statements of one table. `$1` is the zone, `$2` the current time less the lifetime in milliseconds, `$3` the key.
struct PostgresBeegoStatements {
    load: SqlText,
    insert: SqlText,
    swap: SqlText,
    touch: SqlText,
    rename: SqlText,
    /// Deletes an expired row.
    remove_expired: SqlText,
    remove: SqlText,
    put_aside: SqlText,
    count: SqlText,
    collect: SqlText,
    scan: SqlText,
}

const ALIVE: &str =
    "session_expiry > pg_catalog.to_timestamp($2::double precision / 1000::double precision) AT TIME ZONE $1";
/// A text as the type of the column, so that the comparison uses the index. The type ignores the blanks that it pads a key with.
const KEY: &str = "session_key = $3::bpchar";

impl PostgresBeegoStatements {
    fn of(tables: &TablePair, durable: &str) -> Self {
        const ROW: &str = "session_key::text, COALESCE(session_data, ''), \
             pg_catalog.floor(pg_catalog.date_part('epoch', session_expiry AT TIME ZONE $1) * 1000::double precision)::bigint";
        // Rows that were put aside begin with another character. A page skips ids with characters that no key has; otherwise a page full of
        // them would end the walk.
        const OURS: &str = "session_key::text ~ '^[A-Za-z0-9_-][A-Za-z0-9_-]+$'";
        let table = tables.table();
        let saved =
            |place: usize| format!("pg_catalog.to_timestamp(${place}::double precision) AT TIME ZONE $1");
        let same = |place: usize| format!("COALESCE(session_data, '') = ${place}");
        PostgresBeegoStatements {
            load: SqlText::new(format!("SELECT {ROW} FROM {table} WHERE {KEY} AND {ALIVE}")),
            insert: SqlText::new(format!(
                "INSERT INTO {table} AS held (session_key, session_data, session_expiry) \
                 SELECT $3::bpchar, $4, {saved} WHERE {durable} ON CONFLICT (session_key) \
                 DO UPDATE SET session_data = $4, session_expiry = {saved} WHERE NOT (held.{ALIVE})",
                saved = saved(5)
            )),
            swap: SqlText::new(format!(
                "WITH done AS (UPDATE {table} SET session_data = $4, session_expiry = {} \
                 WHERE {KEY} AND {ALIVE} AND {} AND {durable} RETURNING 1) SELECT 1::bigint FROM done UNION ALL \
                 SELECT 0::bigint FROM {table} WHERE {KEY} AND {ALIVE} AND NOT EXISTS (SELECT FROM done)",
                saved(5),
                same(6)
            )),
            touch: SqlText::new(format!(
                "UPDATE {table} SET session_expiry = GREATEST(session_expiry, {}) WHERE {KEY} AND {ALIVE}",
                saved(4)
            )),
            rename: SqlText::new(format!(
                "UPDATE {table} SET session_data = $4, session_expiry = {}, session_key = $7::bpchar \
                 WHERE {KEY} AND {ALIVE} AND {} AND {durable}",
                saved(5),
                same(6)
            )),
            remove_expired: SqlText::new(format!("DELETE FROM {table} WHERE {KEY} AND NOT ({ALIVE})")),
            remove: SqlText::new(format!("DELETE FROM {table} WHERE {KEY} AND {ALIVE} AND {durable}")),
            put_aside: SqlText::new(format!(
                "UPDATE {table} SET session_key = '!' || pg_catalog.left($1, 63) \
                 WHERE session_key = $1::bpchar AND {}",
                same(2)
            )),
            count: SqlText::new(format!("SELECT pg_catalog.count(*) FROM {table} WHERE {ALIVE} AND {OURS}")),
            collect: SqlText::new(format!(
                "DELETE FROM {table} WHERE session_key = ANY (ARRAY(SELECT session_key FROM {table} WHERE NOT ({ALIVE}) LIMIT $3 \
                 FOR UPDATE SKIP LOCKED)) AND NOT ({ALIVE})"
            )),
            scan: SqlText::new(format!(
                "SELECT {ROW} FROM {table} WHERE {ALIVE} AND {OURS} AND session_key::text COLLATE \"C\" > $3 \
                 ORDER BY session_key::text COLLATE \"C\" LIMIT $4"
            )),
        }
    }
}

impl PostgresBeegoRows {
    /// Opens an existing table. Without a `zone`, the Go server's is taken to be the connection's.
    pub(super) async fn open(
        store: PostgresStore,
        tables: &TablePair,
        relaxed: bool,
        lifetime: Duration,
        zone: Option<Box<str>>,
    ) -> Result<PostgresBeegoRows, PostgresError> {
        let mut connection = store.connection().await?;
        let table = tables.table();
        let form = RelationForm::of(&mut connection, &table).await?;
        let form = form.ok_or_else(|| schema::missing(&table, TABLE_FORM))?;
        check(&table, &form)?;
        let losses = start::losses(form.is_unlogged(), relaxed);
        let zone = known_zone(&mut connection, zone).await?;
        warn_about_zone(&mut connection, &table, &zone).await?;
        if let Some(facts) = connection.facts() {
            start::warn_about_server(facts, store.clock.is_some());
        }
        drop(connection);
        let clock = store.clock.clone().unwrap_or_default();
        let sql = PostgresBeegoStatements::of(tables, statements::durability(relaxed));
        Ok(PostgresBeegoRows(Arc::new(PostgresBeegoTable { store, sql, clock, lifetime, zone, losses })))
    }
}

/// Returns the zone that was chosen, if the server knows it, or the connection's.
async fn known_zone(
    connection: &mut PostgresLease<'_>,
    chosen: Option<Box<str>>,
) -> Result<Box<str>, PostgresError> {
    const NAMED: &str = "SELECT COALESCE((SELECT name FROM pg_catalog.pg_timezone_names WHERE name = $1), \
         CASE WHEN $1 = '' THEN pg_catalog.current_setting('TimeZone') END)";
    let values = [SqlValue::Text(chosen.as_deref().unwrap_or_default())];
    let rows = connection.query(NAMED, &values).await?;
    let zone = rows.first().and_then(|row| row.try_get::<_, Option<String>>(0).ok()).flatten();
    let (what, expected) = ("the time zone", "a name that the server knows, such as Asia/Shanghai");
    let found = "another name".to_owned();
    zone.map(Box::from).ok_or(PostgresError::Setting { what, expected, found })
}

/// Warns if rows were saved in the future, since another zone is then the Go server's.
async fn warn_about_zone(
    connection: &mut PostgresLease<'_>,
    table: &str,
    zone: &str,
) -> Result<(), PostgresError> {
    let future = format!(
        "SELECT EXISTS (SELECT FROM {table} WHERE session_expiry > \
         (pg_catalog.clock_timestamp() + interval '5 minutes') AT TIME ZONE $1)"
    );
    let rows = connection.query(&future, &[SqlValue::Text(zone)]).await?;
    if rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        tracing::warn!(
            zone,
            "Beego's table has sessions that were saved in the future, so they live for too long; set the time zone of the Go server"
        );
    }
    Ok(())
}

impl PostgresBeegoTable {
    /// Returns the values `$1` and `$2`.
    fn times(&self) -> Vec<SqlValue<'_>> {
        let alive = self.clock.millis().before(self.lifetime).0;
        vec![SqlValue::Text(&self.zone), SqlValue::Number(stored(alive))]
    }

    /// Returns the values `$1` to `$3`.
    fn key<'a>(&'a self, key: &'a StoreKey) -> Vec<SqlValue<'a>> {
        let mut values = self.times();
        values.push(SqlValue::Text(key.as_str()));
        values
    }

    fn found(&self, row: &Row) -> Result<FoundValue, PostgresError> {
        let value = row.try_get(1).map_err(|_| PostgresError::Row { column: "session_data" })?;
        let saved: i64 = row.try_get(2).map_err(|_| PostgresError::Row { column: "session_expiry" })?;
        let used = Millis(saved.max(0).cast_unsigned());
        Ok(FoundValue { value, life: Life { used, deadline: used.after(self.lifetime) } })
    }

    async fn load(&self, key: &StoreKey) -> Result<Option<FoundValue>, PostgresError> {
        let rows = self.store.connection().await?.fetch(&self.sql.load, &self.key(key)).await?;
        rows.first().map(|row| self.found(row)).transpose()
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created, PostgresError> {
        let mut values = self.key(key);
        values.extend(saved(value, life));
        let inserted = self.store.connection().await?.execute(&self.sql.insert, &values).await?;
        Ok(if inserted > 0 { Created::Done } else { Created::Taken })
    }

    async fn swap(
        &self,
        key: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Updated, PostgresError> {
        let mut values = self.key(key);
        values.extend(saved(value, life));
        values.push(SqlValue::Bytes(former));
        for _ in 0..MAX_ATTEMPTS {
            let rows = self.store.connection().await?.fetch(&self.sql.swap, &values).await?;
            match rows.first().map(|row| row.try_get::<_, i64>(0)) {
                None => return Ok(Updated::Gone),
                Some(Ok(1)) => return Ok(Updated::Done),
                Some(_) => {}
            }
            // Another call may have changed or removed the row after the statement began, so its answer is of the row before that.
            match self.load(key).await? {
                None => return Ok(Updated::Gone),
                Some(found) if found.value != former => return Ok(Updated::Stale),
                Some(_) => {}
            }
        }
        Err(PostgresError::Contended)
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched, PostgresError> {
        let mut values = self.key(key);
        values.push(SqlValue::Number(stored(used.0 / 1000)));
        let touched = self.store.connection().await?.execute(&self.sql.touch, &values).await?;
        Ok(if touched > 0 { Touched::Done } else { Touched::Gone })
    }

    async fn rename(
        &self,
        [old, new]: [&StoreKey; 2],
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed, PostgresError> {
        let mut values = self.key(old);
        values.extend(saved(value, life));
        values.extend([SqlValue::Bytes(former), SqlValue::Text(new.as_str())]);
        for _ in 0..MAX_ATTEMPTS {
            let renamed = self.store.connection().await?.execute(&self.sql.rename, &values).await;
            match renamed {
                Ok(0) => {
                    return Ok(if self.load(old).await?.is_some() { Renamed::Stale } else { Renamed::Gone });
                }
                Ok(_) => return Ok(Renamed::Done),
                Err(error) if error.is_duplicate() => {}
                Err(error) => return Err(error),
            }
            // An expired row is deleted, and the next attempt finds the key free.
            let connection = &mut self.store.connection().await?;
            let removed = connection.execute(&self.sql.remove_expired, &self.key(new)).await?;
            if removed == 0 && !connection.fetch(&self.sql.load, &self.key(new)).await?.is_empty() {
                return Ok(Renamed::Taken);
            }
        }
        Err(PostgresError::Contended)
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool, PostgresError> {
        Ok(self.store.connection().await?.execute(&self.sql.remove, &self.key(key)).await? > 0)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<bool, PostgresError> {
        let values = [SqlValue::Text(key.as_str()), SqlValue::Bytes(value)];
        Ok(self.store.connection().await?.execute(&self.sql.put_aside, &values).await? > 0)
    }

    async fn count(&self) -> Result<u64, PostgresError> {
        let rows = self.store.connection().await?.fetch(&self.sql.count, &self.times()).await?;
        let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
        count.map(i64::cast_unsigned).ok_or(PostgresError::Protocol)
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected, PostgresError> {
        let mut values = self.times();
        values.push(SqlValue::Number(i64::try_from(limit).unwrap_or(i64::MAX)));
        let removed = self.store.connection().await?.execute(&self.sql.collect, &values).await?;
        let removed = usize::try_from(removed).unwrap_or(limit);
        Ok(Collected { removed, more: removed == limit })
    }

    async fn scan(&self, after: &str, limit: usize) -> Result<Vec<(StoreKey, FoundValue)>, PostgresError> {
        let mut values = self.times();
        values.extend([SqlValue::Text(after), SqlValue::Number(limit as i64)]);
        let rows = self.store.connection().await?.fetch(&self.sql.scan, &values).await?;
        let mut found = Vec::new();
        for row in &rows {
            let key: String = row.try_get(0).map_err(|_| PostgresError::Row { column: "session_key" })?;
            // An id that is no key belongs to no session.
            if let Ok(key) = key.parse() {
                found.push((key, self.found(row)?));
            }
        }
        Ok(found)
    }
}

const TABLE_FORM: &str = "Beego's table of session_key, session_data and session_expiry";

/// Checks the form of Beego's table.
fn check(table: &str, form: &RelationForm) -> Result<(), PostgresError> {
    const COLUMNS: [(&str, &str, &str); 3] = [
        ("session_key", "character", "char(64)"),
        ("session_data", "bytea", "bytea"),
        ("session_expiry", "timestamp without time zone", "timestamp"),
    ];
    let mut faults = RelationFaults::of(table);
    faults.check_kind(form);
    for (name, kind, usual) in COLUMNS {
        match form.column(name) {
            None => faults.fatal(format!("no column {name}")),
            Some(column) if without_size(&column.kind) != kind => {
                let found = format!("the column {name} of type {}", column.kind);
                faults.alterable(found, format!("ALTER COLUMN {name} TYPE {usual}"));
            }
            Some(_) => {}
        }
    }
    let ours = COLUMNS.map(|(name, _, _)| name);
    faults.check_demanded(form, &ours);
    faults.check_unique(form, &["session_key"]);
    faults.check_not_too_unique(form, &["session_key"], &ours);
    faults.answer(TABLE_FORM)?;
    schema::check_use(table, form, &[])
}

/// Removes the size of a type: `character(64)` is `character`.
fn without_size(kind: &str) -> String {
    match (kind.find('('), kind.find(')')) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &kind[..start], &kind[end + 1..]),
        _ => kind.to_owned(),
    }
}

/// Returns the values of the columns that are written for a value.
fn saved(value: &[u8], life: Life) -> [SqlValue<'_>; 2] {
    [SqlValue::Bytes(value), SqlValue::Number(stored(life.used.0 / 1000))]
}

impl Values for PostgresBeegoRows {
    fn capabilities(&self) -> Capabilities {
        Capabilities { shared: true, max_record: Some(LARGEST_RECORD), ..Capabilities::new("postgres") }
            .may_lose(self.0.losses)
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<FoundValue>> {
        Ok(self.0.store.idempotent_step(|| self.0.load(key)).await?)
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        Ok(self.0.store.step(|| self.0.insert(key, value, life)).await?)
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        Ok(self.0.store.step(|| self.0.swap(key, former, value, life)).await?)
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched> {
        Ok(self.0.store.idempotent_step(|| self.0.touch(key, used)).await?)
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed> {
        Ok(self.0.store.step(|| self.0.rename([old, new], former, value, life)).await?)
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        Ok(self.0.store.step(|| self.0.remove(key)).await?)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        if self.0.store.step(|| self.0.put_aside(key, value)).await? {
            tracing::warn!("a Beego session cannot be read; it was moved to a key that begins with !");
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        Ok(self.0.store.long_step(|| self.0.count()).await?)
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected> {
        Ok(self.0.store.long_step(|| self.0.remove_expired(limit)).await?)
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)> {
        /// The most rows of a page, which is completely in memory.
        const MOST: usize = 1_000;
        let (after, limit) = (cursor.as_ref().map_or("", Cursor::as_str), limit.clamp(1, MOST));
        let page = self.0.store.long_step(|| self.0.scan(after, limit)).await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(last, _)| Cursor::new(last.as_str()));
        Ok((page, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_type_does_not_count() {
        assert_eq!(without_size("character(64)"), "character");
        assert_eq!(without_size("timestamp(0) without time zone"), "timestamp without time zone");
        assert_eq!(without_size("bytea"), "bytea");
    }
}
