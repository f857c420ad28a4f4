//! Counts instructions and allocations, which do not depend on the machine's load, and compares them with the
//! baseline.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::baseline::{Baseline, Cost};
use crate::scenario::Scenario;

/// The requests of a short and of a long run. Their difference leaves out the work that is done once.
const FEW: u32 = 500;
const MANY: u32 = 2500;

/// The seconds that one run may take. A usual run takes one.
const TIMEOUT: &str = "120";

/// Counts every scenario, prints a table, checks the aims, and compares with the baseline or replaces it.
pub fn run(accept: bool) -> ExitCode {
    match check(accept) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn check(accept: bool) -> Result<(), String> {
    let baseline = if accept { Baseline::default() } else { Baseline::load()? };
    let counted = count_all()?;
    println!(
        "Over the same axum handler under a layer that does nothing; the memory provider, one thread, no network."
    );
    println!(
        "{:<22} {:>12} {:>9} {:>8} {:>12} {:>9} {:>5}",
        "request", "instructions", "baseline", "aim", "allocations", "baseline", "aim"
    );
    for (scenario, cost) in &counted {
        println!("{}", line(*scenario, *cost, &baseline));
    }
    let now = Baseline::of_today(counted.iter().map(|(scenario, cost)| (name(*scenario), *cost)));
    let compared = if accept { now.save() } else { baseline.compare(&now) };
    compared.and(within_aims(&counted))
}

/// Checks each count against its aim. A baseline may be replaced, an aim is a promise.
fn within_aims(counted: &[(Scenario, Cost)]) -> Result<(), String> {
    let over = counted.iter().flat_map(|(scenario, cost)| {
        let aim = scenario.aim();
        let over = |what: &str, found: f64, most: Option<i64>| {
            most.filter(|most| found > *most as f64)
                .map(|most| format!("{}: expected at most {most} {what}, found {found}", name(*scenario)))
        };
        [
            over("instructions", cost.instructions as f64, aim.instructions),
            over("allocations", cost.allocations, aim.allocations),
        ]
    });
    let over: Vec<String> = over.flatten().collect();
    if over.is_empty() { Ok(()) } else { Err(format!("{}\nReduce the cost.", over.join("\n"))) }
}

fn line(scenario: Scenario, cost: Cost, baseline: &Baseline) -> String {
    let name = name(scenario);
    let before = baseline.cost(&name);
    let (instructions, allocations) = match before {
        Some(before) => (before.instructions.to_string(), format!("{:.2}", before.allocations)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let shown = |aim: Option<i64>| aim.map_or("-".to_owned(), |most| most.to_string());
    let aim = scenario.aim();
    format!(
        "{name:<22} {:>12} {instructions:>9} {:>8} {:>12.2} {allocations:>9} {:>5}",
        cost.instructions,
        shown(aim.instructions),
        cost.allocations,
        shown(aim.allocations)
    )
}

/// Counts all scenarios in parallel, which does not change the counts.
fn count_all() -> Result<Vec<(Scenario, Cost)>, String> {
    std::thread::scope(|scope| {
        let counted = |scenario| move || Ok((scenario, cost(scenario)?));
        let threads: Vec<_> =
            Scenario::value_variants().iter().map(|scenario| scope.spawn(counted(*scenario))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a count panicked".to_owned())?);
        joined.collect()
    })
}

fn cost(scenario: Scenario) -> Result<Cost, String> {
    let instructions = instructions(scenario, true)? - instructions(scenario, false)?;
    let allocations = allocations(scenario, true)? - allocations(scenario, false)?;
    Ok(Cost { instructions, allocations })
}

/// Returns the instructions of one request.
fn instructions(scenario: Scenario, with_sessions: bool) -> Result<i64, String> {
    let more = count(scenario, with_sessions, MANY)? - count(scenario, with_sessions, FEW)?;
    Ok(more / i64::from(MANY - FEW))
}

/// Returns the instructions of a whole process that serves `requests` requests.
fn count(scenario: Scenario, with_sessions: bool, requests: u32) -> Result<i64, String> {
    let mut valgrind = Command::new("timeout");
    valgrind.args([TIMEOUT, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program("cloakroom-bench")?).args(["serve", &name(scenario), &requests.to_string()]);
    valgrind.args((!with_sessions).then_some("--bare"));
    let output = valgrind
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}; install the Debian package valgrind"))?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let counted = report.lines().find_map(|line| line.split("Collected :").nth(1));
    let counted = counted.and_then(|number| number.trim().parse().ok());
    counted.filter(|_| output.status.success()).ok_or_else(|| {
        format!(
            "expected a count from callgrind within {TIMEOUT} s, found none ({}):\n{report}",
            output.status
        )
    })
}

/// Returns the allocations of one request.
fn allocations(scenario: Scenario, with_sessions: bool) -> Result<f64, String> {
    let mut counter = Command::new(program("allocations")?);
    counter.arg(name(scenario)).args((!with_sessions).then_some("--bare"));
    let output = counter.output().map_err(|error| {
        format!(
            "cannot run the program `allocations`: {error}; use `cargo xtask bench --counts`, which builds it"
        )
    })?;
    let counted = String::from_utf8_lossy(&output.stdout).trim().parse();
    counted.map_err(|_| {
        format!("expected a number from `allocations`, found:\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// Returns the path of the program of that name beside this one.
fn program(name: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    Ok(this.with_file_name(name))
}

fn name(scenario: Scenario) -> String {
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_over_its_aim_fails() {
        let read = |instructions| [(Scenario::Read, Cost::new(instructions, 2.0))];
        within_aims(&read(2_500)).unwrap();
        let error = within_aims(&read(2_501)).unwrap_err();
        assert!(error.contains("read: expected at most 2500 instructions, found 2501"), "{error}");
        let untouched = [(Scenario::Untouched, Cost::new(1, 3.5))];
        assert!(within_aims(&untouched).unwrap_err().contains("expected at most 3 allocations, found 3.5"));
        within_aims(&[(Scenario::Update, Cost::new(1_000_000, 1_000.0))]).unwrap();
    }
}
