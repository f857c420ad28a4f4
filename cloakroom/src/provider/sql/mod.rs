//! Providers on SQL databases: the parts that they share, and a folder for each of them.

mod index;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
mod pool;
mod row;
mod table;
