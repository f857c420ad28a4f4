//! `cloakroom schema`: the statements that create a SQL provider's tables, in the form of a migration tool.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

/// The arguments of `cloakroom schema`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The provider that needs the tables
    provider: SqlProvider,
    /// The name of the table: 1 to 57 letters, digits and _; for PostgreSQL also schema.table
    #[arg(long, default_value = "cloakroom_sessions")]
    table: String,
    #[command(flatten)]
    form: FormOptions,
    /// Write the files into this folder, instead of printing them
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct FormOptions {
    /// One file of statements (the default)
    #[arg(long)]
    plain: bool,
    /// A migration of sqlx
    #[arg(long)]
    sqlx: bool,
    /// A migration of refinery
    #[arg(long)]
    refinery: bool,
    /// A migration of diesel, which can be undone
    #[arg(long)]
    diesel: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SqlProvider {
    /// MariaDB 10.6 or MySQL 8.0 and later
    #[value(name = "mysql")]
    MySql,
    /// PostgreSQL 12 and later
    #[value(name = "postgres", alias = "postgresql")]
    Postgres,
    /// A file of SQLite
    #[value(name = "sqlite")]
    Sqlite,
}

/// The reason why the statements could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error(transparent)]
    Name(#[from] cloakroom::Error),
    #[cfg(not(all(feature = "mysql", feature = "postgres", feature = "sqlite", unix)))]
    #[error(
        "this program was built without the feature {feature}; rebuild it with `cargo build -p cloakroom-cli --features {feature}`"
    )]
    NotBuilt { feature: &'static str },
    #[error("the statements could not be written to stdout")]
    Write(#[from] std::io::Error),
    #[error("{}: the file could not be written; check that the folder may be written to, and that no such file exists", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// A file of a migration: its path in the folder of migrations, and its statements.
struct MigrationFile {
    path: String,
    text: String,
}

/// Prints the statements, or writes them into files.
pub(crate) fn run(options: &Options) -> Result<(), SchemaError> {
    let statements = match options.provider {
        SqlProvider::MySql => of_mysql(&options.table)?,
        SqlProvider::Postgres => of_postgres(&options.table)?,
        SqlProvider::Sqlite => of_sqlite(&options.table)?,
    };
    let name = format!("create_{}", options.table.replace('.', "_"));
    let files = files(&options.form, &name, &statements, &jiff::Timestamp::now());
    match &options.out {
        Some(folder) => files.iter().try_for_each(|file| write(folder, file)),
        None => print(&files),
    }
}

/// Returns the files of a migration that begins at `now`.
fn files(form: &FormOptions, name: &str, statements: &[String], now: &jiff::Timestamp) -> Vec<MigrationFile> {
    let text = in_lines(statements.iter());
    let file = |path: String, text| MigrationFile { path, text };
    if form.sqlx {
        vec![file(format!("{}_{name}.sql", now.strftime("%Y%m%d%H%M%S")), text)]
    } else if form.refinery {
        // refinery's numbers have 32 bits, so this one is the day.
        vec![file(format!("V{}__{name}.sql", now.strftime("%Y%m%d")), text)]
    } else if form.diesel {
        let folder = format!("{}_{name}", now.strftime("%Y-%m-%d-%H%M%S"));
        vec![
            file(format!("{folder}/up.sql"), text),
            file(format!("{folder}/down.sql"), in_lines(drops(statements).iter())),
        ]
    } else {
        vec![file(format!("{name}.sql"), text)]
    }
}

fn in_lines<'a>(statements: impl Iterator<Item = &'a String>) -> String {
    statements.map(|statement| format!("{statement};\n")).collect()
}

/// Returns the statements that drop the tables, the last one first.
fn drops(statements: &[String]) -> Vec<String> {
    let table = |statement: &String| {
        let rest = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?;
        Some(format!("DROP TABLE IF EXISTS {}", rest.split_once(" (")?.0))
    };
    statements.iter().rev().filter_map(table).collect()
}

/// Prints the files to stdout. Where there are several, a comment names each.
fn print(files: &[MigrationFile]) -> Result<(), SchemaError> {
    let mut out = std::io::stdout().lock();
    for MigrationFile { path, text } in files {
        if files.len() > 1 {
            writeln!(out, "-- {path}")?;
        }
        write!(out, "{text}")?;
    }
    Ok(())
}

/// Writes a file that does not exist yet.
fn write(folder: &Path, file: &MigrationFile) -> Result<(), SchemaError> {
    let path = folder.join(&file.path);
    let written = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create_new(&path)?.write_all(file.text.as_bytes())
    };
    written().map_err(|source| SchemaError::File { path: path.clone(), source })?;
    println!("{}", path.display());
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

#[cfg(feature = "postgres")]
fn of_postgres(table: &str) -> Result<Vec<String>, SchemaError> {
    Ok(cloakroom::PostgresProvider::schema(table)?)
}

#[cfg(not(feature = "postgres"))]
fn of_postgres(_: &str) -> Result<Vec<String>, SchemaError> {
    Err(SchemaError::NotBuilt { feature: "postgres" })
}

#[cfg(all(feature = "sqlite", unix))]
fn of_sqlite(table: &str) -> Result<Vec<String>, SchemaError> {
    Ok(cloakroom::SqliteProvider::schema(table)?)
}

#[cfg(not(all(feature = "sqlite", unix)))]
fn of_sqlite(_: &str) -> Result<Vec<String>, SchemaError> {
    Err(SchemaError::NotBuilt { feature: "sqlite" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(form: &FormOptions) -> Vec<String> {
        let statements =
            ["CREATE TABLE IF NOT EXISTS \"a\".\"t\" (\n  id text\n)", "CREATE INDEX i ON t (id)"];
        let now = "2026-11-30T20:41:07Z".parse().unwrap();
        let files = files(form, "create_t", &statements.map(str::to_owned), &now);
        assert!(files[0].text.ends_with(");\nCREATE INDEX i ON t (id);\n"), "{}", files[0].text);
        if let Some(down) = files.get(1) {
            assert_eq!(down.text, "DROP TABLE IF EXISTS \"a\".\"t\";\n");
        }
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn each_tool_gets_the_file_names_that_it_reads() {
        let none = || FormOptions { plain: false, sqlx: false, refinery: false, diesel: false };
        assert_eq!(paths(&none()), ["create_t.sql"]);
        assert_eq!(paths(&FormOptions { sqlx: true, ..none() }), ["20261130204107_create_t.sql"]);
        assert_eq!(paths(&FormOptions { refinery: true, ..none() }), ["V20261130__create_t.sql"]);
        let diesel = ["2026-11-30-204107_create_t/up.sql", "2026-11-30-204107_create_t/down.sql"];
        assert_eq!(paths(&FormOptions { diesel: true, ..none() }), diesel);
    }
}
