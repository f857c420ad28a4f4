//! The project's tasks, `cargo xtask <task>`: one way to build, check and test on a desk and in CI alike.

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

/// The project's tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Installs what the tests need and runs every test there is.
    Test(test::Args),
    /// What has to pass before a change goes in: format, lints, documentation, then `test`.
    Ci,
    /// Measures; `--counts` for instructions and allocations. Every other argument goes to the bench program.
    Bench(bench::Args),
    /// Kills, stops and cuts off a server under load, again and again.
    Faults(faults::Args),
    /// Runs the fuzz targets, each for so many executions.
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
    fn what_follows_the_two_dashes_goes_to_the_test_runner() {
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
