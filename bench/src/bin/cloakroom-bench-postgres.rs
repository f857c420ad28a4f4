//! Compares the PostgreSQL provider with bare prepared statements, on a server of its own: `cargo run --release -p cloakroom-bench
//! --features postgres --bin cloakroom-bench-postgres`.
//!
//! Both have the same number of connections and callers. Short rounds alternate, and each is compared with the next one, so that both meet
//! the same noise of the machine.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use cloakroom::providers::{Created, Record, StoreKey, Updated};
use cloakroom::testkit::record;
use cloakroom::{Clock, PostgresProvider, Provider};
use servers::Postgres;
use tokio_postgres::{Client, Config, NoTls};

#[derive(Parser)]
struct Arguments {
    /// Callers, each with a connection and a session
    #[arg(long, default_value_t = 4)]
    callers: usize,
    /// Milliseconds of each round
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// Rounds of each kind
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// Measure one kind of call only
    #[arg(long)]
    only: Option<Work>,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A caller with its own session and bare connection.
struct Caller {
    key: StoreKey,
    bare: Client,
    stored: Record,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Work {
    Load,
    BareLoad,
    Change,
    BareChange,
}

/// Returns the record of a version. Both sides build one for each change.
fn after(stored: &Record) -> Record {
    at(stored.version() + 1)
}

fn at(version: u64) -> Record {
    record(&Clock::system()).version(version).principal("user-4711").filled(300).build()
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    let server = Postgres::start();
    let provider =
        PostgresProvider::connect(&server.url(&format!("table=t&pool={}", arguments.callers))).await?;
    let mut callers = Vec::new();
    for number in 0..arguments.callers {
        let key: StoreKey = format!("session-{number}").parse()?;
        let created: Created = provider.create(&key, &at(1)).await?;
        assert_eq!(created, Created::Done);
        let mut config = Config::new();
        config.host("127.0.0.1").port(server.address().port()).dbname("app");
        config.user(Postgres::USER).password(Postgres::PASSWORD);
        let (bare, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        callers.push(Caller { key, bare, stored: at(1) });
    }
    let provider = Arc::new(provider);
    println!("{} callers, {}", arguments.callers, server.sql("SHOW server_version").trim());
    for (name, ours, bare) in
        [("load", Work::Load, Work::BareLoad), ("change", Work::Change, Work::BareChange)]
    {
        let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
        for _ in 0..arguments.rounds {
            let mut pair = [0.0; 2];
            for (place, work) in [ours, bare].into_iter().enumerate() {
                if arguments.only.is_none_or(|only| only == work) {
                    let duration = Duration::from_millis(arguments.millis);
                    (pair[place], callers) = round(&provider, callers, work, duration).await?;
                }
            }
            ratios.push(pair[0] / pair[1]);
            rates.iter_mut().zip(pair).for_each(|(rates, rate)| rates.push(rate));
        }
        let [rate, bare] = rates.map(median);
        println!("{name:8}{rate:8.0} a second, bare {bare:8.0}, {:.2} (median of the pairs)", median(ratios));
    }
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Runs one kind of work on all callers, and returns the calls a second.
async fn round(
    provider: &Arc<PostgresProvider>,
    callers: Vec<Caller>,
    work: Work,
    duration: Duration,
) -> Outcome<(f64, Vec<Caller>)> {
    let begun = Instant::now();
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|caller| tokio::spawn(calls(Arc::clone(provider), caller, work, begun + duration)))
        .collect();
    let (mut total, mut back) = (0, Vec::new());
    for task in tasks {
        let (calls, caller) = task.await??;
        total += calls;
        back.push(caller);
    }
    Ok((total as f64 / begun.elapsed().as_secs_f64(), back))
}

async fn calls(
    provider: Arc<PostgresProvider>,
    mut caller: Caller,
    work: Work,
    until: Instant,
) -> Outcome<(u64, Caller)> {
    let select = caller.bare.prepare("SELECT record FROM t WHERE id = $1").await?;
    let update = "UPDATE t SET record = $1, version = $2 WHERE id = $3 AND version = $4";
    let update = caller.bare.prepare(update).await?;
    let mut calls = 0;
    while Instant::now() < until {
        match work {
            Work::Load => assert!(provider.load(&caller.key).await?.is_some()),
            Work::BareLoad => {
                let row = caller.bare.query_one(&select, &[&caller.key.as_str()]).await?;
                assert!(!row.get::<_, &[u8]>(0).is_empty());
            }
            Work::Change => {
                let next = after(&caller.stored);
                let updated = provider.update(&caller.key, &next, &caller.stored).await?;
                assert_eq!(updated, Updated::Done);
                caller.stored = next;
            }
            Work::BareChange => {
                let next = after(&caller.stored);
                let [former, version] = [&caller.stored, &next].map(|record| record.version().cast_signed());
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&next.as_bytes(), &version, &caller.key.as_str(), &former];
                assert_eq!(caller.bare.execute(&update, &values).await?, 1);
                caller.stored = next;
            }
        }
        calls += 1;
    }
    Ok((calls, caller))
}
