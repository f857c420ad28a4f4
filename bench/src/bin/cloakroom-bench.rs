//! `cargo xtask bench`: what cloakroom costs, measured so that anyone can repeat it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloakroom_bench::{counts, scenario::Scenario};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Instructions (by callgrind) and allocations of a request, over the same handler under a layer that does nothing.
    /// Exits with 1 if one is more than 3 % over the committed baseline.
    Counts {
        /// Writes what was counted to the baseline instead.
        #[arg(long)]
        accept: bool,
    },
    /// Serves `requests` requests of a scenario: what callgrind is run on.
    #[command(hide = true)]
    Serve {
        /// Which.
        scenario: Scenario,
        /// Under the session layer, or under one that does nothing.
        #[arg(long)]
        bare: bool,
        /// How many.
        requests: u32,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Counts { accept } => counts::run(accept),
        Command::Serve { scenario, bare, requests } => {
            scenario.serve(!bare, requests);
            ExitCode::SUCCESS
        }
    }
}
