//! Compares the PostgreSQL provider with bare prepared statements, on a server of its own: `cargo run --release -p cloakroom-bench
//! --features postgres --bin cloakroom-bench-postgres`.
//!
//! Both have the same number of connections and callers. Short rounds alternate, and each is compared with the next one, so that both meet
//! the same noise of the machine.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use cloakroom::providers::{Record, StoreKey, Updated};
use cloakroom::testkit::record;
use cloakroom::{Clock, PostgresProvider, Provider};
use servers::Postgres;
use tokio_postgres::{Client, Config, NoTls};

#[derive(Parser)]
struct Arguments {
    /// The numbers of sessions
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    sessions: Vec<u64>,
    /// Callers, each with a connection and sessions of its own
    #[arg(long, default_value_t = 4)]
    callers: u64,
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

/// A caller with a bare connection and the sessions whose number it has as the rest of a division by the number of callers.
struct Caller {
    bare: Client,
    number: u64,
    callers: u64,
    /// The sessions of this caller.
    sessions: u64,
    /// The changes so far. Each goes to another session, so that they come from all pages of the table.
    changes: u64,
}

impl Caller {
    fn key(&self, turn: u64) -> Outcome<StoreKey> {
        // The factor is prime, so every session has its turn.
        let place = turn.wrapping_mul(7_919) % self.sessions;
        Ok(name(place * self.callers + self.number).parse()?)
    }

    /// Returns the session to change next, and the version that it has.
    fn next_change(&mut self) -> Outcome<(StoreKey, u64)> {
        let turn = self.changes;
        self.changes += 1;
        Ok((self.key(turn)?, 1 + turn / self.sessions))
    }
}

/// Returns the key of a session: 43 characters in random order, as hashed ids are.
fn name(session: u64) -> String {
    let mixed = session.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:027}", session)
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Work {
    Load,
    BareLoad,
    Change,
    BareChange,
}

/// Returns the record of a version.
fn at(version: u64) -> Record {
    record(&Clock::system()).version(version).principal("user-4711").filled(300).build()
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    for sessions in &arguments.sessions {
        measure(arguments, *sessions).await?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, sessions: u64) -> Outcome<()> {
    let server = Postgres::start();
    let provider =
        PostgresProvider::connect(&server.url(&format!("table=t&pool={}", arguments.callers))).await?;
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.address().port()).dbname("app");
    config.user(Postgres::USER).password(Postgres::PASSWORD);
    let mut callers = Vec::new();
    for number in 0..arguments.callers {
        let (bare, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let sessions = sessions / arguments.callers;
        callers.push(Caller { bare, number, callers: arguments.callers, sessions, changes: 0 });
    }
    fill(&callers[0].bare, sessions).await?;
    let provider = Arc::new(provider);
    let version = server.sql("SHOW server_version");
    println!("{sessions} sessions, {} callers, PostgreSQL {}", arguments.callers, version.trim());
    for (kind, ours, bare) in
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
        println!("{kind:8}{rate:8.0} a second, bare {bare:8.0}, {:.2} (median of the pairs)", median(ratios));
    }
    Ok(())
}

/// Stores the sessions with statements of many rows.
async fn fill(client: &Client, sessions: u64) -> Outcome<()> {
    let statement = "INSERT INTO t (id, version, expires, absolute, idle, tombstone, due, record) \
         SELECT unnest($1::text[]), 1, $2, $2, 1800000, false, $2, $3";
    let statement = client.prepare(statement).await?;
    let (stored, never) = (at(1), i64::MAX);
    for first in (0..sessions).step_by(10_000) {
        let names: Vec<_> = (first..sessions.min(first + 10_000)).map(name).collect();
        client.execute(&statement, &[&names, &never, &stored.as_bytes()]).await?;
    }
    client.batch_execute("VACUUM ANALYZE t; CHECKPOINT").await?;
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
            Work::Load => assert!(provider.load(&caller.key(calls)?).await?.is_some()),
            Work::BareLoad => {
                let row = caller.bare.query_one(&select, &[&caller.key(calls)?.as_str()]).await?;
                assert!(!row.get::<_, &[u8]>(0).is_empty());
            }
            Work::Change => {
                let (key, version) = caller.next_change()?;
                let updated = provider.update(&key, &at(version + 1), &at(version)).await?;
                assert_eq!(updated, Updated::Done);
            }
            Work::BareChange => {
                let (key, version) = caller.next_change()?;
                let (former, next) = (at(version), at(version + 1));
                let [was, is] = [&former, &next].map(|record| record.version().cast_signed());
                let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&next.as_bytes(), &is, &key.as_str(), &was];
                assert_eq!(caller.bare.execute(&update, &values).await?, 1);
            }
        }
        calls += 1;
    }
    Ok((calls, caller))
}
