//! `cargo xtask bench`: measures this library beside its peers. With `--counts` it compares a request's costs with the
//! committed baseline.

use crate::install;
use crate::step::{StepError, cargo, step};

/// The package that counts instructions and allocations.
const COUNTS: &str = "cloakroom-bench";

/// The manifest of the program that also measures the peers. It is a workspace of its own, so that their drivers stay
/// out of this one.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers/Cargo.toml");

/// The manifest of the peer on SQL stores, and the program that it builds. Two versions of SQLite's library cannot be in one workspace.
const SQLX_PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers-sqlx/Cargo.toml");
const SQLX_PEER_PROGRAM: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers-sqlx/release/cloakroom-bench-peers-sqlx");

/// The folders of what is built of both, beside the other folders of builds.
const PEERS_TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers");
const SQLX_PEER_TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers-sqlx");

/// The arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count instructions and allocations, which are the same on every run. `--accept` after it writes the baseline
    #[arg(long)]
    pub(crate) counts: bool,
    /// Arguments for the bench program, such as `--quick` or `--only stores,http`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) forwarded: Vec<String>,
}

/// Compares what a request costs with the committed baseline.
pub(crate) fn counts() -> Result<(), StepError> {
    run(&Args { counts: true, forwarded: Vec::new() })
}

/// Builds and runs the bench program. Without `--counts` it rewrites `docs/benchmarks.md`.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    install::run()?;
    if !args.counts {
        let sqlx = ["build", "--release", "--manifest-path", SQLX_PEER, "--target-dir", SQLX_PEER_TARGET];
        step("build", &mut cargo(sqlx))?;
        let peers = ["run", "--release", "--manifest-path", PEERS, "--target-dir", PEERS_TARGET, "--"];
        let mut command = cargo(peers);
        command.args(["--sqlx-peer", SQLX_PEER_PROGRAM]);
        return step("bench", command.args(&args.forwarded));
    }
    // `cargo run` would not build the other programs of the package, which this one starts.
    step("build", &mut cargo(["build", "--release", "-p", COUNTS, "--bins"]))?;
    let mut command = cargo(["run", "--release", "-p", COUNTS, "--", "counts"]);
    step("counts", command.args(&args.forwarded))
}
