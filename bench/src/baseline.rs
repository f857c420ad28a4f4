//! What a request cost when somebody last agreed to it: the committed file that a change is held against.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The file, beside this crate's manifest.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.tsv");

/// How much more than the baseline a count may be, in percent: other processors' paths through the C library differ by less than one.
const TOLERANCE: f64 = 3.0;

const HEAD: &str = "\
# What a request costs over the same axum handler under a layer that does nothing: its name, instructions, allocations.
# Held against every change, with 3 % of tolerance, by `cargo xtask bench --counts`, which `.ci/run` runs.
# Written anew by `cargo xtask bench --counts --accept`; the commit that does says why.
";

/// What one request costs over the bare handler.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// Instructions, by callgrind.
    pub instructions: i64,
    /// Allocations, in the mean of many requests.
    pub allocations: f64,
}

impl Cost {
    /// So many instructions and allocations.
    pub fn new(instructions: i64, allocations: f64) -> Self {
        Cost { instructions, allocations }
    }
}

/// The costs of all scenarios, and what they were counted with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    toolchain: String,
    costs: Vec<(String, Cost)>,
}

impl Baseline {
    /// Costs as they were counted on this machine.
    pub fn of_today(costs: impl Iterator<Item = (String, Cost)>) -> Self {
        Baseline { toolchain: toolchain(), costs: costs.collect() }
    }

    /// The committed one.
    pub fn load() -> Result<Self, String> {
        let text = std::fs::read_to_string(FILE)
            .map_err(|error| format!("{FILE} cannot be read: {error}; `--accept` writes it"))?;
        Baseline::parse(&text)
    }

    /// Takes the place of the committed one.
    pub fn save(&self) -> Result<(), String> {
        std::fs::write(FILE, self.to_text()).map_err(|error| format!("{FILE} cannot be written: {error}"))?;
        println!("{} is written; say in its commit why the costs have changed", shown(FILE));
        Ok(())
    }

    /// What the scenario of that name costs.
    pub fn cost(&self, name: &str) -> Option<Cost> {
        self.costs.iter().find(|(known, _)| known == name).map(|(_, cost)| *cost)
    }

    /// Answers whether `now` is within the tolerance of this one, scenario by scenario.
    pub fn compare(&self, now: &Baseline) -> Result<(), String> {
        let mut found = String::new();
        for (name, cost) in &now.costs {
            let Some(before) = self.cost(name) else {
                let _ = writeln!(found, "{name}: expected a line in the baseline, found none");
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
                        "{name}: {now} {what}, more than {TOLERANCE} % over the {before} before"
                    );
                } else if now < before * (1.0 - TOLERANCE / 100.0) {
                    println!("{name}: {now} {what}, less than the {before} before; --accept keeps the gain");
                }
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        if self.toolchain != now.toolchain {
            let _ = writeln!(found, "(the baseline is of {}; this is {})", self.toolchain, now.toolchain);
        }
        found.push_str("Make it cheaper, or run `cargo xtask bench --counts --accept` and commit the file with the reason.");
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

/// What decides the counts besides the code.
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
    fn a_file_reads_back_as_it_was() {
        let before = baseline(2436, 7.75);
        assert_eq!(Baseline::parse(&before.to_text()).unwrap(), before);
        assert!(Baseline::parse("read\tmany\t2").unwrap_err().contains("two numbers"));
        assert!(Baseline::parse("read").unwrap_err().contains("between tabs"));
    }

    #[test]
    fn three_percent_more_pass_and_the_next_instruction_does_not() {
        let before = baseline(1000, 100.0);
        before.compare(&baseline(1030, 103.0)).unwrap();
        before.compare(&baseline(10, 1.0)).unwrap();
        let told = before.compare(&baseline(1031, 100.0)).unwrap_err();
        assert!(told.contains("read: 1031 instructions") && told.contains("--accept"), "{told}");
        assert!(before.compare(&baseline(1000, 103.1)).unwrap_err().contains("103.1 allocations"));
    }

    #[test]
    fn a_scenario_without_a_baseline_does_not_pass() {
        let told = Baseline::default().compare(&baseline(1, 1.0)).unwrap_err();
        assert!(told.contains("found none"), "{told}");
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
