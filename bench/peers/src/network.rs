//! Stores on a server: each operation beside the bare command of the same driver, with many in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloakroom::{
    Cached, Clock, MySqlProvider, PostgresProvider, Provider, RedisProvider,
    providers::{Record, StoreKey},
    testkit,
};
use redis::AsyncCommands;
use servers::{MariaDb, Postgres, Redis};
use sqlx::Row;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::measure::{Dice, Samples, number, process_cpu_time};
use crate::report::{Report, Table};

/// The number of operations in flight at the same time.
const IN_FLIGHT: usize = 64;

/// An operation on the session of that number.
type Operation = Arc<dyn Fn(usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

fn operation<F: Future<Output = ()> + Send + 'static>(
    run: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Operation {
    Arc::new(move |session| Box::pin(run(session)))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

pub fn redis(report: &mut Report, quick: bool) {
    let server = Redis::start();
    let runtime = runtime();
    let sizes: &[usize] = if quick { &[1_000] } else { &[1_000, 1_000_000] };
    let (rounds, turn) =
        if quick { (3, Duration::from_millis(200)) } else { (21, Duration::from_millis(300)) };
    let heads =
        ["", "sessions", "operations a second", "of the bare GET", "client's microseconds of processor time"];
    let mut table = Table::new(&format!("Redis, {IN_FLIGHT} in flight, no HTTP"), &heads);
    let mut filled = 0;
    for size in sizes {
        let keys = Keys::new(*size);
        let (names, works) = runtime.block_on(redis_works(&server, &keys, filled));
        filled = *size;
        rows(&mut table, *size, &names, &in_turns(&runtime, &works, *size, rounds, turn));
    }
    for pipeline in ["1", "16"] {
        let said = redis_benchmark(&server, pipeline);
        table.note(format!("`redis-benchmark -t get -c 64 -P {pipeline}`: {said} a second."));
    }
    report.table("redis", table);
    runtime.block_on(logout(report, &server, quick));
}

/// Returns all operations by name, the bare driver's first. Fills the server up to the number of `keys`.
async fn redis_works(server: &Redis, keys: &Keys, filled: usize) -> (Vec<&'static str>, Vec<Operation>) {
    let provider = RedisProvider::connect(server.url()).await.expect("the server answers");
    fill(&provider, keys, filled).await;
    let near = Cached::builder(RedisProvider::connect(server.url()).await.expect("the server answers"));
    let near = near.max_bytes(1 << 30).watching().await.expect("the server sends invalidations");
    // The provider opens two connections for so many operations in flight.
    let client = redis::Client::open(server.url()).expect("the address is one");
    let mut bare = Vec::new();
    for _ in 0..2 {
        bare.push(client.get_multiplexed_async_connection().await.expect("the server answers"));
    }
    let bare = Arc::new(bare);
    let names = keys.0.iter().map(|key| format!("cloakroom:{{0}}:session:{}", key.as_str()));
    let names: Arc<[String]> = names.collect();
    let (reader, writer) = (keys.with(&provider), keys.with(&provider));
    let near = keys.with(&near);
    let (names, mut works): (Vec<_>, Vec<_>) = [
        (
            "the driver's GET, two connections",
            operation(move |session| {
                let (mut connection, names) = (bare[session % 2].clone(), Arc::clone(&names));
                async move {
                    let found: Option<Vec<u8>> =
                        connection.get(&names[session]).await.expect("the server answers");
                    assert!(found.is_some());
                }
            }),
        ),
        ("cloakroom, load", operation(move |session| load(reader.clone(), session))),
        (
            "cloakroom behind a near cache, load of hot sessions",
            operation(move |session| load(near.clone(), session % 1000)),
        ),
        ("cloakroom, load and update", operation(move |session| change(writer.clone(), session))),
    ]
    .into_iter()
    .unzip();
    let mut names = names;
    let peer = peer(server, filled, keys.0.len()).await;
    let reader = peer.clone();
    names.push("tower-sessions, load (fred, six connections)");
    works.push(operation(move |session| {
        let peer = reader.clone();
        async move {
            use tower_sessions_14::SessionStore as _;
            assert!(peer.load(&peer_id(session)).await.expect("the server answers").is_some());
        }
    }));
    names.push("tower-sessions, load and save");
    works.push(operation(move |session| {
        let peer = peer.clone();
        async move {
            use tower_sessions_14::SessionStore as _;
            let record = peer.load(&peer_id(session)).await.expect("the server answers").expect("a record");
            peer.save(&record).await.expect("the server answers");
        }
    }));
    (names, works)
}

type PeerStore = tower_sessions_redis_store::RedisStore<tower_sessions_redis_store::fred::prelude::Pool>;

async fn peer(server: &Redis, filled: usize, size: usize) -> PeerStore {
    let places = crate::subject::Places { redis: server.url(), ..Default::default() };
    let peer = crate::axum_routers::redis(&places).await;
    let store = peer.clone();
    in_parallel(filled..size, move |session| {
        let store = store.clone();
        async move {
            use tower_sessions_14::SessionStore as _;
            let data = [("v".to_owned(), "0123456789abcdef".into())].into_iter().collect();
            let expiry_date = time::OffsetDateTime::now_utc() + time::Duration::hours(2);
            let mut record = tower_sessions_14::session::Record { id: peer_id(session), data, expiry_date };
            store.create(&mut record).await.expect("the server answers");
        }
    })
    .await;
    peer
}

fn peer_id(session: usize) -> tower_sessions_14::session::Id {
    tower_sessions_14::session::Id(session as i128 + 1)
}

pub fn mysql(report: &mut Report, quick: bool) {
    let server = MariaDb::start();
    sql(report, ("mysql", "MariaDB", 300_000), quick, async |keys, filled| {
        mysql_works(&server, keys, filled).await
    });
}

pub fn postgres(report: &mut Report, quick: bool) {
    let server = Postgres::start();
    sql(report, ("postgres", "PostgreSQL", 1_000_000), quick, async |keys, filled| {
        postgres_works(&server, keys, filled).await
    });
}

/// Measures a SQL server: the name of its table in the report, its title, and the number of sessions that the full run ends with.
/// `works` fills the server up to the number of keys, and returns all operations by name, the bare driver's first.
fn sql(
    report: &mut Report,
    (name, title, largest): (&str, &str, usize),
    quick: bool,
    works: impl AsyncFn(&Keys, usize) -> (Vec<&'static str>, Vec<Operation>),
) {
    let runtime = runtime();
    let sizes: &[usize] = if quick { &[1_000] } else { &[1_000, largest] };
    let (rounds, turn) =
        if quick { (3, Duration::from_millis(300)) } else { (21, Duration::from_millis(400)) };
    let heads = [
        "",
        "sessions",
        "operations a second",
        "of the bare SELECT",
        "client's microseconds of processor time",
    ];
    let mut table =
        Table::new(&format!("{title}, {CONNECTIONS} connections, as many in flight, no HTTP"), &heads);
    let mut filled = 0;
    for size in sizes {
        let keys = Keys::new(*size);
        let (names, works) = runtime.block_on(works(&keys, filled));
        filled = *size;
        rows(&mut table, *size, &names, &in_turns(&runtime, &works, *size, rounds, turn));
    }
    report.table(name, table);
}

const CONNECTIONS: usize = 10;

async fn mysql_works(server: &MariaDb, keys: &Keys, filled: usize) -> (Vec<&'static str>, Vec<Operation>) {
    let builder = MySqlProvider::builder(server.dsn(""));
    let provider = builder.pool(CONNECTIONS).create_table(true).connect().await;
    let provider = provider.expect("the server answers");
    fill(&provider, keys, filled).await;
    let mut bare = Vec::new();
    for _ in 0..CONNECTIONS {
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(server.address().port())
            .username(MariaDb::USER)
            .password(MariaDb::PASSWORD)
            .database(DATABASE)
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
        let connection = sqlx::ConnectOptions::connect(&options).await.expect("the server answers");
        bare.push(tokio::sync::Mutex::new(connection));
    }
    let bare = Arc::new(bare);
    let next = Arc::new(AtomicU64::new(0));
    let (reader, writer) = (keys.with(&provider), keys.with(&provider));
    let keys = keys.clone();
    let (names, works): (Vec<_>, Vec<_>) = [
        (
            "the driver's prepared SELECT",
            operation(move |session| {
                let (bare, keys) = (Arc::clone(&bare), keys.clone());
                let place = next.fetch_add(1, Ordering::Relaxed) as usize % CONNECTIONS;
                async move {
                    let mut connection = bare[place].lock().await;
                    let query =
                        sqlx::query("SELECT record, touched, expires FROM cloakroom_sessions WHERE id = ?");
                    let row = query.bind(keys.0[session].as_bytes()).fetch_one(&mut *connection).await;
                    assert!(!row.expect("a row").get::<Vec<u8>, _>(0).is_empty());
                }
            }),
        ),
        ("cloakroom, load", operation(move |session| load(reader.clone(), session))),
        ("cloakroom, load and update", operation(move |session| change(writer.clone(), session))),
    ]
    .into_iter()
    .unzip();
    (names, works)
}

async fn postgres_works(
    server: &Postgres,
    keys: &Keys,
    filled: usize,
) -> (Vec<&'static str>, Vec<Operation>) {
    let provider = PostgresProvider::builder(server.url("")).pool(CONNECTIONS).connect().await;
    let provider = provider.expect("the server answers");
    fill(&provider, keys, filled).await;
    let mut bare = Vec::new();
    for _ in 0..CONNECTIONS {
        let (client, connection) = tokio_postgres::connect(&server.url(""), tokio_postgres::NoTls)
            .await
            .expect("the server answers");
        tokio::spawn(connection);
        let select = client
            .prepare("SELECT record, touched FROM cloakroom_sessions WHERE id = $1")
            .await
            .expect("a table");
        let update = client
            .prepare("UPDATE cloakroom_sessions SET version = version + 1, record = $2 WHERE id = $1 AND version = $3")
            .await
            .expect("a table");
        bare.push(tokio::sync::Mutex::new((client, select, update)));
    }
    let bare = Arc::new(bare);
    let next = Arc::new(AtomicU64::new(0));
    let (reader, writer) = (keys.with(&provider), keys.with(&provider));
    let changed = Arc::new(record(1).as_bytes().to_vec());
    let (selecting, updating) =
        ((Arc::clone(&bare), keys.clone(), Arc::clone(&next)), (bare, keys.clone(), next));
    let (names, works): (Vec<_>, Vec<_>) = [
        (
            "the driver's prepared SELECT",
            operation(move |session| {
                let (bare, keys, next) = selecting.clone();
                async move {
                    let place = next.fetch_add(1, Ordering::Relaxed) as usize % CONNECTIONS;
                    let connection = bare[place].lock().await;
                    let row = connection.0.query_one(&connection.1, &[&keys.0[session].as_str()]).await;
                    assert!(!row.expect("a row").get::<_, &[u8]>(0).is_empty());
                }
            }),
        ),
        ("cloakroom, load", operation(move |session| load(reader.clone(), session))),
        (
            "the driver's SELECT and UPDATE .. WHERE id AND version",
            operation(move |session| {
                let ((bare, keys, next), changed) = (updating.clone(), Arc::clone(&changed));
                async move {
                    let place = next.fetch_add(1, Ordering::Relaxed) as usize % CONNECTIONS;
                    let connection = bare[place].lock().await;
                    let id = keys.0[session].as_str();
                    let row = connection.0.query_one(&connection.1, &[&id]).await.expect("a row");
                    let version = cloakroom::providers::Record::from_bytes(row.get::<_, &[u8]>(0))
                        .expect("a record")
                        .version();
                    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                        [&id, &*changed, &version.cast_signed()];
                    connection.0.execute(&connection.2, &values).await.expect("the server answers");
                }
            }),
        ),
        ("cloakroom, load and update", operation(move |session| change(writer.clone(), session))),
    ]
    .into_iter()
    .unzip();
    (names, works)
}

/// The database of a [`MariaDb`].
const DATABASE: &str = "app";

fn rows(table: &mut Table, size: usize, names: &[&str], measured: &[(Samples, Samples)]) {
    let bare = measured[0].0.median();
    for (name, (rate, cpu)) in names.iter().zip(measured) {
        table.row(vec![
            (*name).to_owned(),
            number(size as f64, 0),
            rate.shown(0),
            format!("{:.2}", rate.median() / bare),
            cpu.shown(1),
        ]);
    }
}

/// Returns the operations a second, and this process's microseconds for each.
fn in_turns(
    runtime: &Runtime,
    works: &[Operation],
    size: usize,
    rounds: usize,
    turn: Duration,
) -> Vec<(Samples, Samples)> {
    let mut samples = vec![(Vec::new(), Vec::new()); works.len()];
    for round in 0..=rounds {
        for (work, (rates, cpus)) in works.iter().zip(&mut samples) {
            let (start, cpu) = (Instant::now(), process_cpu_time());
            let done = runtime.block_on(crowd(work, size, turn, round as u64)) as f64;
            // The first round opens connections and fills caches, so it does not count.
            if round > 0 {
                rates.push(done / start.elapsed().as_secs_f64());
                cpus.push((process_cpu_time() - cpu).as_secs_f64() * 1e6 / done);
            }
        }
    }
    samples.into_iter().map(|(rates, cpus)| (Samples::new(rates), Samples::new(cpus))).collect()
}

/// Returns how many operations [`IN_FLIGHT`] tasks complete in `turn`.
async fn crowd(work: &Operation, size: usize, turn: Duration, seed: u64) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..IN_FLIGHT {
        let (work, stop) = (Arc::clone(work), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut dice = Dice::new(seed * IN_FLIGHT as u64 + task as u64 + 1);
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                work(dice.below(size)).await;
                done += 1;
                // An operation that never waits must yield to the other tasks and the timer.
                tokio::task::consume_budget().await;
            }
            done
        });
    }
    tokio::time::sleep(turn).await;
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await.into_iter().sum()
}

