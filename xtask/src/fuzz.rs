//! `cargo xtask fuzz`: runs the fuzz targets on the stable toolchain, without a sanitizer.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::step::{StepError, cargo, step};

/// The folder of the targets. It is a workspace of its own, so that the main one has no fuzzing dependencies.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

/// Every target, and the folder of its first inputs. Inputs that earlier runs kept come on top.
const TARGETS: &[(&str, Option<&str>)] = &[
    ("codec_round_trip", None),
    ("config", Some("seeds/config")),
    ("cookie_header", Some("seeds/cookie_header")),
    ("dsn", Some("seeds/dsn")),
    ("from_actix_session", None),
    ("from_axum_session", None),
    ("from_tower_sessions", None),
    ("gob_decode", Some("../cloakroom/tests/vectors/gob")),
    ("gob_round_trip", Some("../cloakroom/tests/vectors/gob")),
    ("postgres_settings", Some("seeds/postgres_settings")),
    ("record", Some("../cloakroom/tests/golden")),
    ("sealed_token", None),
];

/// Bounds on one run: inputs of 4 KiB, 5 s for one input, 512 MiB in all. The targets' own allocator limits a single
/// allocation to 64 MiB.
const BOUNDS: [&str; 3] = ["-max_len=4096", "-timeout=5", "-rss_limit_mb=512"];

/// The arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The target to run; the default is all of them, one after the other
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|(name, _)| *name)))]
    pub(crate) target: Option<String>,
    /// The number of runs of each target
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) runs: u64,
    /// Arguments for libFuzzer, such as `-max_total_time=60` or the file of an input that failed
    #[arg(last = true)]
    pub(crate) fuzzer: Vec<String>,
}

/// Builds and runs the targets. Stops at the first that finds something, and names the input's file.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    needs()?;
    for (name, seeds) in TARGETS {
        if args.target.as_ref().is_none_or(|target| target == name) {
            // libFuzzer stops if the folder does not exist.
            let corpus = Path::new(FOLDER).join("corpus").join(name);
            std::fs::create_dir_all(&corpus).map_err(|source| StepError::Folder { corpus, source })?;
            step(name, &mut fuzzer(name, *seeds, args))?;
        }
    }
    Ok(())
}

fn needs() -> Result<(), StepError> {
    let answers = |mut command: Command| {
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        silent.status().is_ok_and(|status| status.success())
    };
    if !answers(cargo(["fuzz", "--version"])) {
        return Err(StepError::FuzzNeeds {
            what: "cargo-fuzz",
            remedy: "run `cargo install cargo-fuzz --locked`",
        });
    }
    // libfuzzer-sys compiles libFuzzer, which is C++.
    let compilers = [std::env::var("CXX").unwrap_or_default(), "c++".to_owned()];
    let version = |compiler: &String| {
        let mut command = Command::new(compiler);
        command.arg("--version");
        answers(command)
    };
    if compilers.iter().any(version) {
        return Ok(());
    }
    Err(StepError::FuzzNeeds {
        what: "a C++ compiler, g++ or clang",
        remedy: "install the Debian package g++, or set CXX to yours",
    })
}

fn fuzzer(target: &str, seeds: Option<&str>, args: &Args) -> Command {
    // The library has no unsafe code that a sanitizer could watch, and a sanitizer needs the nightly toolchain.
    // cargo-fuzz keeps debug assertions and overflow checks on.
    let mut command = cargo(["fuzz", "run", "--sanitizer", "none", target]);
    command.current_dir(Path::new(FOLDER));
    // libFuzzer keeps new inputs in the first folder. It only reads the others.
    let replays = args.fuzzer.iter().any(|arg| !arg.starts_with('-'));
    if !replays {
        command.arg(format!("corpus/{target}")).args(seeds);
    }
    let inputs = args.fuzzer.iter().filter(|arg| !arg.starts_with('-'));
    let flags = args.fuzzer.iter().filter(|arg| arg.starts_with('-'));
    command.args(inputs).arg("--").args(BOUNDS);
    if !replays {
        command.arg(format!("-runs={}", args.runs));
    }
    command.args(flags);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    fn args(fuzzer: &[&str]) -> Args {
        let fuzzer = fuzzer.iter().map(|arg| (*arg).to_owned()).collect();
        Args { target: None, runs: 7, fuzzer }
    }

    #[test]
    fn a_target_runs_within_bounds_from_its_corpus_and_its_seeds() {
        let command = fuzzer("config", Some("seeds/config"), &args(&["-max_total_time=60"]));
        assert_eq!(
            shown(&command),
            "cargo fuzz run --sanitizer none config corpus/config seeds/config -- \
             -max_len=4096 -timeout=5 -rss_limit_mb=512 -runs=7 -max_total_time=60"
        );
    }

    #[test]
    fn a_failing_input_is_run_once_and_alone() {
        let command = fuzzer("config", Some("seeds/config"), &args(&["artifacts/config/crash-1"]));
        assert_eq!(
            shown(&command),
            "cargo fuzz run --sanitizer none config artifacts/config/crash-1 -- \
             -max_len=4096 -timeout=5 -rss_limit_mb=512"
        );
    }

    #[test]
    fn every_target_of_the_manifest_is_run() {
        let manifest = std::fs::read_to_string(Path::new(FOLDER).join("Cargo.toml")).unwrap();
        let bins = manifest.split("[[bin]]").skip(1);
        let mut names: Vec<_> = bins.map(|bin| bin.split('"').nth(1).unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn the_folder_of_first_inputs_exists() {
        for (_, seeds) in TARGETS {
            assert!(seeds.is_none_or(|seeds| Path::new(FOLDER).join(seeds).is_dir()), "{seeds:?}");
        }
    }
}
