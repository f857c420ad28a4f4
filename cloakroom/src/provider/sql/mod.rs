//! Providers on SQL databases: the parts that they share, and a folder for each of them.

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