/// The keys of all sessions, made before the measurement.
#[derive(Clone)]
struct Keys(Arc<[StoreKey]>);

/// A provider and the keys of its sessions.
struct Held<P>(Arc<(P, Keys)>);

impl<P> Clone for Held<P> {
    fn clone(&self) -> Self {
        Held(Arc::clone(&self.0))
    }
}

impl Keys {
    fn new(sessions: usize) -> Keys {
        Keys((0..sessions).map(key).collect())
    }

    fn with<P: Clone>(&self, provider: &P) -> Held<P> {
        Held(Arc::new((provider.clone(), self.clone())))
    }
}

async fn fill(provider: &(impl Provider + Clone), keys: &Keys, from: usize) {
    let held = keys.with(provider);
    in_parallel(from..keys.0.len(), move |session| {
        let held = held.clone();
        async move {
            let (provider, keys) = &*held.0;
            let created = provider.create(&keys.0[session], &record(1)).await.expect("the server answers");
            assert_eq!(created, cloakroom::providers::Created::Done);
        }
    })
    .await;
}

async fn in_parallel<F: Future<Output = ()> + Send + 'static>(
    sessions: std::ops::Range<usize>,
    run: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let next = Arc::new(AtomicU64::new(sessions.start as u64));
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (next, run, end) = (Arc::clone(&next), run.clone(), sessions.end);
        tasks.spawn(async move {
            loop {
                let session = next.fetch_add(1, Ordering::Relaxed) as usize;
                if session >= end {
                    return;
                }
                run(session).await;
            }
        });
    }
    tasks.join_all().await;
}

