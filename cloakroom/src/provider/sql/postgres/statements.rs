//! The statements of one provider, for its two tables.
//!
//! Each step is one statement, and each statement a transaction of its own. So nothing depends on the state of a session, which a pooler
//! between this process and the server may share between clients.
//!
//! Functions are named with their schema, and both sides of an operator have the types of one that PostgreSQL has. Otherwise an
//! operator that another user has put into a schema of `search_path` would fit better, and would run with this user's rights.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::listen;
use super::name::TablePair;
use crate::provider::sql::row::KEEP_UNREADABLE;
use crate::record::Head;

/// The source of the time that deadlines are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimeSource {
    /// The server's clock.
    Server,
    /// A value that each statement gets.
    Bound,
}

impl TimeSource {
    /// Returns the time of a statement on one key. A statement that waited for a lock compares with the time after the wait.
    fn now(self, bound: usize) -> String {
        self.millis(bound, "pg_catalog.clock_timestamp()")
    }

    /// Returns the time of a statement on many rows. It is the same for all of them, so that an index can find them.
    fn start(self, bound: usize) -> String {
        self.millis(bound, "pg_catalog.statement_timestamp()")
    }

    /// Returns milliseconds since 1970: the value `bound`, or those of `clock`. With the server's clock the value is bound and not used.
    fn millis(self, bound: usize, clock: &str) -> String {
        match self {
            TimeSource::Bound => format!("${bound}"),
            TimeSource::Server => format!(
                "pg_catalog.floor(pg_catalog.date_part('epoch', {clock}) * 1000::double precision)::bigint"
            ),
        }
    }
}

/// The condition that a row is a session that has not expired.
fn live(now: &str) -> String {
    format!("NOT tombstone AND expires > {now}")
}

/// The text of a statement, and a number that no other one has in this process.
#[derive(Debug)]
pub(super) struct SqlText {
    text: String,
    number: usize,
}

impl SqlText {
    pub(super) fn new(text: String) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        SqlText { text, number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }
}

/// The durability of a commit, as a condition that is always true and sets the level of the statement's own transaction.
///
/// A condition is evaluated for each row that is changed. So it holds whatever the role, the database or a pooler has set.
const SYNCHRONOUS: &str = "(pg_catalog.current_setting('synchronous_commit') <> 'off' \
     OR pg_catalog.set_config('synchronous_commit', 'on', true) = 'on')";
/// The same for commits that do not wait for the disk.
const RELAXED: &str = "pg_catalog.set_config('synchronous_commit', 'off', true) = 'off'";

/// Returns the condition that sets the level of a commit.
pub(super) fn durability(relaxed: bool) -> &'static str {
    if relaxed { RELAXED } else { SYNCHRONOUS }
}

/// The statements on one table and its index.
#[derive(Debug)]
pub(super) struct PostgresStatements {
    pub(super) load: SqlText,
    /// Inserts a record without index rows, or puts it in the place of an expired one.
    pub(super) insert: SqlText,
    /// Inserts a record with index rows.
    pub(super) insert_indexed: SqlText,
    /// Updates a record whose index rows stay the same.
    pub(super) update: SqlText,
    pub(super) update_indexed: SqlText,
    pub(super) touch: SqlText,
    /// Deletes a live session and its index rows.
    pub(super) delete: SqlText,
    /// Deletes the index rows of an id without a record.
    pub(super) delete_orphans: SqlText,
    /// Selects the version of a live session.
    pub(super) version: SqlText,
    /// Moves a session to another id and deletes the old row.
    pub(super) rename: SqlText,
    /// Moves a session to another id and leaves a tombstone.
    pub(super) rename_marked: SqlText,
    /// Moves an unreadable record to an id that is no key, as a tombstone that expires after [`KEEP_UNREADABLE`].
    pub(super) put_aside: SqlText,
    pub(super) count: SqlText,
    pub(super) scan: SqlText,
    /// Selects a page of the sessions under an index entry.
    pub(super) indexed: SqlText,
    /// Deletes the oldest expired records and their index rows.
    pub(super) collect: SqlText,
    pub(super) remaining: SqlText,
    /// The number of the lock of garbage collection.
    pub(super) lock: i64,
}

