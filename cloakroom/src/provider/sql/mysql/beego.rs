//! The layout of Beego's `mysql` provider: a row holds the value of an id and the time of the last save.
//!
//! Each step is one statement, since the table is often of MyISAM, which has no transactions.

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row, SqlSafeStr, SqlStr};

use super::connection::{Arguments, ConnectionLease};
use super::error::MySqlError;
use super::form::{Faults, TableForm};
use super::schema;
use super::start;
use super::store::MySqlStore;
use crate::clock::{Clock, Millis};
use crate::error::Result;
use crate::id::StoreKey;
use crate::provider::foreign::{FoundValue, Life, Values};
use crate::provider::sql::step::MAX_ATTEMPTS;
use crate::provider::sql::table::TableName;
use crate::provider::{Capabilities, Collected, Created, Cursor, Renamed, Touched, Updated};

/// The name of Beego's table.
pub(super) const TABLE: &str = "session";
/// The most bytes of a BLOB. Without strict mode, a server would truncate a longer value silently.
const MAX_BLOB: usize = 65_535;

/// The rows of one table. A clone is a handle on the same table.
#[derive(Clone)]
pub(super) struct BeegoRows(Arc<BeegoTable>);

struct BeegoTable {
    store: MySqlStore,
    sql: BeegoStatements,
    clock: Clock,
    lifetime: Duration,
}

/// The statements of one table. Each `?` is a bound value. The key is compared twice: by the column's collation, which uses the index but
/// may ignore case and final blanks, and byte for byte.
struct BeegoStatements {
    load: SqlStr,
    insert: SqlStr,
    replace: SqlStr,
    swap: SqlStr,
    touch: SqlStr,
    rename: SqlStr,
    /// Deletes an expired row.
    remove_expired: SqlStr,
    remove: SqlStr,
    put_aside: SqlStr,
    count: SqlStr,
    collect: SqlStr,
    scan: SqlStr,
}

impl BeegoStatements {
    fn of(table: &TableName) -> Self {
        const KEY: &str = "session_key = ? AND CAST(session_key AS BINARY) = ?";
        // The bound value is the current time less the lifetime.
        const ALIVE: &str = "session_expiry * 1000 > ?";
        const SAME: &str = "COALESCE(session_data, '') = ?";
        const SET: &str = "session_data = ?, session_expiry = ?";
        const ROW: &str =
            "CAST(session_key AS BINARY), COALESCE(session_data, ''), CAST(session_expiry AS UNSIGNED)";
        // Rows that were put aside begin with another character, so no request finds them, and they expire like others. A page skips ids
        // with characters that no key has; otherwise a page full of them would end the walk.
        const OURS: &str = "session_key REGEXP '^[A-Za-z0-9_-][A-Za-z0-9_-]+$'";
        let sql = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        BeegoStatements {
            load: sql(format!("SELECT {ROW} FROM `{table}` WHERE {KEY} AND {ALIVE}")),
            insert: sql(format!(
                "INSERT INTO `{table}` (session_data, session_expiry, session_key) VALUES (?, ?, ?)"
            )),
            replace: sql(format!("UPDATE `{table}` SET {SET} WHERE {KEY} AND NOT ({ALIVE})")),
            swap: sql(format!("UPDATE `{table}` SET {SET} WHERE {KEY} AND {ALIVE} AND {SAME}")),
            touch: sql(format!(
                "UPDATE `{table}` SET session_expiry = GREATEST(session_expiry, ?) WHERE {KEY} AND {ALIVE}"
            )),
            rename: sql(format!(
                "UPDATE `{table}` SET {SET}, session_key = ? WHERE {KEY} AND {ALIVE} AND {SAME}"
            )),
            remove_expired: sql(format!("DELETE FROM `{table}` WHERE {KEY} AND NOT ({ALIVE})")),
            remove: sql(format!("DELETE FROM `{table}` WHERE {KEY} AND {ALIVE}")),
            put_aside: sql(format!(
                "UPDATE `{table}` SET session_key = CONCAT('!', LEFT(session_key, 63)) WHERE {KEY} AND {SAME}"
            )),
            count: sql(format!("SELECT COUNT(*) FROM `{table}` WHERE {ALIVE} AND {OURS}")),
            collect: sql(format!("DELETE FROM `{table}` WHERE NOT ({ALIVE}) LIMIT ?")),
            scan: sql(format!(
                "SELECT {ROW} FROM `{table}` WHERE {ALIVE} AND {OURS} AND CAST(session_key AS BINARY) > ? \
                 ORDER BY CAST(session_key AS BINARY) LIMIT ?"
            )),
        }
    }
}

