//! The committed costs of a request, with which a change is compared.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The path of the file, beside this crate's manifest.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.tsv");

/// The tolerance in percent. The C library takes other code paths on other processors, which differ by less than one
/// percent.
const TOLERANCE: f64 = 3.0;

const HEAD: &str = "\
# The cost of a request beyond the same axum handler under an empty layer: name, instructions, allocations.
# `cargo xtask bench --counts` compares every change with it and allows 3 % more; CI runs that.
# `cargo xtask bench --counts --accept` rewrites this file. The commit that contains it says why.
";

/// The cost of one request beyond the bare handler.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// Instructions, counted by callgrind.
    pub instructions: i64,
    /// The mean number of allocations.
    pub allocations: f64,
}

impl Cost {
    /// Creates a cost from both counts.
    pub fn new(instructions: i64, allocations: f64) -> Self {
        Cost { instructions, allocations }
    }
}

/// The costs of all scenarios, and the toolchain they were counted with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    toolchain: String,
    costs: Vec<(String, Cost)>,
}

impl Baseline {
    /// Creates a baseline from costs that were counted on this machine.
    pub fn of_today(costs: impl Iterator<Item = (String, Cost)>) -> Self {
        Baseline { toolchain: toolchain(), costs: costs.collect() }
    }

    /// Reads the committed baseline.
    pub fn load() -> Result<Self, String> {
        let text = std::fs::read_to_string(FILE).map_err(|error| {
            format!("cannot read {FILE}: {error}; `cargo xtask bench --counts --accept` writes it")
        })?;
        Baseline::parse(&text)
    }

    /// Replaces the committed baseline.
    pub fn save(&self) -> Result<(), String> {
        std::fs::write(FILE, self.to_text())
            .map_err(|error| format!("cannot write {FILE}: {error}; check its permissions"))?;
        println!("{} is written; say in the commit why the costs have changed", shown(FILE));
        Ok(())
    }

    /// Returns the cost of the scenario of that name.
    pub fn cost(&self, name: &str) -> Option<Cost> {
        self.costs.iter().find(|(known, _)| known == name).map(|(_, cost)| *cost)
    }

    /// Checks each scenario of `now` against the tolerance.
    pub fn compare(&self, now: &Baseline) -> Result<(), String> {
        let mut found = String::new();
        for (name, cost) in &now.costs {
            let Some(before) = self.cost(name) else {
                let _ = writeln!(
                    found,
                    "{name}: expected a line in the baseline, found none; add it with --accept"
                );
                continue;
            };
            let counts = [
                ("instructions", before.instructions as f64, cost.instructions as f64),
                ("allocations", before.allocations, cost.allocations),
            ];
            for (what, before, now) in counts {
                if now > before * (1.0 + TOLERANCE / 100.0) {
                    let _ = writeln!(
                        found,
                        "{name}: {now} {what}, more than {TOLERANCE} % over the baseline of {before}"
                    );
                } else if now < before * (1.0 - TOLERANCE / 100.0) {
                    println!(
                        "{name}: {now} {what}, less than the baseline of {before}; --accept keeps the gain"
                    );
                }
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        if self.toolchain != now.toolchain {
            let _ = writeln!(
                found,
                "(the baseline was counted with {}, this run with {})",
                self.toolchain, now.toolchain
            );
        }
        found.push_str("Reduce the cost, or run `cargo xtask bench --counts --accept` and commit the file with the reason.");
        Err(found)
    }

    fn to_text(&self) -> String {
        let mut text = format!("{HEAD}toolchain\t{}\n", self.toolchain);
        for (name, cost) in &self.costs {
            let _ = writeln!(text, "{name}\t{}\t{:.2}", cost.instructions, cost.allocations);
        }
        text
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut baseline = Baseline::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<_> = line.split('\t').collect();
            match fields[..] {
                ["toolchain", toolchain] => baseline.toolchain = toolchain.to_owned(),
                [name, instructions, allocations] => {
                    let cost = instructions.parse().ok().zip(allocations.parse().ok());
                    let (instructions, allocations) =
                        cost.ok_or_else(|| format!("expected two numbers after {name}, found {line:?}"))?;
                    baseline.costs.push((name.to_owned(), Cost { instructions, allocations }));
                }
                _ => return Err(format!("expected a name and two numbers between tabs, found {line:?}")),
            }
        }
        Ok(baseline)
    }
}

/// Describes the toolchain, which affects the counts as much as the code does.
fn toolchain() -> String {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let rustc = said("rustc", &["--version"]).unwrap_or_else(|| "an unknown rustc".to_owned());
    let libc = said("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|| "another C library".to_owned());
    format!("{rustc}, {libc}, {}", std::env::consts::ARCH)
}

fn shown(file: &str) -> String {
    Path::new(file).file_name().map_or(file.into(), |name| format!("bench/{}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(instructions: i64, allocations: f64) -> Baseline {
        let costs = vec![("read".to_owned(), Cost { instructions, allocations })];
        Baseline { toolchain: "rustc 1.0, glibc 2".to_owned(), costs }
    }

    #[test]
    fn a_written_baseline_reads_back_unchanged() {
        let before = baseline(2436, 7.75);
        assert_eq!(Baseline::parse(&before.to_text()).unwrap(), before);
        assert!(Baseline::parse("read\tmany\t2").unwrap_err().contains("two numbers"));
        assert!(Baseline::parse("read").unwrap_err().contains("between tabs"));
    }

    #[test]
    fn three_percent_more_pass_and_no_more() {
        let before = baseline(1000, 100.0);
        before.compare(&baseline(1030, 103.0)).unwrap();
        before.compare(&baseline(10, 1.0)).unwrap();
        let error = before.compare(&baseline(1031, 100.0)).unwrap_err();
        assert!(error.contains("read: 1031 instructions") && error.contains("--accept"), "{error}");
        assert!(before.compare(&baseline(1000, 103.1)).unwrap_err().contains("103.1 allocations"));
    }

    #[test]
    fn a_scenario_without_a_baseline_fails() {
        let error = Baseline::default().compare(&baseline(1, 1.0)).unwrap_err();
        assert!(error.contains("found none"), "{error}");
    }

    #[test]
    fn the_committed_file_names_every_scenario() {
        use clap::ValueEnum;
        let committed = Baseline::load().unwrap();
        for scenario in crate::scenario::Scenario::value_variants() {
            let name = scenario.to_possible_value().unwrap().get_name().to_owned();
            assert!(committed.cost(&name).is_some(), "{name}");
        }
    }
}
