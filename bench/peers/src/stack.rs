//! Requests through the whole stack without a network: nanoseconds, instructions and allocations.

use std::process::Command;
use std::time::Duration;

use crate::measure::{Elapsed, Runner, Samples, Turns, in_turns, number};
use crate::report::{Chart, Report, Series, Table};
use crate::rig::Rig;
use crate::subject::{Places, Scenario, Subject};

const SUBJECTS: [Subject; 5] = [
    Subject::Cloakroom,
    Subject::TowerSessions,
    Subject::TowerSessionsMoka,
    Subject::AxumSession,
    Subject::ActixSessionCookie,
];

/// The requests of a short and of a long run. Their difference leaves out the work that is done once.
const FEW: u32 = 300;
const MANY: u32 = 1300;

pub fn run(report: &mut Report, quick: bool) -> Result<(), String> {
    counts(report)?;
    times(report, quick)
}

/// Serves `requests` requests; callgrind runs this.
pub fn serve(subject: Subject, scenario: Scenario, requests: u32) {
    let mut rig = Rig::new(subject, scenario, &Places::default());
    (0..requests).for_each(|_| rig.request());
}

/// Prints the mean allocations of a request.
pub fn allocations(subject: Subject, scenario: Scenario) {
    const REQUESTS: u32 = 1000;
    let mut rig = Rig::new(subject, scenario, &Places::default());
    (0..10).for_each(|_| rig.request());
    let counted = allocation_counter::measure(|| (0..REQUESTS).for_each(|_| rig.request()));
    println!("{}", counted.count_total as f64 / f64::from(REQUESTS));
}

fn counts(report: &mut Report) -> Result<(), String> {
    let mut table =
        Table::new("Instructions and allocations, over the same handlers without sessions", &heads());
    let mut chart =
        Chart::bars("instructions", "Instructions a request, over the same handler without sessions");
    let mut floors = Vec::new();
    for floor in [Subject::Axum, Subject::Actix] {
        for scenario in Scenario::ALL {
            floors.push(((floor, scenario), count(floor, scenario)?));
        }
    }
    let floor = |subject: Subject, scenario: Scenario| {
        let found = floors.iter().find(|(of, _)| *of == (subject.floor(), scenario));
        found.map(|(_, counted)| *counted).ok_or("a subject that runs on neither axum nor actix-web")
    };
    for subject in SUBJECTS {
        let mut row = vec![subject.title().to_owned()];
        let mut values = Vec::new();
        for scenario in Scenario::ALL {
            let (with, without) = (count(subject, scenario)?, floor(subject, scenario)?);
            row.push(format!("{} / {:.1}", number(with.0 - without.0, 0), with.1 - without.1));
            values.push((scenario.title().to_owned(), with.0 - without.0));
        }
        chart.add(Series { name: subject.title().to_owned(), values });
        table.row(row);
    }
    for subject in [Subject::Axum, Subject::Actix] {
        let mut row = vec![format!("{} (in all)", subject.title())];
        for scenario in Scenario::ALL {
            let counted = floor(subject, scenario)?;
            row.push(format!("{} / {:.1}", number(counted.0, 0), counted.1));
        }
        table.row(row);
    }
    report.table("stack-counts", table);
    report.chart(chart)
}

/// Returns the instructions and allocations of one request.
fn count(subject: Subject, scenario: Scenario) -> Result<(f64, f64), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = [subject.name(), scenario.name()];
    let instructions = |requests: u32| {
        let mut valgrind = Command::new("timeout");
        valgrind.args(["300", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        valgrind.arg(&program).arg("serve").args(&arguments).arg(requests.to_string());
        let output = valgrind
            .output()
            .map_err(|error| format!("cannot run valgrind: {error}; install the Debian package valgrind"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let counted =
            said.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse::<f64>().ok());
        counted.filter(|_| output.status.success()).ok_or(said)
    };
    // Both runs go in parallel, since other processes do not change the number of instructions.
    let more = std::thread::scope(|scope| {
        let many = scope.spawn(|| instructions(MANY));
        let few = instructions(FEW)?;
        let many = many.join().map_err(|_| "the longer run panicked")??;
        Ok::<_, String>(many - few)
    })?;
    let output = Command::new(&program).arg("allocations").args(&arguments).output();
    let output = output.map_err(|error| error.to_string())?;
    let allocations = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
    let allocations = allocations.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((more / f64::from(MANY - FEW), allocations))
}

fn times(report: &mut Report, quick: bool) -> Result<(), String> {
    let rounds = if quick { 9 } else { 51 };
    let turns = Turns { rounds, each: Duration::from_millis(3) };
    let mut table = Table::new("Nanoseconds of processor time a request, in all", &heads());
    let all = [Subject::Axum].into_iter().chain(SUBJECTS).chain([Subject::Actix]);
    let all: Vec<Subject> = all.collect();
    let mut columns: Vec<Vec<Samples>> = Vec::new();
    for scenario in Scenario::ALL {
        let mut runners: Vec<_> = all.iter().map(|subject| runner(*subject, scenario)).collect();
        columns.push(in_turns(&mut runners, turns));
    }
    for (place, subject) in all.iter().enumerate() {
        let cells = columns.iter().map(|column| column[place].shown(0));
        table.row([subject.title().to_owned()].into_iter().chain(cells).collect());
    }
    report.table("stack-times", table);
    Ok(())
}

fn runner(subject: Subject, scenario: Scenario) -> Runner<'static> {
    let mut rig = Rig::new(subject, scenario, &Places::default());
    Runner::new(move |requests| Elapsed::here(|| (0..requests).for_each(|_| rig.request())))
}

fn heads() -> Vec<String> {
    let titles = Scenario::ALL.iter().map(|scenario| scenario.title().to_owned());
    [String::new()].into_iter().chain(titles).collect()
}
