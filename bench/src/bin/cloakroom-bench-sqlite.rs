//! Measures the provider on SQLite beside the bare driver: `cargo run --release -p cloakroom-bench --features sqlite --bin
//! cloakroom-bench-sqlite`.
//!
//! For each number of sessions it prints the loads, changes and first visits a second, and the same statements on a connection of
//! rusqlite with the same settings: loads on as many threads as the runtime has, changes one after the other on one thread.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use cloakroom::testkit::record;
use cloakroom::{
    Clock, Provider, SqliteProvider,
    providers::{Created, Durability, Record, StoreKey, Updated},
};
use rusqlite::Connection;

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The numbers of sessions
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    sessions: Vec<u64>,
    /// The bytes of data in each session
    #[arg(long, default_value_t = 300)]
    bytes: usize,
    /// The callers at the same time
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// The threads of the runtime, and of the bare driver's loads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Sync the disk at each commit
    #[arg(long)]
    durable: bool,
    /// Keep the rows in the index of the keys, to compare the two layouts
    #[arg(long)]
    without_rowid: bool,
    /// The folder of the database; by default a temporary one
    #[arg(long)]
    folder: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?;
    println!("{arguments:?}");
    println!("{:<12}{:>10}{:>12}{:>12}{:>8}", "", "sessions", "provider", "driver", "ratio");
    for sessions in &arguments.sessions {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloakroom-bench-{}-{number}", std::process::id());
        let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir).join(name);
        let measured = measure(&runtime, arguments, &folder.join("sessions.db"), *sessions);
        std::fs::remove_dir_all(&folder)?;
        measured?;
    }
    Ok(())
}

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A rig of one database: the provider, and the settings of the bare driver.
struct Rig {
    path: PathBuf,
    provider: SqliteProvider,
    sessions: u64,
    stored: Record,
    arguments: Arguments,
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    arguments: &Arguments,
    path: &Path,
    sessions: u64,
) -> Result<(), Failure> {
    let durability = if arguments.durable { Durability::Durable } else { Durability::Atomic };
    let builder = || SqliteProvider::builder(path).durability(durability).deadline(Duration::from_secs(60));
    drop(runtime.block_on(builder().connect())?);
    if arguments.without_rowid {
        let statements = SqliteProvider::schema("cloakroom_sessions")?;
        let table =
            statements.first().map(|sql| sql.replace("STRICT", "STRICT, WITHOUT ROWID")).unwrap_or_default();
        let rest = statements.get(1..).unwrap_or_default().join(";");
        Connection::open(path)?.execute_batch(&format!("DROP TABLE cloakroom_sessions; {table}; {rest}"))?;
    }
    let stored = record(&Clock::system()).principal("user-4711").filled(arguments.bytes).build();
    fill(path, sessions, &stored)?;
    let provider = runtime.block_on(builder().connect())?;
    let rig =
        Arc::new(Rig { path: path.to_owned(), provider, sessions, stored, arguments: arguments.clone() });
    let print = |what: &str, provider: f64, driver: f64| {
        println!("{what:<12}{sessions:>10}{provider:>12.0}{driver:>12.0}{:>8.2}", provider / driver);
    };
    let (load, driver) = (runtime.block_on(rig.calls(Rig::load))?, rig.bare_loads()?);
    print("load", load, driver);
    let (change, driver) = (runtime.block_on(rig.calls(Rig::change))?, rig.bare_changes(false)?);
    print("change", change, driver);
    let (create, driver) = (runtime.block_on(rig.calls(Rig::create))?, rig.bare_changes(true)?);
    print("first visit", create, driver);
    Ok(())
}

/// The key of the session `n`: 43 characters in random order, as hashed ids are.
fn key(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    format!("{:016x}{:016x}{:011x}", next(), next(), next() >> 20)
}

/// Stores `sessions` sessions with the statements of the provider's table.
fn fill(path: &Path, sessions: u64, stored: &Record) -> Result<(), Failure> {
    let mut connection = Connection::open(path)?;
    let transaction = connection.transaction()?;
    {
        let mut rows = transaction.prepare(
            "INSERT INTO cloakroom_sessions (id, version, expires, absolute, idle, tombstone, record) \
             VALUES (?1, 1, unixepoch() * 1000 + 3600000, 9223372036854775807, 3600000, 0, ?2)",
        )?;
        let mut entries =
            transaction.prepare("INSERT INTO cloakroom_sessions_index VALUES ('principal', ?1, ?2)")?;
        for n in 0..sessions {
            let key = key(n);
            rows.execute((&key, stored.as_bytes()))?;
            entries.execute((format!("user-{}", n % 100_000), &key))?;
        }
    }
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    Ok(())
}

