//! cloakroom and its peers, side by side: `cargo xtask bench`.

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
    /// Less of everything: under five minutes.
    #[arg(long)]
    quick: bool,
    /// These parts alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A request through the stack, without a network.
    Stack,
    /// Stores in memory, from a thousand sessions to ten million.
    Stores,
    /// Large sessions, and sessions of many keys.
    Sizes,
    /// One and two threads.
    Threads,
    /// A reader while a million sessions expire.
    Pause,
    /// The file provider beside bare system calls.
    File,
    /// Redis beside its bare driver.
    Redis,
    /// MariaDB beside its bare driver.
    Mysql,
    /// HTTP over loopback.
    Http,
}

#[derive(Subcommand)]
enum Command {
    /// Serves requests of one kind: what callgrind is run on.
    #[command(hide = true)]
    Serve { subject: Subject, scenario: Scenario, requests: u32 },
    /// Prints the allocations of one request.
    #[command(hide = true)]
    Allocations { subject: Subject, scenario: Scenario },
    /// Prints the bytes that each of so many sessions takes.
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
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let quick = arguments.quick;
    let mut report = Report::open()?;
    if wanted(Part::Stack) {
        stack::run(&mut report, quick)?;
    }
    if wanted(Part::Stores) {
        stores::run(&mut report, quick)?;
    }
    if wanted(Part::Sizes) {
        sizes::run(&mut report, quick);
    }
    if wanted(Part::Threads) {
        threads::run(&mut report, quick);
    }
    if wanted(Part::Pause) {
        pause::run(&mut report, quick);
    }
    if wanted(Part::File) {
        file::run(&mut report, quick);
    }
    if wanted(Part::Redis) {
        network::redis(&mut report, quick);
    }
    if wanted(Part::Mysql) {
        network::mysql(&mut report, quick);
    }
    if wanted(Part::Http) {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (redis, mysql) = (servers::Redis::start(), servers::MariaDb::start());
        let places = Places { folder: folder.path().to_owned(), redis: redis.url(), mysql: mysql.dsn("") };
        http::run(&mut report, &places, quick)?;
    }
    machine::describe(&mut report, quick);
    report.save()
}
