//! `cargo xtask ci`: the checks that a change must pass.

use std::process::Command;
use std::time::Instant;

use crate::step::{StepError, cargo, seconds, step};
use crate::workspace::Workspace;
use crate::{bench, test};

/// Runs every check, the cheap ones first, and stops at the first that fails.
pub(crate) fn run() -> Result<(), StepError> {
    let start = Instant::now();
    let workspace = Workspace::load()?;
    let features = workspace.features("cloakroom")?;
    let releases = workspace.features("cloakroom-tower-sessions")?;
    let mut times = Vec::new();
    for (name, mut command) in checks(&features, &releases) {
        let start = Instant::now();
        step(&name, &mut command)?;
        times.push((name, start.elapsed()));
    }
    let counts = Instant::now();
    bench::counts()?;
    times.push(("costs of a request, with an optimised build".to_owned(), counts.elapsed()));
    let tests = Instant::now();
    test::run(&test::Args::default())?;
    times.push(("test, with what it installs and builds".to_owned(), tests.elapsed()));

    eprintln!("\n== all passed in {}", seconds(start.elapsed()));
    for (name, time) in times {
        eprintln!("{:>12}  {name}", seconds(time));
    }
    Ok(())
}

/// Returns every check but the tests: its name and its command.
fn checks(features: &[String], releases: &[String]) -> Vec<(String, Command)> {
    let mut checks = vec![("format".to_owned(), cargo(["fmt", "--all", "--check"]))];
    checks.push(("clippy, default features".to_owned(), clippy(&["-p", "cloakroom", "--lib", "--tests"])));
    let bare = ["-p", "cloakroom", "--lib", "--tests", "--no-default-features"];
    checks.push(("clippy, no features".to_owned(), clippy(&bare)));
    for feature in features {
        // A test that needs more features lists them under `required-features`, and cargo leaves it out.
        let alone = [&bare[..], &["--features", feature]].concat();
        checks.push((format!("clippy, {feature} alone"), clippy(&alone)));
    }
    for release in releases {
        let package = ["-p", "cloakroom-tower-sessions", "--lib", "--no-default-features"];
        let alone = [&package[..], &["--features", release]].concat();
        checks.push((format!("clippy, {release} alone"), clippy(&alone)));
    }
    let all = ["--workspace", "--all-features", "--all-targets"];
    checks.push(("clippy, everything".to_owned(), clippy(&all)));
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    checks.push(("documentation".to_owned(), doc));
    checks.push(("documentation as docs.rs shows it".to_owned(), docs_rs()));
    checks
}

/// Builds the documentation with the feature of each item, which is unstable. No other build needs the bootstrap variable, so this one
/// has a folder of its own.
fn docs_rs() -> Command {
    let mut doc =
        cargo(["doc", "-p", "cloakroom", "--all-features", "--no-deps", "--target-dir", "target/docs.rs"]);
    doc.env("RUSTC_BOOTSTRAP", "1").env("RUSTDOCFLAGS", "--cfg docsrs -D warnings");
    doc
}

fn clippy(args: &[&str]) -> Command {
    let mut command = cargo(["clippy"]);
    command.args(args).args(["--", "-D", "warnings"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    #[test]
    fn each_feature_is_linted_alone_and_warnings_are_errors() {
        let checks = checks(&["file".to_owned(), "tower".to_owned()], &["tower-sessions-0_14".to_owned()]);
        let lines: Vec<_> = checks.iter().map(|(_, command)| shown(command)).collect();
        for feature in ["file", "tower", "tower-sessions-0_14"] {
            let alone = format!("--no-default-features --features {feature} -- -D warnings");
            assert_eq!(lines.iter().filter(|line| line.ends_with(&alone)).count(), 1, "{lines:#?}");
        }
        let lints: Vec<_> = lines.iter().filter(|line| line.starts_with("cargo clippy")).collect();
        assert_eq!(lints.len(), 6);
        assert!(lints.iter().all(|line| line.ends_with("-- -D warnings")), "{lints:#?}");
    }

    #[test]
    fn documentation_with_a_warning_does_not_pass() {
        let checks = checks(&[], &[]);
        let (_, doc) = checks.iter().find(|(name, _)| name == "documentation").unwrap();
        assert_eq!(shown(doc), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features");
        let (_, doc) = checks.iter().find(|(name, _)| name.ends_with("docs.rs shows it")).unwrap();
        assert!(shown(doc).contains("RUSTDOCFLAGS='--cfg docsrs -D warnings'"), "{}", shown(doc));
    }
}
