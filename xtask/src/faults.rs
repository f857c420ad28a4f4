//! `cargo xtask faults`: kills, stops and cuts off servers under load, and kills the program that uses SQLite.

use std::process::Command;

use crate::install;
use crate::step::{StepError, cargo, step};

/// The arguments of `cargo xtask faults`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store to test
    pub(crate) server: Server,
    /// The number of faults; Redis 6.2 and Valkey 9 get a quarter of it
    #[arg(long, default_value_t = 1000)]
    pub(crate) rounds: u32,
}

/// The stores, each named after its tests.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Server {
    /// Redis 7.0, Redis 6.2 and Valkey 9, with failovers of a cluster and of sentinels
    Redis,
    /// MariaDB
    Mysql,
    /// PostgreSQL
    Postgres,
    /// SQLite: the program that writes is killed, once over HTTP and once at the provider
    Sqlite,
}

/// Installs, builds and runs. The counts are among the last lines.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    let test = match args.server {
        Server::Redis => "redis_faults",
        Server::Mysql => "mysql_faults",
        Server::Postgres => "postgres_faults",
        Server::Sqlite => {
            let [provider, program] = kills(args.rounds);
            return step("the provider", &mut { provider })
                .and_then(|()| step("the program", &mut { program }));
        }
    };
    install::run()?;
    step("faults", &mut faults(test, args.rounds))
}

/// Returns the tests that kill what writes a file of SQLite. They need no server.
fn kills(rounds: u32) -> [Command; 2] {
    let rounds = rounds.to_string();
    let mut provider = cargo(["test", "-p", "cloakroom", "--all-features", "--test", "sqlite"]);
    provider.args(["--", "--nocapture", "a_killed_process_loses_nothing_acknowledged"]);
    provider.env("CLOAKROOM_SQLITE_KILLS", &rounds);
    let mut program = cargo(["test", "-p", "cloakroom-cli", "--all-features", "--test", "kill"]);
    program.args(["--", "--nocapture", "a_killed_writer_of_sqlite_loses_nothing_acknowledged"]);
    program.env("CLOAKROOM_KILLS", &rounds);
    [provider, program]
}

fn faults(test: &str, rounds: u32) -> Command {
    let mut command = cargo(["test", "-p", "cloakroom-cli", "--all-features", "--test", test]);
    command.args(["--", "--include-ignored", "--nocapture", "--test-threads", "1"]);
    command.env("CLOAKROOM_SERVERS", "require").env("CLOAKROOM_FAULT_ROUNDS", rounds.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    #[test]
    fn the_rounds_reach_the_test() {
        assert_eq!(
            shown(&faults("mysql_faults", 7)),
            "CLOAKROOM_FAULT_ROUNDS=7 CLOAKROOM_SERVERS=require cargo test -p cloakroom-cli --all-features \
             --test mysql_faults -- --include-ignored --nocapture --test-threads 1"
        );
    }

    #[test]
    fn the_kills_of_sqlite_reach_both_tests() {
        assert_eq!(
            kills(7).map(|command| shown(&command)),
            [
                "CLOAKROOM_SQLITE_KILLS=7 cargo test -p cloakroom --all-features --test sqlite \
                 -- --nocapture a_killed_process_loses_nothing_acknowledged",
                "CLOAKROOM_KILLS=7 cargo test -p cloakroom-cli --all-features --test kill \
                 -- --nocapture a_killed_writer_of_sqlite_loses_nothing_acknowledged"
            ]
        );
    }
}
