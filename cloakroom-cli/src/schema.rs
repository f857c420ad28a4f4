//! `cloakroom schema`: prints the statement that creates a SQL provider's table, for your own migrations.

use std::io::Write;

use clap::{Args, ValueEnum};

/// The arguments of `cloakroom schema`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The provider that needs the table
    provider: SqlProvider,
    /// The name of the table: 1 to 60 letters, digits and _
    #[arg(long, default_value = "cloakroom_sessions")]
    table: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SqlProvider {
    /// MariaDB 10.6 or MySQL 8.0 and later
    #[value(name = "mysql")]
    MySql,
}

/// The reason why the statement could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[cfg(feature = "mysql")]
    #[error(transparent)]
    Name(#[from] cloakroom::Error),
    #[cfg(not(feature = "mysql"))]
    #[error(
        "this program was built without the feature mysql; rebuild it with `cargo build -p cloakroom-cli --features mysql`"
    )]
    NotBuilt,
    #[error("the statement could not be written to stdout")]
    Write(#[from] std::io::Error),
}

/// Prints the statement and a semicolon to stdout.
pub(crate) fn run(options: &Options) -> Result<(), SchemaError> {
    let statement = match options.provider {
        SqlProvider::MySql => of_mysql(&options.table)?,
    };
    Ok(writeln!(std::io::stdout(), "{statement};")?)
}

#[cfg(feature = "mysql")]
fn of_mysql(table: &str) -> Result<String, SchemaError> {
    Ok(cloakroom::MySqlProvider::schema(table)?)
}

#[cfg(not(feature = "mysql"))]
fn of_mysql(_: &str) -> Result<String, SchemaError> {
    Err(SchemaError::NotBuilt)
}
