//! The security checklist as attacks: every row over HTTP against the demonstration on every provider, with a table of
//! the results.
//!
//! The demonstration's own router listens on a real port. It runs in this process, since the rows set its clock and
//! look into its store. A row passes, or it is excused: the provider declares by a capability that it does not promise
//! this.
//!
//! Plain `cargo test` runs memory, files and cookies; `cargo xtask test` runs every provider. `cargo test -p
//! cloakroom-cli --test attacks -- row_30` runs one row.
#![cfg(unix)]
// The futures of the rows are nested more deeply than the default allows, in a build with PostgreSQL alone.
#![recursion_limit = "256"]

#[path = "../../src/demo/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the program uses the rest of it, and runs its tests")]
mod demo;
#[path = "../../../cloakroom/tests/support/faulty.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the library's tests")]
mod faulty;
#[path = "../../../cloakroom/tests/support/hooked.rs"]
#[allow(dead_code, reason = "shared with the library's tests")]
mod hooked;
mod log;
mod rig;
mod rows;
mod site;
mod target;
mod visitor;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cloakroom::ManualClock;
use libtest_mimic::{Arguments, Failed, Trial};

use rows::{Outcome, Row};
use target::{Kind, Target};

/// The outcome of each row on each provider. `None` stands for a row that was started and has not passed.
type Outcomes = Arc<Mutex<BTreeMap<(&'static str, &'static str), Option<Outcome>>>>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    log::listen();
    let outcomes = Outcomes::default();
    let mut trials = Vec::new();
    for row in rows::ALL {
        for kind in Kind::ALL {
            trials.push(trial(*row, Target { kind: *kind }, &outcomes));
        }
    }
    trials.extend(missing());
    let start = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return conclusion.exit_code();
    }
    show(&outcomes.lock().expect("no thread has panicked"));
    let (summary, leaks) = log::findings();
    println!("log: {summary}, {} found", leaks.len());
    println!(
        "{} rows on {} providers in {:.1} s",
        rows::ALL.len(),
        Kind::ALL.len(),
        start.elapsed().as_secs_f64()
    );
    if let Some(leak) = leaks.first() {
        println!("a secret was logged: {leak}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trial(row: Row, target: Target, outcomes: &Outcomes) -> Trial {
    let place = (row.name, target.kind.name());
    let outcomes = Arc::clone(outcomes);
    let run = move || {
        let note = |outcome| {
            outcomes.lock().expect("no thread has panicked").insert(place, outcome);
        };
        note(None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let declared =
            runtime.block_on(async { target.store(&ManualClock::default().clock()).await.capabilities() });
        let excuse = row.excuses.iter().find(|excuse| excuse.is_declared(&declared));
        let outcome = match excuse {
            Some(excuse) => Outcome::Excused(*excuse),
            None => runtime.block_on(async { tokio::spawn((row.run)(target)).await })?,
        };
        if let Outcome::Excused(excuse) = outcome
            && !excuse.is_declared(&declared)
        {
            return Err(Failed::from(format!("{} is not declared", excuse.flag())));
        }
        // A server that hangs must not delay the end of the test.
        runtime.shutdown_background();
        note(Some(outcome));
        Ok(())
    };
    Trial::test(format!("{}::{}", target.kind.name(), row.name), run)
        .with_ignored_flag(target.kind.needs_server())
}

/// Returns an ignored test for each provider that this build lacks. It fails if it is request for.
fn missing() -> Vec<Trial> {
    let built: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let absent = ["redis", "mysql", "postgres", "sqlite"].into_iter().filter(|name| !built.contains(name));
    let trial = |name: &'static str| {
        let fails = move || {
            Err(Failed::from(format!(
                "built without {name}; run `cargo xtask test`, or add --features {name}"
            )))
        };
        Trial::test(format!("{name}::every_row"), fails).with_ignored_flag(true)
    };
    absent.map(trial).collect()
}

/// Prints the table.
fn show(outcomes: &BTreeMap<(&'static str, &'static str), Option<Outcome>>) {
    let width = rows::ALL.iter().map(|row| row.name.len()).max().unwrap_or_default();
    let mut sums = BTreeMap::<&str, usize>::new();
    print!("\n{:width$}", "");
    for kind in Kind::ALL {
        print!("  {:24}", kind.name());
    }
    println!();
    for row in rows::ALL {
        print!("{:width$}", row.name);
        for kind in Kind::ALL {
            let (text, sum) = match outcomes.get(&(row.name, kind.name())) {
                None => ("-".to_owned(), "not run"),
                Some(None) => ("FAIL".to_owned(), "failed"),
                Some(Some(Outcome::Held)) => ("pass".to_owned(), "passed"),
                Some(Some(Outcome::Excused(excuse))) => (format!("excused: {}", excuse.flag()), "excused"),
            };
            *sums.entry(sum).or_default() += 1;
            print!("  {text:24}");
        }
        println!();
    }
    let sums: Vec<_> = sums.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("\n{}", sums.join(", "));
}
