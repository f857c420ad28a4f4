//! `cargo xtask fuzz`: the fuzz targets, on the stable toolchain and without a sanitizer.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::step::{StepError, cargo, step};

/// Where the targets are: a workspace of its own, so that the main one knows nothing of fuzzers.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz");

/// Every target, and what it starts from besides what earlier runs have kept.
const TARGETS: &[(&str, Option<&str>)] = &[
    ("codec_round_trip", None),
    ("config", Some("seeds/config")),
    ("cookie_header", Some("seeds/cookie_header")),
    ("dsn", Some("seeds/dsn")),
    ("gob_decode", Some("../cloakroom/tests/vectors/gob")),
    ("gob_round_trip", Some("../cloakroom/tests/vectors/gob")),
    ("record", Some("../cloakroom/tests/golden")),
    ("sealed_token", None),
];

/// Bounds on one input: 4 KiB, 5 s, and 512 MiB in all. Of a single allocation the targets' own allocator allows 64 MiB.
const BOUNDS: [&str; 3] = ["-max_len=4096", "-timeout=5", "-rss_limit_mb=512"];

/// How `cargo xtask fuzz` is called.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One target; all, one after the other, where none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.iter().map(|(name, _)| *name)))]
    pub(crate) target: Option<String>,
    /// Executions of each target.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) runs: u64,
    /// Goes to libFuzzer: `-max_total_time=60`, or the file of an input that failed.
    #[arg(last = true)]
    pub(crate) fuzzer: Vec<String>,
}

/// Builds and runs; ends at the first target that finds something, and names the input's file.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    needs()?;
    for (name, seeds) in TARGETS {
        if args.target.as_ref().is_none_or(|target| target == name) {
            // libFuzzer ends where there is no such folder.
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
    // libFuzzer itself is C++, which the build script of libfuzzer-sys compiles.
    let compilers = [std::env::var("CXX").unwrap_or_default(), "c++".to_owned()];
    let version = |compiler: &String| {
        let mut command = Command::new(compiler);
        command.arg("--version");
        answers(command)
    };
    match compilers.iter().any(version) {
        true => Ok(()),
        false => Err(StepError::FuzzNeeds {
            what: "a C++ compiler, g++ or clang",
            remedy: "install the Debian package g++, or set CXX to yours",
        }),
    }
}

fn fuzzer(target: &str, seeds: Option<&str>, args: &Args) -> Command {
    // Without a sanitizer nothing unstable is needed. The library has no unsafe code for one to watch; cargo-fuzz leaves the
    // assertions and the checks of arithmetic in.
    let mut command = cargo(["fuzz", "run", "--sanitizer", "none", target]);
    command.current_dir(Path::new(FOLDER));
    // The first folder is where libFuzzer keeps what it finds new; those after it are only read.
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
    fn a_file_is_run_once_and_alone() {
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
    fn what_a_target_starts_from_is_there() {
        for (_, seeds) in TARGETS {
            assert!(seeds.is_none_or(|seeds| Path::new(FOLDER).join(seeds).is_dir()), "{seeds:?}");
        }
    }
}