fn record(version: u64) -> Record {
    let hours = Duration::from_secs(2 * 60 * 60);
    testkit::record(&Clock::system()).version(version).idle(hours).value("v", "0123456789abcdef").build()
}

/// Returns a key in the form of a SHA-256: 64 hex digits, evenly distributed.
fn key(session: usize) -> StoreKey {
    let mut dice = Dice::new(session as u64 + 1);
    let words: Vec<String> = (0..8).map(|_| format!("{:08x}", dice.below(1 << 32))).collect();
    words.concat().parse().expect("a key of hex digits")
}

async fn load(held: Held<impl Provider>, session: usize) {
    let (provider, keys) = &*held.0;
    let found = provider.load(&keys.0[session]).await.expect("the server answers");
    assert!(found.is_some());
}

async fn change(held: Held<impl Provider>, session: usize) {
    let (provider, keys) = &*held.0;
    let key = &keys.0[session];
    let found = provider.load(key).await.expect("the server answers").expect("a record");
    // Another task may have changed the record first. The update then answers that, which costs the same.
    let _ = provider.update(key, &record(found.version() + 1), &found).await.expect("the server answers");
}

fn redis_benchmark(server: &Redis, pipeline: &str) -> String {
    let address = server.address();
    let mut command = std::process::Command::new("redis-benchmark");
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-t", "get", "-c", "64"]);
    command.args(["-n", "200000", "-P", pipeline, "-q"]);
    let output =
        command.output().map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let last = output
        .rsplit(['\r', '\n'])
        .find_map(|line| line.trim().strip_prefix("GET: ")?.split(' ').next().map(str::to_owned));
    last.map_or("no answer".to_owned(), |rate| rate.parse().map_or(rate, |rate| number(rate, 0)))
}

