//! The number of crates that an application builds for this library.
//!
//! It is counted for tower-sessions in the same way: `cargo tree -e normal --prefix none --no-dedupe`, each name and version
//! once, with the crate itself and the crates of procedural macros. tower-sessions 0.15 needs 66 by default.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::process::Command;

/// Returns the crates of a build with these features, each as a name and a version.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "-p", "cloakroom", "-e", "normal", "--prefix", "none", "--no-dedupe"]);
    let output = tree.args(features).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates = text.lines().filter(|line| !line.is_empty());
    // Behind the version stand a path and a mark for procedural macros.
    crates.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[track_caller]
fn at_most(most: usize, crates: &BTreeSet<String>) {
    assert!(crates.contains(concat!("cloakroom v", env!("CARGO_PKG_VERSION"))), "{crates:#?}");
    assert!(crates.len() <= most, "expected at most {most} crates, found {}: {crates:#?}", crates.len());
}

#[test]
fn the_default_features_need_at_most_66_crates() {
    at_most(66, &crates(&[]));
}

#[test]
fn without_features_at_most_50_crates_are_needed() {
    at_most(50, &crates(&["--no-default-features"]));
}
