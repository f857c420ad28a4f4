//! The machine, the date and the versions of a measurement.

use std::fmt::Write as _;
use std::process::Command;

use crate::report::Report;

const LOCK: &str = include_str!("../Cargo.lock");

/// The crates whose versions affect the figures.
const CRATES: [&str; 14] = [
    "tower-sessions",
    "tower-sessions-moka-store",
    "tower-sessions-redis-store",
    "tower-sessions-sqlx-store",
    "actix-session",
    "axum_session",
    "axum_session_redispool",
    "axum",
    "actix-web",
    "tokio",
    "moka",
    "redis",
    "fred",
    "sqlx",
];

pub fn describe(report: &mut Report, quick: bool) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let today = jiff::Timestamp::now();
    let today = today.strftime("%Y-%m-%d");
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok();
        output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let mut text = format!(
        "{today}, {processors} processors ({model}), {}, Linux {}, {}, {}; fat LTO, one codegen unit{}.\n\n",
        system.trim_matches('"'),
        said("uname", &["-r"]),
        said("getconf", &["GNU_LIBC_VERSION"]),
        said("rustc", &["--version"]),
        if quick { "; a run with `--quick`" } else { "" }
    );
    let versions: Vec<_> =
        CRATES.iter().map(|name| format!("{name} {}", versions(name).join(" and "))).collect();
    let _ = writeln!(text, "{}.", versions.join(", "));
    report.block("machine", &text);
}

/// Returns the versions of a crate that are linked in.
fn versions(name: &str) -> Vec<&'static str> {
    let mut lines = LOCK.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line == format!("name = \"{name}\"") {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            found.extend(version);
        }
    }
    found
}