/// Measures how soon one node sees a logout on another, of a session that it has cached.
async fn logout(report: &mut Report, server: &Redis, quick: bool) {
    let near = async || {
        let provider = RedisProvider::connect(server.url()).await.expect("the server answers");
        Cached::builder(provider).watching().await.expect("the server sends invalidations")
    };
    let (here, there) = (near().await, near().await);
    let mut seen = Vec::new();
    for turn in 0..if quick { 100 } else { 2000 } {
        let key = key(usize::MAX / 2 + turn);
        let _ = there.create(&key, &record(1)).await.expect("the server answers");
        // The invalidation from the session's creation may remove the first copy.
        for _ in 0..5 {
            assert!(here.load(&key).await.expect("the server answers").is_some());
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        assert!(there.delete(&key).await.expect("the server answers"));
        let ended = Instant::now();
        while here.load(&key).await.expect("the server answers").is_some() {
            tokio::task::yield_now().await;
        }
        seen.push(ended.elapsed().as_secs_f64() * 1000.0);
    }
    let seen = Samples::new(seen);
    let heads = ["", "median", "p99", "longest"];
    let mut table = Table::new(
        "Milliseconds from the answer to a logout on one node until another, which holds a copy, refuses the session",
        &heads,
    );
    let cells = [0.5, 0.99, 1.0].map(|share| format!("{:.2}", seen.at(share)));
    table.row(["two near caches on one Redis, loopback".to_owned()].into_iter().chain(cells).collect());
    report.table("logout", table);
}
