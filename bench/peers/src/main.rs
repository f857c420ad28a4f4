//! cloakroom beside its peers: `cargo xtask bench`.

mod actix_apps;
mod axum_routers;
mod file;
mod http;
mod machine;
mod measure;
mod network;
mod pause;
mod report;
mod rig;
mod sizes;
mod stack;
mod stores;
mod subject;
mod threads;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::report::Report;
use crate::subject::{Places, Scenario, Subject};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Measure less of everything, in under five minutes
    #[arg(long)]
    quick: bool,
    /// Measure only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure only these subjects over HTTP
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// The program of bench/peers-sqlx; without it, tower-sessions on SQL stores is not measured
    #[arg(long)]
    sqlx_peer: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests through the stack, without a network
    Stack,
    /// Stores in memory, from a thousand sessions to ten million
    Stores,
    /// Large sessions, and sessions with many keys
    Sizes,
    /// One and two threads
    Threads,
    /// A reader while a million sessions expire
    Pause,
    /// The file provider beside bare system calls
    File,
    /// Redis beside its bare driver
    Redis,
    /// MariaDB beside its bare driver
    Mysql,
    /// PostgreSQL beside its bare driver
    Postgres,
    /// HTTP over loopback
    Http,
}

#[derive(Subcommand)]
enum Command {
    /// Serves requests of one scenario; callgrind runs this.
    #[command(hide = true)]
    Serve { subject: Subject, scenario: Scenario, requests: u32 },
    /// Prints the allocations of one request.
    #[command(hide = true)]
    Allocations { subject: Subject, scenario: Scenario },
    /// Prints the bytes that one session takes.
    #[command(hide = true)]
    Bytes { subject: Subject, sessions: usize },
    /// Serves over loopback until it is killed.
    #[command(hide = true)]
    Http {
        subject: Subject,
        #[command(flatten)]
        places: Places,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Serve { subject, scenario, requests }) => {
            stack::serve(subject, scenario, requests);
            Ok(())
        }
        Some(Command::Allocations { subject, scenario }) => {
            stack::allocations(subject, scenario);
            Ok(())
        }
        Some(Command::Bytes { subject, sessions }) => {
            stores::bytes(subject, sessions);
            Ok(())
        }
        Some(Command::Http { subject, places }) => {
            http::serve(subject, &places);
            Ok(())
        }
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let quick = arguments.quick;
    let mut report = Report::new();
    for part in Part::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(part) {
            measure(*part, &mut report, arguments)?;
            machine::describe(&mut report, quick);
            report.save()?;
        }
    }
    Ok(())
}

fn measure(part: Part, report: &mut Report, arguments: &Arguments) -> Result<(), String> {
    let quick = arguments.quick;
    match part {
        Part::Stack => stack::run(report, quick)?,
        Part::Stores => stores::run(report, quick)?,
        Part::Sizes => sizes::run(report, quick),
        Part::Threads => threads::run(report, quick),
        Part::Pause => pause::run(report, quick),
        Part::File => file::run(report, quick),
        Part::Redis => network::redis(report, quick),
        Part::Mysql => network::mysql(report, quick),
        Part::Postgres => network::postgres(report, quick),
        Part::Http => {
            let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
            let (redis, mysql) = (servers::Redis::start(), servers::MariaDb::start());
            let postgres = servers::Postgres::start();
            let places = Places {
                folder: folder.path().to_owned(),
                redis: redis.url(),
                mysql: mysql.dsn(""),
                postgres: postgres.url(""),
                sqlx_peer: arguments.sqlx_peer.clone().unwrap_or_default(),
            };
            http::run(report, &places, &arguments.subjects, quick)?;
        }
    }
    Ok(())
}
