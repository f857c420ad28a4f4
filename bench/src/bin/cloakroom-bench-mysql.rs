//! Measures a table of a million sessions on a MariaDB of its own: `cargo run --release -p cloakroom-bench --features
//! mysql --bin cloakroom-bench-mysql`.
//!
//! It prints how long a count takes, and how long requests wait while half a million expired sessions are collected.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use cloakroom::testkit::record;
use cloakroom::{
    Clock, MySqlProvider, Provider, Result,
    providers::{Created, StoreKey, Touched},
};
use servers::{MariaDb, MariaDbOptions};

#[derive(Parser)]
struct Arguments {
    /// Live sessions
    #[arg(long, default_value_t = 1_000_000)]
    live: u64,
    /// Expired sessions
    #[arg(long, default_value_t = 500_000)]
    expired: u64,
    /// Statements a second beside the collection
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The server's innodb_buffer_pool_size
    #[arg(long, default_value = "512M")]
    buffer_pool: String,
}

/// The operations of the visitors, in turn.
const STEPS: [&str; 5] = ["load", "update", "touch", "create", "delete"];

/// The time of each call, in microseconds, by operation.
type Waits = [Vec<u64>; STEPS.len()];

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

async fn run(arguments: &Arguments) -> Result<()> {
    let settings = vec![format!("--innodb-buffer-pool-size={}", arguments.buffer_pool)];
    let server = MariaDb::with(MariaDbOptions { settings, ..MariaDbOptions::default() });
    let provider = MySqlProvider::connect(&server.dsn("table=t&readTimeout=60s")).await?;
    println!(
        "{}, InnoDB flushed at each commit, buffer pool {}",
        server.sql("SELECT VERSION()").trim(),
        arguments.buffer_pool
    );
    fill(&server, "live", arguments.live, "+ 3600000 * (1 + RAND() * 23)");
    for _ in 0..5 {
        let start = Instant::now();
        let count = provider.count().await?;
        println!("count: {count} in {:.0?}", start.elapsed());
    }
    fill(&server, "expired", arguments.expired, "- 60000 * (1 + RAND() * 60)");
    let quiet =
        visits(&provider, arguments, Arc::new(AtomicBool::new(false)), Some(Duration::from_secs(20))).await?;
    print("without a collection", &quiet);
    let over = Arc::new(AtomicBool::new(false));
    let collecting = {
        let (provider, over) = (provider.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let start = Instant::now();
            let collected = collect(&provider).await;
            over.store(true, Ordering::SeqCst);
            collected.map(|(removed, steps)| (removed, steps, start.elapsed()))
        })
    };
    let busy = visits(&provider, arguments, over, None).await?;
    let (removed, steps, took) = collecting.await.expect("the collection does not panic")?;
    println!("collected: {removed} in {took:.1?}, {steps} steps");
    print("beside the collection", &busy);
    Ok(())
}

/// Collects expired sessions in steps, as the manager does.
async fn collect(provider: &MySqlProvider) -> Result<(usize, usize)> {
    let (mut removed, mut steps) = (0, 0);
    loop {
        let step = provider.delete_expired(1_000).await?;
        removed += step.removed;
        steps += 1;
        if !step.more {
            return Ok((removed, steps));
        }
    }
}

/// Inserts `count` sessions with keys and records of the usual size.
fn fill(server: &MariaDb, name: &str, count: u64, expires: &str) {
    let start = Instant::now();
    let stored =
        record(&Clock::system()).principal("user-4711").value("cart", ["tea", "milk"]).filled(300).build();
    let hex: String = stored.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let (step, version) = (50_000, stored.version());
    for from in (1..=count).step_by(step) {
        let to = (from + step as u64 - 1).min(count);
        server.sql(&format!(
            "INSERT INTO t (id, version, expires, absolute, idle, tombstone, record) \
             SELECT SHA2(CONCAT('{name}-', seq), 256), {version}, UNIX_TIMESTAMP() * 1000 {expires}, ~0, 1800000, 0, \
             X'{hex}' FROM seq_{from}_to_{to}; \
             INSERT INTO t_index (kind, value, id) \
             SELECT 'principal', CONCAT('user-', seq % 100000), SHA2(CONCAT('{name}-', seq), 256) FROM seq_{from}_to_{to}"
        ));
        print!("\r{name}: {to} rows");
        let _ = std::io::stdout().flush();
    }
    println!(" in {:.0?}", start.elapsed());
}

/// Starts operations at even intervals, each on a session of its own, whether or not the one before has finished. A
/// slow one therefore does not hide the wait of the next.
async fn visits(
    provider: &MySqlProvider,
    arguments: &Arguments,
    over: Arc<AtomicBool>,
    duration: Option<Duration>,
) -> Result<Waits> {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let mut steps = tokio::task::JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / arguments.rate.max(1)));
    let start = Instant::now();
    while !over.load(Ordering::SeqCst) && duration.is_none_or(|duration| start.elapsed() < duration) {
        tick.tick().await;
        let (provider, round) = (provider.clone(), ROUND.fetch_add(1, Ordering::Relaxed));
        steps.spawn(async move { visit(&provider, round).await });
    }
    let mut waits = Waits::default();
    for done in steps.join_all().await {
        let (step, took) = done?;
        waits[step].push(took);
    }
    Ok(waits)
}

/// Runs one operation. Creates the session first, except for `create`.
async fn visit(provider: &MySqlProvider, round: u64) -> Result<(usize, u64)> {
    let clock = Clock::system();
    let step = (round % STEPS.len() as u64) as usize;
    let key: StoreKey = format!("visit-{round}").parse()?;
    let stored = record(&clock).principal("visitor").filled(300).build();
    if STEPS[step] != "create" {
        let _made: Created = provider.create(&key, &stored).await?;
    }
    let start = Instant::now();
    match STEPS[step] {
        "load" => drop(provider.load(&key).await?),
        "update" => {
            let next = record(&clock).version(stored.version() + 1).principal("visitor").filled(310).build();
            let _updated = provider.update(&key, &next, &stored).await?;
        }
        "touch" => {
            let _touched: Touched = provider.touch(&key, clock.now()).await?;
        }
        "create" => {
            let _made: Created = provider.create(&key, &stored).await?;
        }
        _ => drop(provider.delete(&key).await?),
    }
    Ok((step, start.elapsed().as_micros() as u64))
}

fn print(what: &str, waits: &Waits) {
    println!("{what}, waits in ms:");
    println!("  {:<8}{:>9}{:>9}{:>9}{:>9}{:>11}", "", "calls", "median", "99 %", "longest", "over 100");
    for (step, waits) in STEPS.iter().zip(waits) {
        let mut waits = waits.clone();
        waits.sort_unstable();
        let at = |share: f64| {
            let place = (waits.len() as f64 * share) as usize;
            waits.get(place.min(waits.len().saturating_sub(1))).map_or(0.0, |micros| *micros as f64 / 1000.0)
        };
        let over = waits.iter().filter(|micros| **micros > 100_000).count();
        println!("  {step:<8}{:>9}{:>9.2}{:>9.2}{:>9.2}{over:>11}", waits.len(), at(0.5), at(0.99), at(1.0));
    }
}
