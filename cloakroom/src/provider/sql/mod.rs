//! Sessions in a table of a SQL database: what such providers share, and a folder for each of them.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
mod pool;
mod row;
mod table;
