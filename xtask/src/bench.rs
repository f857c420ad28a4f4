//! `cargo xtask bench`: the bench crate's program, in release.

use crate::install;
use crate::step::{StepError, cargo, step};

/// The package of the benchmarks.
const PACKAGE: &str = "cloakroom-bench";

/// How `cargo xtask bench` is called.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Counts instructions and allocations, which come out the same on every run.
    #[arg(long)]
    pub(crate) counts: bool,
    /// Goes to the bench program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) forwarded: Vec<String>,
}

/// Holds what a request costs against the committed baseline.
pub(crate) fn counts() -> Result<(), StepError> {
    run(&Args { counts: true, forwarded: Vec::new() })
}

/// Builds and runs the bench program.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    install::run()?;
    // The program starts others of its package, which `cargo run` would not build.
    step("build", &mut cargo(["build", "--release", "-p", PACKAGE, "--bins"]))?;
    let mut command = cargo(["run", "--release", "-p", PACKAGE, "--"]);
    if args.counts {
        command.arg("counts");
    }
    step("bench", command.args(&args.forwarded))
}
