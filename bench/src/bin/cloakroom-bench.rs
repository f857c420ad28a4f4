//! `cargo xtask bench`: measures the costs of cloakroom in a repeatable way.

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
    /// Count the instructions and allocations of a request beyond the same handler under a layer that does nothing.
    /// Exits with 1 if one is over its aim, or more than 3 % over the committed baseline
    Counts {
        /// Write the counts to the baseline instead of comparing them
        #[arg(long)]
        accept: bool,
    },
    /// Serves `requests` requests of a scenario; callgrind runs this.
    #[command(hide = true)]
    Serve {
        /// The scenario
        scenario: Scenario,
        /// Use a layer that does nothing instead of the session layer
        #[arg(long)]
        bare: bool,
        /// The number of requests
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