impl PostgresStatements {
    /// Writes the statements for `tables`. `durable` is [`SYNCHRONOUS`] or [`RELAXED`]. With `notifies`, each change of a session tells its
    /// key on the channel of the table.
    pub(super) fn of(tables: &TablePair, time: TimeSource, durable: &str, notifies: bool) -> Self {
        let (table, index) = (tables.table(), tables.index());
        let lock = lock_number(tables);
        let told = if notifies {
            format!("pg_catalog.pg_notify('{}', $1) IS NOT NULL", listen::channel_name(lock))
        } else {
            "true".to_owned()
        };
        // No copy of a session that is new can be out of date, so an insert tells nothing.
        let inserted = durable;
        let durable = &format!("{durable} AND {told}");
        let (head, start3, start1) = (Head::MOST, time.start(3), time.start(1));
        PostgresStatements {
            load: SqlText::new(format!(
                "SELECT record, touched FROM {table} WHERE id = $1 AND expires > {}",
                time.now(2)
            )),
            insert: SqlText::new(insert(time, &table, inserted)),
            insert_indexed: SqlText::new(insert_indexed(time, &table, &index, inserted)),
            update: SqlText::new(update(time, &table, None, durable)),
            update_indexed: SqlText::new(update(time, &table, Some(&index), durable)),
            touch: SqlText::new(touch(time, &table, &told)),
            delete: SqlText::new(delete(time, &table, &index, durable)),
            delete_orphans: SqlText::new(format!(
                "DELETE FROM {index} AS entry WHERE entry.id = $1 \
                 AND NOT EXISTS (SELECT FROM {table} AS held WHERE held.id = $1)"
            )),
            version: SqlText::new(format!(
                "SELECT version FROM {table} WHERE id = $1 AND {}",
                live(&time.now(2))
            )),
            rename: SqlText::new(rename(time, &table, &index, durable, false)),
            rename_marked: SqlText::new(rename(time, &table, &index, durable, true)),
            put_aside: SqlText::new(put_aside(time, &table, &index, durable)),
            count: SqlText::new(format!("SELECT pg_catalog.count(*) FROM {table} WHERE {}", live(&start1))),
            // A row that is no live session counts for the length of the page too, so that each page is bounded.
            scan: SqlText::new(format!(
                "SELECT id, CASE WHEN {} THEN pg_catalog.substr(record, 1, {head}) END, touched \
                 FROM {table} WHERE id > $1 ORDER BY id LIMIT $2",
                live(&start3)
            )),
            // OFFSET 0 keeps the planner from reading the whole table for a join.
            indexed: SqlText::new(format!(
                "SELECT page.id, held.head, held.touched FROM \
                 (SELECT id FROM {index} WHERE kind = $1 AND value = $2 AND id > $3 ORDER BY id LIMIT $4) AS page \
                 LEFT JOIN LATERAL (SELECT pg_catalog.substr(record, 1, {head}) AS head, touched FROM {table} AS found \
                 WHERE found.id = page.id AND {} OFFSET 0) AS held ON true ORDER BY page.id",
                live(&time.start(5))
            )),
            collect: SqlText::new(collect(time, &table, &index)),
            remaining: SqlText::new(format!(
                "SELECT EXISTS (SELECT FROM {table} WHERE due <= {start1} ORDER BY due LIMIT 1)"
            )),
            lock,
        }
    }
}

/// The columns of a record: `$1` is its id, `$2` to `$7` are the others, `$8` is the time.
const COLUMNS: &str =
    "version = $2, expires = $3, absolute = $4, idle = $5, tombstone = $6, record = $7, touched = NULL";

