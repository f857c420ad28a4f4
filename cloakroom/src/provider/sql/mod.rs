//! Providers on SQL databases: the parts that they share, and a folder for each of them.
//!
//! | file | shared part |
//! |---|---|
//! | `table.rs` | the name of the table, checked so that statements may contain it |
//! | `row.rs`, `index.rs`, `listed.rs` | the columns of a record, its index rows, and the rows of a list |
//! | `step.rs` | the deadline and the retries of one call |
//! | `batch.rs` | the size of a step of garbage collection, which follows the server's speed |
//! | `pool.rs` | connections to a server, each for one call at a time |
//! | `duration.rs`, `escape.rs` | parts of addresses: Go's durations, and percent-encoding |
//!
//! Each folder has its own statements, since the databases differ in what one statement can do: an `UPDATE` that returns the
//! outcome, a `DELETE` with a limit, a lock for one collector at a time. All of them compare the version in the `WHERE` of a
//! change, and none has an upsert of a session.
//!
//! # Rules that hold for all of them
//!
//! - **A row that has expired does not exist.** Every statement compares `expires` with the time. So a late collection changes no
//!   answer, and a new session may take the key of an expired row.
//! - **One clock decides.** It is the server's, unless the builder was given one. SQLite has no server and uses the
//!   process's clock.
//! - **A use does not write the record.** `touch` writes two numbers, since a record may be large. A load applies `touched` to the
//!   record that it has read ([`StoredRow::record`](row::StoredRow::record)).
//! - **Index rows change with their record,** in one statement or one transaction. A list joins them with live rows, so a row that
//!   leads to no session is harmless.
//! - **Walks are pages by key.** The cursor is the last key of the page before. A session that exists during the whole walk is met, since
//!   its key does not move. One that gets a new id meanwhile may be met twice or not at all.
//! - **An unreadable record is moved, not deleted.** Its new id begins with `!`, which no key does. It is kept for a week, and the
//!   visitor gets one error, then a new session.
//! - **A change is repeated only if it has certainly not been made.** A repeated `create` could otherwise find its own record and answer
//!   *taken*.

mod batch;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod duration;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod escape;
mod index;
mod listed;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod row;
#[cfg(all(feature = "sqlite", unix))]
pub(crate) mod sqlite;
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres")),
    allow(dead_code, reason = "SQLite needs the deadline alone")
)]
mod step;
mod table;
