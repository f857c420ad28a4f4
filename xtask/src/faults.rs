//! `cargo xtask faults`: kills, stops and cuts off servers under load.

use std::process::Command;

use crate::install;
use crate::step::{StepError, cargo, step};

/// The arguments of `cargo xtask faults`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server to test
    pub(crate) server: Server,
    /// The number of faults; Redis 6.2 and Valkey 9 get a quarter of it
    #[arg(long, default_value_t = 1000)]
    pub(crate) rounds: u32,
}

/// The servers, each named after its test file.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Server {
    /// Redis 7.0, Redis 6.2 and Valkey 9, with failovers of a cluster and of sentinels
    Redis,
    /// MariaDB
    Mysql,
    /// PostgreSQL
    Postgres,
}

/// Installs, builds and runs. The counts are among the last lines.
pub(crate) fn run(args: &Args) -> Result<(), StepError> {
    install::run()?;
    step("faults", &mut faults(args))
}

fn faults(args: &Args) -> Command {
    let test = match args.server {
        Server::Redis => "redis_faults",
        Server::Mysql => "mysql_faults",
        Server::Postgres => "postgres_faults",
    };
    let mut command = cargo(["test", "-p", "cloakroom-cli", "--all-features", "--test", test]);
    command.args(["--", "--include-ignored", "--nocapture", "--test-threads", "1"]);
    command.env("CLOAKROOM_SERVERS", "require").env("CLOAKROOM_FAULT_ROUNDS", args.rounds.to_string());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::shown;

    #[test]
    fn the_rounds_reach_the_test() {
        for (server, test) in [
            (Server::Redis, "redis_faults"),
            (Server::Mysql, "mysql_faults"),
            (Server::Postgres, "postgres_faults"),
        ] {
            assert_eq!(
                shown(&faults(&Args { server, rounds: 7 })),
                format!(
                    "CLOAKROOM_FAULT_ROUNDS=7 CLOAKROOM_SERVERS=require cargo test -p cloakroom-cli --all-features \
                     --test {test} -- --include-ignored --nocapture --test-threads 1"
                )
            );
        }
    }
}
