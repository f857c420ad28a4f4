//! `cargo xtask test`: installs what the tests need and runs every test.

use std::process::Command;

use crate::install;
use crate::step::{StepError, cargo, step};

/// The variable that forbids skipping: with `require`, a test that finds no server or browser fails.
const SERVERS: &str = "CLOAKROOM_SERVERS";

/// The arguments of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Install nothing, and leave tests that need a server or a browser ignored
    #[arg(long)]
    pub(crate) quick: bool,
    /// Arguments for the test runner, such as a filter or `--test-threads 1`
    #[arg(last = true)]
    pub(crate) runner: Vec<String>,
}

/// Installs, builds and tests. The test runner's closing lines are the last output.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    if !args.quick {
        install::run()?;
    }
    // Tests of the whole program start its executable. The features of the tests' own build avoid a second build of
    // it.
    step("program", &mut cargo(["build", "-p", "cloakroom-cli", "--all-features"]))?;
    if args.runner.is_empty() {
        step("interleavings", &mut interleavings())?;
    }
    step("test", &mut tests(args))
}

/// The library built with the locks of shuttle, the scheduler that explores interleavings. Its profile keeps that
/// build in a folder of its own.
fn interleavings() -> Command {
    let mut command = cargo(["test", "-p", "cloakroom", "--profile", "shuttle", "--test", "shuttle"]);
    command.env("RUSTFLAGS", "--cfg shuttle");
    command.args(["--no-default-features", "--features", "memory,testkit", "--", "--nocapture"]);
    command
}

fn tests(args: &Args) -> Command {
    let mut command = cargo(["test", "--workspace", "--all-features", "--no-fail-fast", "--"]);
    if !args.quick {
        command.env(SERVERS, "require").arg("--include-ignored");
    }
    command.args(&args.runner);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    #[test]
    fn the_full_run_includes_ignored_tests_and_requires_servers() {
        assert_eq!(
            shown(&tests(&Args::default())),
            "CLOAKROOM_SERVERS=require cargo test --workspace --all-features --no-fail-fast -- --include-ignored"
        );
    }

    #[test]
    fn interleavings_run_with_shuttles_locks_and_show_output() {
        assert_eq!(
            shown(&interleavings()),
            "RUSTFLAGS='--cfg shuttle' cargo test -p cloakroom --profile shuttle --test shuttle \
             --no-default-features --features memory,testkit -- --nocapture"
        );
    }

    #[test]
    fn quick_leaves_the_ignored_ignored_and_forwards_the_filter() {
        let args = Args { quick: true, runner: vec!["cookie".to_owned()] };
        let command = shown(&tests(&args));
        assert_eq!(command, "cargo test --workspace --all-features --no-fail-fast -- cookie");
    }
}
