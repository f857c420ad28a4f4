//! `cargo xtask test`: every test there is, with what it needs installed first.

use std::process::Command;

use crate::install;
use crate::step::{StepError, cargo, step};

/// Set to `require` while everything runs: a test that finds no server or browser then fails instead of passing it over.
const SERVERS: &str = "CLOAKROOM_SERVERS";

/// How `cargo xtask test` is called.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only what needs no server and no browser: nothing is installed, and such tests stay ignored.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Goes to the test runner: a filter, `--test-threads 1` and so on.
    #[arg(last = true)]
    pub(crate) runner: Vec<String>,
}

/// Installs, builds and tests. The test runner's output is passed through, so that its closing lines are the last.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    if !args.quick {
        install::run()?;
    }
    // Tests of whole processes start the program; with the features of the tests' own build it is built once.
    step("program", &mut cargo(["build", "-p", "cloakroom-cli", "--all-features"]))?;
    if args.runner.is_empty() {
        step("interleavings", &mut interleavings())?;
    }
    step("test", &mut tests(args))
}

/// The library with the locks of a scheduler in the place of the usual ones: all of it is built apart, in the folder of its profile.
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
    fn everything_includes_the_ignored_and_requires_their_servers() {
        assert_eq!(
            shown(&tests(&Args::default())),
            "CLOAKROOM_SERVERS=require cargo test --workspace --all-features --no-fail-fast -- --include-ignored"
        );
    }

    #[test]
    fn interleavings_are_explored_with_the_locks_of_shuttle_and_told() {
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
