//! The crates that an application builds for this one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Returns the direct dependencies with one release of tower-sessions-core, each with the crates that it needs.
fn dependencies(feature: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "-p", "cloakroom-tower-sessions", "-e", "normal", "--no-dedupe"]);
    tree.args(["--prefix", "depth", "--no-default-features", "--features", feature]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    let mut direct = String::new();
    // A line is the depth, the name, a space and the version.
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        let name = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let depth: u32 = line[..line.len() - name.len()].parse().unwrap();
        let name = name.split(' ').take(2).collect::<Vec<_>>().join(" ");
        if depth == 1 {
            direct = name;
            all.entry(direct.clone()).or_default();
        } else if depth > 1 {
            all.get_mut(&direct).unwrap().insert(name);
        }
    }
    all
}

#[test]
fn it_adds_no_crate_to_cloakroom_and_tower_sessions_core() {
    for (feature, version) in [("tower-sessions-0_14", "0.14."), ("tower-sessions-0_15", "0.15.")] {
        let all = dependencies(feature);
        let parts = ["cloakroom v".to_owned(), format!("tower-sessions-core v{version}")];
        let is_part = |name: &str| parts.iter().any(|part| name.starts_with(part));
        assert_eq!(all.keys().filter(|name| is_part(name)).count(), 2, "{all:#?}");
        let given: BTreeSet<_> =
            all.iter().filter(|(name, _)| is_part(name)).flat_map(|(_, needed)| needed).collect();
        let others = all.iter().filter(|(name, _)| !is_part(name));
        let added: Vec<_> = others
            .flat_map(|(name, needed)| needed.iter().chain([name]))
            .filter(|name| !given.contains(name))
            .collect();
        assert_eq!(added, Vec::<&String>::new(), "{feature}");
    }
}