impl BeegoRows {
    /// Opens an existing table.
    pub(super) async fn open(
        store: MySqlStore,
        table: &TableName,
        clock: Clock,
        lifetime: Duration,
    ) -> Result<BeegoRows, MySqlError> {
        let sql = BeegoStatements::of(table);
        let rows = BeegoTable { store, sql, clock, lifetime };
        rows.store.within_long_deadline(rows.prepare(table)).await?;
        Ok(BeegoRows(Arc::new(rows)))
    }
}

impl BeegoTable {
    /// Checks that the table has Beego's form and that the user may change it.
    async fn prepare(&self, table: &TableName) -> Result<(), MySqlError> {
        let mut connection = self.store.connection().await?;
        match connection.prepare(&self.sql.load).await {
            // The table is missing or has other columns. The check of its form reports which.
            Err(error) if error.is_wrong_table() => {}
            answer => schema::check_right(answer, table, "SELECT")?,
        }
        let form =
            TableForm::of(&mut connection, table).await?.ok_or_else(|| schema::missing(table, TABLE_FORM))?;
        check(table, &form)?;
        let changes =
            [("INSERT", &self.sql.insert), ("UPDATE", &self.sql.swap), ("DELETE", &self.sql.remove)];
        for (right, statement) in changes {
            schema::check_right(connection.prepare(statement).await, table, right)?;
        }
        start::warn_about_server(&mut connection).await
    }

    /// Returns the time that a live row's last save is later than.
    fn alive(&self) -> u64 {
        self.clock.millis().before(self.lifetime).0
    }

