//! The project's tasks, `cargo xtask <task>`. Developers and CI build, check and test in the same way.

mod bench;
mod ci;
mod faults;
mod fuzz;
mod install;
mod step;
mod test;
mod wheels;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Build, check, test and measure this project
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Start with `cargo xtask test --quick`: it installs nothing, and needs no server and no browser.\n\
                 CONTRIBUTING.md explains every task."
)]
enum Task {
    /// Install what the tests need and run every test
    Test(test::Args),
    /// Run what a change must pass: format, lints, documentation, request costs, then `test`
    Ci,
    /// Measure this library beside its peers, or count instructions and allocations with `--counts`
    Bench(bench::Args),
    /// Kill, stop and cut off a server under load, many times
    Faults(faults::Args),
    /// Run the fuzz targets
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test(args) => test::run(&args),
        Task::Ci => ci::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            error.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Task::command().debug_assert();
    }

    #[test]
    fn arguments_after_two_dashes_go_to_the_test_runner() {
        let task = Task::try_parse_from(["xtask", "test", "--quick", "--", "--test-threads", "1"]).unwrap();
        let Task::Test(args) = task else { panic!("expected the test task, found {task:?}") };
        assert!(args.quick);
        assert_eq!(args.runner, ["--test-threads", "1"]);
    }

    #[test]
    fn bench_forwards_flags_it_does_not_know() {
        let task = Task::try_parse_from(["xtask", "bench", "--counts", "--peer", "x"]).unwrap();
        let Task::Bench(args) = task else { panic!("expected the bench task, found {task:?}") };
        assert!(args.counts);
        assert_eq!(args.forwarded, ["--peer", "x"]);
    }
}
