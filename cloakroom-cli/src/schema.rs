//! `cloakroom schema`: prints the statements that create a SQL provider's tables, for your own migrations.

use std::io::Write;

use clap::{Args, ValueEnum};

/// The arguments of `cloakroom schema`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The provider that needs the tables
    provider: SqlProvider,
    /// The name of the table: 1 to 57 letters, digits and _
    #[arg(long, default_value = "cloakroom_sessions")]
    table: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SqlProvider {
    /// MariaDB 10.6 or MySQL 8.0 and later
    #[value(name = "mysql")]
    MySql,
    /// A file of SQLite
    #[value(name = "sqlite")]
    Sqlite,
}

/// The reason why the statements could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error(transparent)]
    Name(#[from] cloakroom::Error),
    #[cfg(not(all(feature = "mysql", feature = "sqlite", unix)))]
    #[error(
        "this program was built without the feature {feature}; rebuild it with `cargo build -p cloakroom-cli --features {feature}`"
    )]
    NotBuilt { feature: &'static str },
    #[error("the statements could not be written to stdout")]
    Write(#[from] std::io::Error),
}

/// Prints the statements to stdout, each with a semicolon.
pub(crate) fn run(options: &Options) -> Result<(), SchemaError> {
    let statements = match options.provider {
        SqlProvider::MySql => of_mysql(&options.table)?,
        SqlProvider::Sqlite => of_sqlite(&options.table)?,
    };
    let mut out = std::io::stdout().lock();
    for statement in statements {
        writeln!(out, "{statement};")?;
    }
    Ok(())
}

#[cfg(feature = "mysql")]
fn of_mysql(table: &str) -> Result<Vec<String>, SchemaError> {
    Ok(cloakroom::MySqlProvider::schema(table)?)
}

#[cfg(not(feature = "mysql"))]
fn of_mysql(_: &str) -> Result<Vec<String>, SchemaError> {
    Err(SchemaError::NotBuilt { feature: "mysql" })
}

#[cfg(all(feature = "sqlite", unix))]
fn of_sqlite(table: &str) -> Result<Vec<String>, SchemaError> {
    Ok(cloakroom::SqliteProvider::schema(table)?)
}

#[cfg(not(all(feature = "sqlite", unix)))]
fn of_sqlite(_: &str) -> Result<Vec<String>, SchemaError> {
    Err(SchemaError::NotBuilt { feature: "sqlite" })
}
