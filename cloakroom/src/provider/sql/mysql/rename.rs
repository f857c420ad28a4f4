//! The rename of a session, with the index rows of its two keys.

use super::connection::{Arguments, ConnectionLease};
use super::error::MySqlError;
use super::size::check_size;
use super::store::{MySqlStore, begin, bind, end};
use crate::id::StoreKey;
use crate::provider::Renamed;
use crate::provider::sql::index::IndexRows;
use crate::provider::sql::row::Columns;
use crate::provider::sql::step::MAX_ATTEMPTS;
use crate::record::Record;

/// The outcome of moving a row to another key.
enum RowMove {
    Done,
    /// No live row has the old key and that version.
    NotFound,
    /// A row had the new key. If it had expired, it has been deleted.
    KeyTaken,
}

/// A session on its way to another key.
struct KeyMove<'a> {
    old: &'a StoreKey,
    new: &'a StoreKey,
    columns: Columns<'a>,
    /// The index rows under the new key.
    rows: IndexRows,
    expected: u64,
}

pub(super) async fn rename(
    store: &MySqlStore,
    (old, new): (&StoreKey, &StoreKey),
    record: &Record,
    expected: u64,
    tombstone: Option<&Record>,
) -> Result<Renamed, MySqlError> {
    let session = KeyMove { old, new, columns: Columns::of(record), rows: IndexRows::of(record), expected };
    let tombstone = tombstone.map(|stone| (Columns::of(stone), IndexRows::of(stone)));
    let mut connection = store.connection().await?;
    let written: Vec<_> = [Some(&session.columns), tombstone.as_ref().map(|(columns, _)| columns)]
        .into_iter()
        .flatten()
        .collect();
    check_size(&connection, &written, store.max_record())?;
    for _ in 0..MAX_ATTEMPTS {
        let moved = match &tombstone {
            // The UPDATE would match the row itself.
            _ if old == new => RowMove::KeyTaken,
            None => session.change_key(store, &mut connection).await?,
            Some(tombstone) => session.replace_by(store, &mut connection, tombstone).await?,
        };
        match moved {
            RowMove::Done => return Ok(Renamed::Done),
            RowMove::NotFound => match store.version(&mut connection, old).await? {
                None => return Ok(Renamed::Gone),
                Some(found) if found != expected => return Ok(Renamed::Stale),
                // The record appeared between the two statements.
                Some(_) => {}
            },
            RowMove::KeyTaken if store.has(&mut connection, &store.sql.exists, new).await? => {
                return Ok(Renamed::Taken);
            }
            RowMove::KeyTaken if old == new => return Ok(Renamed::Gone),
            RowMove::KeyTaken => {}
        }
    }
    Err(MySqlError::Contended)
}

impl KeyMove<'_> {
    /// Changes the key of the row. If neither the old record nor the new one has index rows, one statement does it.
    async fn change_key(
        &self,
        store: &MySqlStore,
        connection: &mut ConnectionLease<'_>,
    ) -> Result<RowMove, MySqlError> {
        let mut moved = RowMove::NotFound;
        if self.rows.is_empty() {
            moved = self.change_row(store, connection, false).await?;
        }
        if matches!(moved, RowMove::NotFound) {
            begin(connection).await?;
            moved = self.change_row(store, connection, true).await?;
            if matches!(moved, RowMove::Done) {
                store.delete_index(connection, self.old).await?;
                store.insert_index(connection, self.new, &self.rows).await?;
            }
            end(connection, matches!(moved, RowMove::Done)).await?;
        }
        if matches!(moved, RowMove::KeyTaken) {
            store.delete_by(connection, &store.sql.delete_expired, self.new).await?;
        }
        Ok(moved)
    }

    /// Changes the row alone. With `indexed` false, it changes only a row without index rows.
    async fn change_row(
        &self,
        store: &MySqlStore,
        connection: &mut ConnectionLease<'_>,
        indexed: bool,
    ) -> Result<RowMove, MySqlError> {
        let mut bound: Arguments<'_> = bind(&self.columns);
        bound.bytes(self.new.as_bytes());
        bound.bytes(self.old.as_bytes());
        bound.number(self.expected);
        bound.now(store.now());
        let sql = if indexed { &store.sql.change_key } else { &store.sql.change_key_unindexed };
        match connection.execute(sql, bound).await {
            Ok(0) => Ok(RowMove::NotFound),
            Ok(_) => Ok(RowMove::Done),
            Err(error) if error.is_duplicate() => Ok(RowMove::KeyTaken),
            Err(error) => Err(error),
        }
    }

    /// Writes a tombstone under the old key and the record under the new one, in one transaction.
    async fn replace_by(
        &self,
        store: &MySqlStore,
        connection: &mut ConnectionLease<'_>,
        (tombstone, left): &(Columns<'_>, IndexRows),
    ) -> Result<RowMove, MySqlError> {
        let KeyMove { old, new, columns, rows, expected } = self;
        begin(connection).await?;
        let mut ended = rows.is_empty()
            && store.update_row(connection, &store.sql.update_unindexed, old, tombstone, *expected).await?;
        if !ended {
            ended = store.update_row(connection, &store.sql.update, old, tombstone, *expected).await?;
            if ended {
                store.delete_index(connection, old).await?;
            }
        }
        if ended {
            store.insert_index(connection, old, left).await?;
        }
        let moved = if !ended {
            RowMove::NotFound
        } else if store.insert(connection, new, columns).await? {
            store.insert_index(connection, new, rows).await?;
            RowMove::Done
        } else {
            RowMove::KeyTaken
        };
        end(connection, matches!(moved, RowMove::Done)).await?;
        Ok(moved)
    }
}
