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
