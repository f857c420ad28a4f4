//! The security checklist as attacks: every row over HTTP against the demonstration on every provider, and a table of what came of it.
//!
//! The demonstration's own router listens on a real port; what it cannot have, a clock to turn and a store to look into, is why it runs
//! in this process. A row passes, or the provider declares by a capability flag that it does not promise this. Plain `cargo test` runs
//! memory and files, `cargo xtask test` every provider. `cargo test -p cloakroom-cli --test attacks -- row_30` runs one row.
#![cfg(unix)]

#[path = "../../src/demo/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the program starts it by its options, and its tests run there")]
mod demo;
#[path = "../../../cloakroom/tests/support/faulty.rs"]
#[allow(dead_code, reason = "shared with the library's tests")]
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

/// What came of each row on each provider; a row that failed has nothing here but was begun.
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
    show(&outcomes.lock().expect("nobody has panicked"));
    let (told, leaks) = log::findings();
    println!("log: {told}, {} found", leaks.len());
    println!(
        "{} rows on {} providers in {:.1} s",
        rows::ALL.len(),
        Kind::ALL.len(),
        start.elapsed().as_secs_f64()
    );
    match leaks.first() {
        None => conclusion.exit_code(),
        Some(leak) => {
            println!("a secret was logged: {leak}");
            ExitCode::FAILURE
        }
    }
}

fn trial(row: Row, target: Target, outcomes: &Outcomes) -> Trial {
    let place = (row.name, target.kind.name());
    let outcomes = Arc::clone(outcomes);
    let run = move || {
        let note = |outcome| {
            outcomes.lock().expect("nobody has panicked").insert(place, outcome);
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
        // A server that hangs must not hold up the rest.
        runtime.shutdown_background();
        note(Some(outcome));
        Ok(())
    };
    Trial::test(format!("{}::{}", target.kind.name(), row.name), run)
        .with_ignored_flag(target.kind.is_a_server())
}

/// What this build has no provider for is shown as ignored, and fails where it is asked for.
fn missing() -> Vec<Trial> {
    let built: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let absent = ["redis", "mysql"].into_iter().filter(|name| !built.contains(name));
    let trial = |name: &'static str| {
        let fails = move || {
            Err(Failed::from(format!("built without {name}: cargo xtask test, or --features {name}")))
        };
        Trial::test(format!("{name}::every_row"), fails).with_ignored_flag(true)
    };
    absent.map(trial).collect()
}

/// The table.
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