impl Rig {
    /// Returns the calls a second of `callers` tasks.
    async fn calls<F>(
        self: &Arc<Self>,
        call: impl Fn(Arc<Rig>, u64) -> F + Clone + Send + 'static,
    ) -> Result<f64, Failure>
    where
        F: Future<Output = Result<u64, Failure>> + Send + 'static,
    {
        let (time, done) = (Duration::from_secs(self.arguments.seconds), Arc::new(AtomicU64::new(0)));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..self.arguments.callers {
            let (rig, call, done) = (Arc::clone(self), call.clone(), Arc::clone(&done));
            tasks.spawn(async move {
                let mut turn = task as u64;
                while start.elapsed() < time {
                    done.fetch_add(call(Arc::clone(&rig), turn).await?, Ordering::Relaxed);
                    turn += rig.arguments.callers as u64;
                }
                Ok::<_, Failure>(())
            });
        }
        for task in tasks.join_all().await {
            task?;
        }
        Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
    }

    async fn load(rig: Arc<Rig>, turn: u64) -> Result<u64, Failure> {
        let key: StoreKey = key(scattered(turn, rig.sessions)).parse()?;
        let found = rig.provider.load(&key).await?;
        Ok(u64::from(found.is_some()))
    }

    /// Changes a session that this task alone changes: its second version and its first in turn.
    async fn change(rig: Arc<Rig>, turn: u64) -> Result<u64, Failure> {
        let key: StoreKey = key(scattered(turn, rig.sessions)).parse()?;
        // The base needs nothing but its version.
        let base = rig.stored.clone();
        let updated = rig.provider.update(&key, &base, &base).await?;
        Ok(u64::from(updated == Updated::Done))
    }

    async fn create(rig: Arc<Rig>, turn: u64) -> Result<u64, Failure> {
        let key: StoreKey = key(rig.sessions + turn).parse()?;
        let created = rig.provider.create(&key, &rig.stored).await?;
        Ok(u64::from(created == Created::Done))
    }

    fn open(&self) -> Result<Connection, Failure> {
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "synchronous", if self.arguments.durable { 2 } else { 1 })?;
        connection.pragma_update(None, "cache_size", -16 << 10)?;
        Ok(connection)
    }

    fn bare_loads(self: &Arc<Self>) -> Result<f64, Failure> {
        let threads: Vec<_> = (0..self.arguments.threads as u64)
            .map(|place| {
                let rig = Arc::clone(self);
                std::thread::spawn(move || rig.bare_load_thread(place))
            })
            .collect();
        let mut total = 0.0;
        for thread in threads {
            total += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(total)
    }

    fn bare_load_thread(&self, place: u64) -> Result<f64, Failure> {
        let connection = self.open()?;
        let sql = "SELECT record, touched, expires FROM cloakroom_sessions WHERE id = ?1 AND expires > ?2";
        let mut statement = connection.prepare(sql)?;
        let (start, mut turn, mut done) = (Instant::now(), place, 0);
        while start.elapsed().as_secs() < self.arguments.seconds {
            let mut rows = statement.query((key(scattered(turn, self.sessions)), 0_i64))?;
            let row = rows.next()?.ok_or("the session is there")?;
            let (_, _, _): (Vec<u8>, Option<i64>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            turn += self.arguments.threads as u64;
            done += 1;
        }
        Ok(f64::from(done) / start.elapsed().as_secs_f64())
    }

    /// Returns the changes a second of one connection, or the first visits.
    fn bare_changes(&self, create: bool) -> Result<f64, Failure> {
        let connection = self.open()?;
        let sql = if create {
            "INSERT INTO cloakroom_sessions (id, version, expires, absolute, idle, tombstone, record) \
             VALUES (?1, 1, unixepoch() * 1000 + 3600000, 9223372036854775807, 3600000, 0, ?2)"
        } else {
            "UPDATE cloakroom_sessions SET version = 1, expires = unixepoch() * 1000 + 3600000, touched = NULL, record = ?2 \
             WHERE id = ?1 AND version = 1"
        };
        let mut statement = connection.prepare(sql)?;
        let (start, mut turn, mut done) = (Instant::now(), 0, 0);
        while start.elapsed().as_secs() < self.arguments.seconds {
            let name =
                if create { format!("bare-{}", key(turn)) } else { key(scattered(turn, self.sessions)) };
            done += u32::try_from(statement.execute((name, self.stored.as_bytes()))?)?;
            turn += 1;
        }
        Ok(f64::from(done) / start.elapsed().as_secs_f64())
    }
}

/// Returns a session far from the one of the turn before.
fn scattered(turn: u64, sessions: u64) -> u64 {
    turn.wrapping_mul(7_919) % sessions
}
