//! The steps of the provider contract that change something. The writer runs each in a savepoint of its transaction.

use rusqlite::{Connection, Params};

use super::error::SqliteError;
use super::statements::SqliteStatements;
use super::value::{bound, bound_version};
use crate::id::StoreKey;
use crate::provider::sql::index::IndexRows;
use crate::provider::sql::row::Columns;
use crate::provider::{Collected, Created, Renamed, Touched, Updated};
use crate::record::Record;

/// One change in the writer's transaction, at one time.
pub(super) struct ChangeStep<'c> {
    pub(super) connection: &'c Connection,
    pub(super) sql: &'c SqliteStatements,
    /// The time that deadlines are compared with, in milliseconds since 1970.
    pub(super) now: i64,
}

impl ChangeStep<'_> {
    /// Stores a record under a free key. A key is free too if its record has expired, which is removed then.
    pub(super) fn create(&self, key: &StoreKey, record: &Record) -> Result<Created, SqliteError> {
        let columns = Columns::of(record);
        if !self.insert(key, &columns)? {
            if self.has(&self.sql.exists, (key.as_str(), self.now))? {
                return Ok(Created::Taken);
            }
            self.remove_expired(key)?;
            if !self.insert(key, &columns)? {
                return Ok(Created::Taken);
            }
        }
        self.insert_index(key, &IndexRows::of(record))?;
        Ok(Created::Done)
    }

    /// Replaces the record if it still has the version of `base`, and its index rows if they differ.
    pub(super) fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> Result<Updated, SqliteError> {
        if !self.update_row(key, &Columns::of(record), base.version())? {
            return Ok(if self.version(key)?.is_some() { Updated::Stale } else { Updated::Gone });
        }
        // The stored record had the entries of the base, since it was at its version. An unreadable one may have others, so all are deleted.
        let (before, after) = (IndexRows::of(base), IndexRows::of(record));
        if before != after {
            self.delete_index(key)?;
            self.insert_index(key, &after)?;
        }
        Ok(Updated::Done)
    }

    /// Writes the time of last use and the deadline that follows. The record stays.
    pub(super) fn touch(&self, key: &StoreKey, at: u64) -> Result<Touched, SqliteError> {
        let touched = self.run(&self.sql.touch, (bound(at), key.as_str(), self.now))?;
        Ok(if touched == 1 { Touched::Done } else { Touched::Gone })
    }

    /// Moves a session to the key `new`, and leaves `tombstone` or nothing under `old`.
    ///
    /// The transaction has the database's only write lock, so what the first statements find still holds at the last one.
    pub(super) fn rename(
        &self,
        (old, new): (&StoreKey, &StoreKey),
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> Result<Renamed, SqliteError> {
        match self.version(old)? {
            None => return Ok(Renamed::Gone),
            Some(found) if found != bound_version(expected) => return Ok(Renamed::Stale),
            Some(_) => {}
        }
        if self.has(&self.sql.exists, (new.as_str(), self.now))? {
            return Ok(Renamed::Taken);
        }
        self.remove_expired(new)?;
        let columns = Columns::of(record);
        let moved = match tombstone {
            None => self.change_key(old, new, &columns, expected)?,
            Some(tombstone) => {
                self.update_row(old, &Columns::of(tombstone), expected)? && self.insert(new, &columns)?
            }
        };
        if !moved {
            // A trigger of the application's has changed one of the rows.
            return Err(SqliteError::Row { column: "version" });
        }
        self.delete_index(old)?;
        if let Some(tombstone) = tombstone {
            self.insert_index(old, &IndexRows::of(tombstone))?;
        }
        self.insert_index(new, &IndexRows::of(record))?;
        Ok(Renamed::Done)
    }

    /// Deletes a live session with its index rows. A tombstone stays.
    pub(super) fn delete(&self, key: &StoreKey) -> Result<bool, SqliteError> {
        let deleted = self.run(&self.sql.delete, (key.as_str(), self.now))? == 1;
        if deleted {
            self.delete_index(key)?;
        }
        Ok(deleted)
    }

    /// Deletes at most `most` expired records, the oldest first, with their index rows.
    pub(super) fn collect(&self, most: usize) -> Result<Collected, SqliteError> {
        let mut removed = 0;
        if most > 0 {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            self.run(&self.sql.collect_index, (self.now, most))?;
            removed = self.run(&self.sql.collect, (self.now, most))?;
        }
        let more = removed >= most && self.has(&self.sql.remaining, (self.now,))?;
        Ok(Collected { removed, more })
    }

    /// Moves an unreadable record away and keeps it for a week. Returns false if the row is not the one that was loaded any more.
    pub(super) fn put_aside(&self, key: &StoreKey, bytes: &[u8]) -> Result<bool, SqliteError> {
        let moved = self.run(&self.sql.put_aside, (key.as_str(), bytes, self.now))? == 1;
        if moved {
            self.delete_index(key)?;
        }
        Ok(moved)
    }

    fn insert(&self, key: &StoreKey, columns: &Columns<'_>) -> Result<bool, SqliteError> {
        let Columns { version, expires, absolute, idle, tombstone, record } = *columns;
        let version = bound_version(version);
        let values = (version, bound(expires), bound(absolute), bound(idle), tombstone, record, key.as_str());
        Ok(self.run(&self.sql.insert, values)? == 1)
    }

    fn update_row(&self, key: &StoreKey, columns: &Columns<'_>, expected: u64) -> Result<bool, SqliteError> {
        let Columns { version, expires, absolute, idle, tombstone, record } = *columns;
        let (version, expected) = (bound_version(version), bound_version(expected));
        let (expires, absolute, idle) = (bound(expires), bound(absolute), bound(idle));
        let values = (version, expires, absolute, idle, tombstone, record, key.as_str(), expected, self.now);
        Ok(self.run(&self.sql.update, values)? == 1)
    }

    fn change_key(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        columns: &Columns<'_>,
        expected: u64,
    ) -> Result<bool, SqliteError> {
        let Columns { version, expires, absolute, idle, tombstone, record } = *columns;
        let (version, expected) = (bound_version(version), bound_version(expected));
        let (expires, absolute, idle) = (bound(expires), bound(absolute), bound(idle));
        let (old, new) = (old.as_str(), new.as_str());
        let values = (version, expires, absolute, idle, tombstone, record, old, expected, self.now, new);
        Ok(self.run(&self.sql.change_key, values)? == 1)
    }

    /// Returns the version of the live session under `key`, as it is stored.
    fn version(&self, key: &StoreKey) -> Result<Option<i64>, SqliteError> {
        let mut statement = self.connection.prepare_cached(&self.sql.version)?;
        let mut rows = statement.query((key.as_str(), self.now))?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }

    fn remove_expired(&self, key: &StoreKey) -> Result<(), SqliteError> {
        if self.run(&self.sql.delete_expired, (key.as_str(), self.now))? > 0 {
            self.delete_index(key)?;
        }
        Ok(())
    }

    fn insert_index(&self, key: &StoreKey, rows: &IndexRows) -> Result<(), SqliteError> {
        for entry in rows.parts().flatten() {
            self.run(&self.sql.index_insert, (entry.kind().as_str(), entry.value(), key.as_str()))?;
        }
        Ok(())
    }

    fn delete_index(&self, key: &StoreKey) -> Result<(), SqliteError> {
        self.run(&self.sql.index_delete, (key.as_str(),)).map(drop)
    }

    /// Returns true if `sql` finds a row.
    fn has(&self, sql: &str, values: impl Params) -> Result<bool, SqliteError> {
        Ok(self.connection.prepare_cached(sql)?.exists(values)?)
    }

    /// Runs a statement and returns the number of changed rows.
    fn run(&self, sql: &str, values: impl Params) -> Result<usize, SqliteError> {
        Ok(self.connection.prepare_cached(sql)?.execute(values)?)
    }
}