    fn key<'a>(&self, bound: &mut Arguments<'a>, key: &'a StoreKey) {
        bound.text(key.as_str());
        bound.bytes(key.as_bytes());
    }

    fn found(&self, row: &MySqlRow) -> Result<FoundValue, MySqlError> {
        let bytes = row.try_get::<Vec<u8>, _>(1).map_err(|_| MySqlError::Row { column: "session_data" })?;
        let saved = row.try_get::<u64, _>(2).map_err(|_| MySqlError::Row { column: "session_expiry" })?;
        let used = Millis(saved.saturating_mul(1000));
        Ok(FoundValue { value: bytes, life: Life { used, deadline: used.after(self.lifetime) } })
    }

    async fn load(
        &self,
        connection: &mut ConnectionLease<'_>,
        key: &StoreKey,
    ) -> Result<Option<FoundValue>, MySqlError> {
        let mut bound = Arguments::default();
        self.key(&mut bound, key);
        bound.number(self.alive());
        let rows = connection.fetch(&self.sql.load, bound).await?;
        rows.first().map(|row| self.found(row)).transpose()
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created, MySqlError> {
        check_size(value)?;
        let mut connection = self.store.connection().await?;
        let mut bound = saved(value, life);
        bound.text(key.as_str());
        match connection.execute(&self.sql.insert, bound).await {
            Ok(_) => Ok(Created::Done),
            Err(error) if error.is_duplicate() => {
                let mut bound = saved(value, life);
                self.key(&mut bound, key);
                bound.number(self.alive());
                match connection.execute(&self.sql.replace, bound).await? {
                    0 => Ok(Created::Taken),
                    _ => Ok(Created::Done),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn swap(
        &self,
        key: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Updated, MySqlError> {
        check_size(value)?;
        let mut connection = self.store.connection().await?;
        let mut bound = saved(value, life);
        self.key(&mut bound, key);
        bound.number(self.alive());
        bound.bytes(former);
        if connection.execute(&self.sql.swap, bound).await? > 0 {
            return Ok(Updated::Done);
        }
        Ok(if self.load(&mut connection, key).await?.is_some() { Updated::Stale } else { Updated::Gone })
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched, MySqlError> {
        let mut bound = Arguments::default();
        bound.number(used.0 / 1000);
        self.key(&mut bound, key);
        bound.number(self.alive());
        let mut connection = self.store.connection().await?;
        if connection.execute(&self.sql.touch, bound).await? > 0 {
            return Ok(Touched::Done);
        }
        // A proxy may count only changed rows, and this row was touched in the same second.
        Ok(if self.load(&mut connection, key).await?.is_some() { Touched::Done } else { Touched::Gone })
    }

    async fn rename(
        &self,
        [old, new]: [&StoreKey; 2],
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed, MySqlError> {
        check_size(value)?;
        let mut connection = self.store.connection().await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut bound = saved(value, life);
            bound.text(new.as_str());
            self.key(&mut bound, old);
            bound.number(self.alive());
            bound.bytes(former);
            match connection.execute(&self.sql.rename, bound).await {
                Ok(0) => {
                    let found = self.load(&mut connection, old).await?;
                    return Ok(if found.is_some() { Renamed::Stale } else { Renamed::Gone });
                }
                Ok(_) => return Ok(Renamed::Done),
                Err(error) if error.is_duplicate() => {}
                Err(error) => return Err(error),
            }
            // An expired row is deleted, and the next attempt finds the key free.
            let mut bound = Arguments::default();
            self.key(&mut bound, new);
            bound.number(self.alive());
            if connection.execute(&self.sql.remove_expired, bound).await? == 0 {
                return Ok(Renamed::Taken);
            }
        }
        Err(MySqlError::Contended)
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        self.key(&mut bound, key);
        bound.number(self.alive());
        Ok(self.store.connection().await?.execute(&self.sql.remove, bound).await? > 0)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<bool, MySqlError> {
        let mut bound = Arguments::default();
        self.key(&mut bound, key);
        bound.bytes(value);
        Ok(self.store.connection().await?.execute(&self.sql.put_aside, bound).await? > 0)
    }

    async fn count(&self) -> Result<u64, MySqlError> {
        let mut bound = Arguments::default();
        bound.number(self.alive());
        let rows = self.store.connection().await?.fetch(&self.sql.count, bound).await?;
        let count = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok());
        count.and_then(|count| u64::try_from(count).ok()).ok_or(MySqlError::Protocol)
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected, MySqlError> {
        let mut bound = Arguments::default();
        bound.number(self.alive());
        bound.number(limit as u64);
        let removed = self.store.connection().await?.execute(&self.sql.collect, bound).await? as usize;
        Ok(Collected { removed, more: removed == limit })
    }

    async fn scan(&self, after: &str, limit: usize) -> Result<Vec<(StoreKey, FoundValue)>, MySqlError> {
        let mut bound = Arguments::default();
        bound.number(self.alive());
        bound.bytes(after.as_bytes());
        bound.number(limit as u64);
        let rows = self.store.connection().await?.fetch(&self.sql.scan, bound).await?;
        let mut found = Vec::new();
        for row in &rows {
            let key = row.try_get::<Vec<u8>, _>(0).map_err(|_| MySqlError::Row { column: "session_key" })?;
            // An id that is no key belongs to no session.
            let key = std::str::from_utf8(&key).ok().and_then(|key| key.parse().ok());
            if let Some(key) = key {
                found.push((key, self.found(row)?));
            }
        }
        Ok(found)
    }
}

const TABLE_FORM: &str = "Beego's table of session_key, session_data and session_expiry";

/// Checks the form of Beego's table. Any engine will do, since Beego's is often MyISAM, and any collation, since statements compare the
/// key byte for byte.
fn check(table: &TableName, form: &TableForm) -> Result<(), MySqlError> {
    const COLUMNS: [(&str, &[&str], &str); 3] = [
        ("session_key", &["char", "varchar", "binary", "varbinary"], "char(64) NOT NULL"),
        ("session_data", &["blob", "mediumblob", "longblob"], "blob"),
        ("session_expiry", &["int", "bigint"], "int(11) unsigned NOT NULL"),
    ];
    let mut faults = Faults::default();
    if form.kind != "base table" {
        faults.fatal(format!("a {}", form.kind));
    }
    for (name, kinds, usual) in COLUMNS {
        let kind = form.column(name).map(|column| column.kind.split(['(', ' ']).next().unwrap_or_default());
        match kind {
            None => faults.fatal(format!("no column {name}")),
            Some(kind) if !kinds.contains(&kind) => {
                faults.fixable(format!("the column {name} of type {kind}"), format!("MODIFY {name} {usual}"));
            }
            Some(_) => {}
        }
    }
    let ours = COLUMNS.map(|(name, _, _)| name);
    faults.demanded(form, &ours);
    faults.not_unique(form, &["session_key"]);
    faults.too_unique(form, &["session_key"], &ours);
    faults.answer(table, TABLE_FORM)
}

/// Binds the columns that are written for a value.
fn saved(value: &[u8], life: Life) -> Arguments<'_> {
    let mut bound = Arguments::default();
    bound.bytes(value);
    bound.number(life.used.0 / 1000);
    bound
}

fn check_size(value: &[u8]) -> Result<(), MySqlError> {
    if value.len() <= MAX_BLOB {
        return Ok(());
    }
    Err(MySqlError::TooLarge { limit: MAX_BLOB, found: value.len(), reason: "the BLOB of Beego's table" })
}

impl Values for BeegoRows {
    fn capabilities(&self) -> Capabilities {
        Capabilities { shared: true, max_record: Some(MAX_BLOB), ..Capabilities::new("mysql") }
    }

    async fn read(&self, key: &StoreKey) -> Result<Option<FoundValue>> {
        let BeegoTable { store, .. } = &*self.0;
        let step = || async { self.0.load(&mut store.connection().await?, key).await };
        Ok(store.within_deadline(store.retry_idempotent(step)).await?)
    }

    async fn insert(&self, key: &StoreKey, value: &[u8], life: Life) -> Result<Created> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_deadline(store.retry_undone(|| self.0.insert(key, value, life))).await?)
    }

    async fn swap(&self, key: &StoreKey, former: &[u8], value: &[u8], life: Life) -> Result<Updated> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_deadline(store.retry_undone(|| self.0.swap(key, former, value, life))).await?)
    }

    async fn touch(&self, key: &StoreKey, used: Millis) -> Result<Touched> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_deadline(store.retry_idempotent(|| self.0.touch(key, used))).await?)
    }

    async fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        former: &[u8],
        value: &[u8],
        life: Life,
    ) -> Result<Renamed> {
        let BeegoTable { store, .. } = &*self.0;
        let step = || self.0.rename([old, new], former, value, life);
        Ok(store.within_deadline(store.retry_undone(step)).await?)
    }

    async fn remove(&self, key: &StoreKey) -> Result<bool> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_deadline(store.retry_undone(|| self.0.remove(key))).await?)
    }

    async fn put_aside(&self, key: &StoreKey, value: &[u8]) -> Result<()> {
        let BeegoTable { store, .. } = &*self.0;
        if store.within_deadline(store.retry_undone(|| self.0.put_aside(key, value))).await? {
            tracing::warn!("a Beego session cannot be read; it was moved to a key that begins with !");
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_long_deadline(store.retry_idempotent(|| self.0.count())).await?)
    }

    async fn remove_expired(&self, limit: usize) -> Result<Collected> {
        let BeegoTable { store, .. } = &*self.0;
        Ok(store.within_long_deadline(store.retry_undone(|| self.0.remove_expired(limit))).await?)
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(StoreKey, FoundValue)>, Option<Cursor>)> {
        /// The most rows of a page, which is completely in memory.
        const MOST: usize = 1_000;
        let BeegoTable { store, .. } = &*self.0;
        let (after, limit) = (cursor.as_ref().map_or("", Cursor::as_str), limit.clamp(1, MOST));
        let page = store.within_long_deadline(store.retry_idempotent(|| self.0.scan(after, limit))).await?;
        let next = page.last().filter(|_| page.len() == limit).map(|(last, _)| Cursor::new(last.as_str()));
        Ok((page, next))
    }
}