/// Inserts a record, or replaces one that has expired. It finds no row to return if the key is taken.
fn insert(time: TimeSource, table: &str, durable: &str) -> String {
    format!(
        "INSERT INTO {table} AS held (id, version, expires, absolute, idle, tombstone, due, record) \
         SELECT $1, $2, $3, $4, $5, $6, $3, $7 WHERE {durable} \
         ON CONFLICT (id) DO UPDATE SET {COLUMNS}, due = $3 WHERE held.expires <= {}",
        time.now(8)
    )
}

/// The expressions that give the row `holder` the index rows in the arrays `$kinds` and `$values`, and no others.
///
/// A row that stays is neither deleted nor inserted, since the order of the two is undefined within a statement.
fn index_rows(index: &str, holder: &str, [kinds, values]: [usize; 2]) -> String {
    format!(
        "entry AS (SELECT kind, value FROM ROWS FROM (pg_catalog.unnest(${kinds}), pg_catalog.unnest(${values})) AS given(kind, value)), \
         former AS (DELETE FROM {index} AS old USING {holder} WHERE old.id = {holder}.id AND NOT EXISTS \
         (SELECT FROM entry WHERE entry.kind = old.kind AND entry.value = old.value)), \
         added AS (INSERT INTO {index} (kind, value, id) SELECT entry.kind, entry.value, {holder}.id FROM entry, {holder} \
         ON CONFLICT DO NOTHING)"
    )
}

fn insert_indexed(time: TimeSource, table: &str, index: &str, durable: &str) -> String {
    let (insert, rows) = (insert(time, table, durable), index_rows(index, "done", [9, 10]));
    format!("WITH done AS ({insert} RETURNING id), {rows} SELECT 1::bigint FROM done")
}

/// Changes a record at version `$9`. The answer is 1 if it did, otherwise 0 and the version of the live session, or nothing.
fn update(time: TimeSource, table: &str, index: Option<&str>, durable: &str) -> String {
    let live = live(&time.now(8));
    let rows = index.map(|index| format!(", {}", index_rows(index, "done", [10, 11]))).unwrap_or_default();
    // `due` is indexed. It moves only to an earlier time, so that most changes leave all indexes as they are (HOT).
    format!(
        "WITH done AS (UPDATE {table} SET {COLUMNS}, due = LEAST(due, $3) \
         WHERE id = $1 AND version = $9 AND {live} AND {durable} RETURNING id){rows} \
         SELECT 1::bigint, NULL::bigint FROM done UNION ALL \
         SELECT 0::bigint, version FROM {table} WHERE id = $1 AND {live} AND NOT EXISTS (SELECT FROM done)"
    )
}

/// Stores a use. LEAST keeps the sum within the type, for sessions that never end.
fn touch(time: TimeSource, table: &str, told: &str) -> String {
    format!(
        "UPDATE {table} SET touched = GREATEST(touched, $2), \
         expires = LEAST(absolute, GREATEST(expires, $2 + LEAST(idle, {} - $2))) WHERE id = $1 AND {} AND {told}",
        i64::MAX,
        live(&time.now(3))
    )
}

/// Deletes a row and its index rows. The answer is false if the row was changed after the statement's snapshot, which may then lack index
/// rows that have come since.
fn delete(time: TimeSource, table: &str, index: &str, durable: &str) -> String {
    format!(
        "WITH gone AS (DELETE FROM {table} WHERE id = $1 AND {} AND {durable} RETURNING id, version), \
         unindexed AS (DELETE FROM {index} AS entry USING gone WHERE entry.id = gone.id) \
         SELECT gone.version = (SELECT seen.version FROM {table} AS seen WHERE seen.id = $1) FROM gone",
        live(&time.now(2))
    )
}

