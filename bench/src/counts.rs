//! Instructions and allocations: figures that do not depend on how busy the machine is.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::scenario::Scenario;

/// Requests in the shorter and in the longer of two runs, whose difference leaves out all that is done once.
const FEW: u32 = 500;
const MANY: u32 = 2500;

/// Counts every scenario and prints a table.
pub fn run() -> ExitCode {
    println!(
        "Over the same axum handler under a layer that does nothing; the memory provider, one thread, no network."
    );
    println!(
        "{:<22} {:>13} {:>8} {:>12} {:>8}",
        "request", "instructions", "at most", "allocations", "at most"
    );
    let mut over = 0;
    for scenario in Scenario::value_variants() {
        match line(*scenario) {
            Ok(within) => over += u32::from(!within),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    match over {
        0 => ExitCode::SUCCESS,
        _ => {
            eprintln!("{over} of them over budget");
            ExitCode::FAILURE
        }
    }
}

fn line(scenario: Scenario) -> Result<bool, String> {
    let instructions = instructions(scenario, true)? - instructions(scenario, false)?;
    let allocations = allocations(scenario, true)? - allocations(scenario, false)?;
    let budget = scenario.budget();
    let name = name(scenario);
    let most = budget.allocations.map_or("-".to_owned(), |most| most.to_string());
    println!("{name:<22} {instructions:>13} {:>8} {allocations:>12.2} {most:>8}", budget.instructions);
    Ok(instructions <= budget.instructions
        && budget.allocations.is_none_or(|most| allocations <= most as f64))
}

/// Instructions for one request.
fn instructions(scenario: Scenario, with_sessions: bool) -> Result<i64, String> {
    let more = count(scenario, with_sessions, MANY)? - count(scenario, with_sessions, FEW)?;
    Ok(more / i64::from(MANY - FEW))
}

/// Instructions of a whole process that serves `requests` requests.
fn count(scenario: Scenario, with_sessions: bool, requests: u32) -> Result<i64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program("cloakroom-bench")?).args(["serve", &name(scenario), &requests.to_string()]);
    valgrind.args((!with_sessions).then_some("--bare"));
    let output =
        valgrind.output().map_err(|error| format!("valgrind cannot be run ({error}); install it"))?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let counted = report.lines().find_map(|line| line.split("Collected :").nth(1));
    let counted = counted.and_then(|number| number.trim().parse().ok());
    counted.filter(|_| output.status.success()).ok_or(format!("callgrind counted nothing:\n{report}"))
}

/// Allocations for one request.
fn allocations(scenario: Scenario, with_sessions: bool) -> Result<f64, String> {
    let mut counter = Command::new(program("allocations")?);
    counter.arg(name(scenario)).args((!with_sessions).then_some("--bare"));
    let output =
        counter.output().map_err(|error| format!("the counter of allocations cannot be run: {error}"))?;
    let counted = String::from_utf8_lossy(&output.stdout).trim().parse();
    counted.map_err(|_| format!("nothing was counted:\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// The program of that name beside this one.
fn program(name: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    Ok(this.with_file_name(name))
}

fn name(scenario: Scenario) -> String {
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
