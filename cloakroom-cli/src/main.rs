//! The program `cloakroom`: a demonstration of the library, and commands for operators.

mod demo;
mod schema;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Sessions for web applications: a demonstration site, and commands for operators
#[derive(Debug, Parser)]
#[command(version, after_help = "Start with `cloakroom demo` and open http://localhost:3000/ in a browser.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a small site with sessions: pages for people, an API for programs
    Demo(demo::Options),
    /// Print the SQL statements that create a provider's tables, or write them as a migration
    Schema(schema::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr();
    let done: Result<(), Box<dyn Error>> = match arguments.command {
        Command::Demo(options) => demo::run(options).await.map_err(Into::into),
        Command::Schema(options) => schema::run(&options).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr, so that stdout is free for what programs read. `RUST_LOG` sets the level; the default is `info`.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Joins the error and its causes in one line. A cause that the text already contains is left out.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace(['\r', '\n'], " ")
}
