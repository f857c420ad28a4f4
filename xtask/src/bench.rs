//! `cargo xtask bench`: ours and the peers side by side; with `--counts`, what a request costs against the committed baseline.

use crate::install;
use crate::step::{StepError, cargo, step};

/// The package that counts.
const COUNTS: &str = "cloakroom-bench";

/// The program that measures the peers, too: a workspace of its own, so that their drivers stay out of this one.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/Cargo.toml");

/// How `cargo xtask bench` is called.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Counts instructions and allocations, which come out the same on every run. `--accept` after it writes the baseline.
    #[arg(long)]
    pub(crate) counts: bool,
    /// Goes to the bench program: `--quick`, `--only stores,http`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) forwarded: Vec<String>,
}

/// Holds what a request costs against the committed baseline.
pub(crate) fn counts() -> Result<(), StepError> {
    run(&Args { counts: true, forwarded: Vec::new() })
}

/// Builds and runs the bench program; `docs/benchmarks.md` is written anew by all but the counts.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    install::run()?;
    if !args.counts {
        let mut command = cargo(["run", "--release", "--manifest-path", PEERS, "--"]);
        return step("bench", command.args(&args.forwarded));
    }
    // The program starts others of its package, which `cargo run` would not build.
    step("build", &mut cargo(["build", "--release", "-p", COUNTS, "--bins"]))?;
    let mut command = cargo(["run", "--release", "-p", COUNTS, "--", "counts"]);
    step("counts", command.args(&args.forwarded))
}