/// Moves the session under `$1`, at version `$10`, to `$2`. The answer is 1 if it did, 2 if the new key is taken, otherwise 0 and the
/// version of the live session, or nothing.
///
/// The lock on the old row comes first. The new row is then inserted only if the old one is at that version, and the old one ends only if
/// the new one was inserted.
fn rename(time: TimeSource, table: &str, index: &str, durable: &str, marked: bool) -> String {
    let (now, live) = (time.now(9), live(&time.now(9)));
    let ended = if marked {
        format!(
            "UPDATE {table} AS held SET version = $13, expires = $14, absolute = $15, idle = $16, tombstone = $17, \
             record = $18, touched = NULL, due = LEAST(held.due, $14) FROM done WHERE held.id = $1"
        )
    } else {
        format!("DELETE FROM {table} AS held USING done WHERE held.id = $1")
    };
    let rows = index_rows(index, "done", [11, 12]);
    format!(
        "WITH old AS MATERIALIZED (SELECT id FROM {table} WHERE id = $1 AND version = $10 AND {live} AND {durable} FOR UPDATE), \
         done AS (INSERT INTO {table} AS held (id, version, expires, absolute, idle, tombstone, due, record) \
         SELECT $2, $3, $4, $5, $6, $7, $4, $8 FROM old \
         ON CONFLICT (id) DO UPDATE SET version = $3, expires = $4, absolute = $5, idle = $6, tombstone = $7, record = $8, \
         touched = NULL, due = $4 WHERE held.expires <= {now} RETURNING id), \
         ended AS ({ended}), \
         unindexed AS (DELETE FROM {index} AS left_behind USING done WHERE left_behind.id = $1), {rows} \
         SELECT 1::bigint, NULL::bigint FROM done UNION ALL \
         SELECT 2::bigint, NULL::bigint FROM old WHERE NOT EXISTS (SELECT FROM done) UNION ALL \
         SELECT 0::bigint, version FROM {table} WHERE id = $1 AND {live} AND NOT EXISTS (SELECT FROM old)"
    )
}

/// Moves a row whose record is `$2`. The old id and the time make the new id unique.
fn put_aside(time: TimeSource, table: &str, index: &str, durable: &str) -> String {
    let now = time.now(3);
    format!(
        "WITH aside AS (UPDATE {table} SET id = '!' || pg_catalog.left(id, 170) || '.' || {now}::text, tombstone = true, \
         expires = {now} + {KEEP_UNREADABLE}, due = {now} + {KEEP_UNREADABLE} WHERE id = $1 AND record = $2 AND {durable} \
         RETURNING id), \
         unindexed AS (DELETE FROM {index} AS entry USING aside WHERE entry.id = $1) SELECT 1::bigint FROM aside"
    )
}

/// Deletes at most `$4` of the expired among the `$2` rows that are due for longest, and moves the time of those that live to their
/// present deadline.
///
/// Arrays make the planner look each id up, however many rows it expects.
fn collect(time: TimeSource, table: &str, index: &str) -> String {
    let now = time.start(1);
    format!(
        "WITH picked AS MATERIALIZED (SELECT id, expires FROM {table} WHERE due <= {now} \
         AND (SELECT pg_catalog.pg_try_advisory_xact_lock($3)) ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM picked WHERE expires <= {now} LIMIT $4)) \
         AND expires <= {now} RETURNING id), \
         unindexed AS (DELETE FROM {index} WHERE id = ANY (ARRAY(SELECT id FROM gone))), \
         moved AS (UPDATE {table} SET due = expires WHERE id = ANY (ARRAY(SELECT id FROM picked WHERE expires > {now})) \
         AND expires > {now}) \
         SELECT (SELECT pg_catalog.count(*) FROM gone), (SELECT pg_catalog.count(*) FROM picked)"
    )
}

/// Returns the number of the lock. Locks belong to a database, and other applications use numbers of their own.
fn lock_number(tables: &TablePair) -> i64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new().chain_update(b"cloakroom/gc\0").chain_update(tables.table()).finalize();
    digest.first_chunk().map_or(0, |start| i64::from_be_bytes(*start))
}
