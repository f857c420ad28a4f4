//! Stores in this process: the time of an operation, from a thousand sessions to ten million, and the bytes of a
//! session.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::{Manager, MemoryProvider, Provider, providers::StoreKey};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use tokio::runtime::Runtime;

use crate::measure::{Dice, Elapsed, Runner, Samples, Turns, in_turns, number};
use crate::report::{Chart, Report, Series, Table};
use crate::rig;
use crate::subject::Subject;

/// The value in each session: a string of 16 bytes.
const VALUE: &str = "0123456789abcdef";

/// The number of operations between two readings of the clock. Their inputs are prepared before, as a server prepares
/// a request's headers.
const BATCH: usize = 1024;

const SUBJECTS: [Subject; 3] = [Subject::Cloakroom, Subject::TowerSessions, Subject::TowerSessionsMoka];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Load,
    Read,
    Change,
}

pub fn run(report: &mut Report, quick: bool) -> Result<(), String> {
    let sizes: &[usize] = if quick { &[1_000, 100_000] } else { &[1_000, 100_000, 1_000_000] };
    let heads: Vec<String> =
        [String::new()].into_iter().chain(sizes.iter().map(|size| number(*size as f64, 0))).collect();
    let mut tables = [
        (Operation::Load, "Load by id, nanoseconds of processor time", "load"),
        (Operation::Read, "Load and read one value", "read"),
        (Operation::Change, "Load, change one value and save", "change"),
    ]
    .map(|(operation, title, name)| {
        (operation, Table::new(title, &heads), Chart::bars(name, title), vec![vec![]; 3])
    });
    for size in sizes {
        let mut filled: Vec<Filled> = SUBJECTS.iter().map(|subject| Filled::new(*subject, *size)).collect();
        for (operation, _, _, columns) in &mut tables {
            let mut runners: Vec<_> = filled.iter_mut().map(|filled| filled.runner(*operation)).collect();
            let rounds = if quick { 9 } else { 61 };
            let samples = in_turns(&mut runners, Turns { rounds, each: Duration::from_millis(3) });
            columns
                .iter_mut()
                .zip(samples)
                .for_each(|(column, samples): (&mut Vec<Samples>, _)| column.push(samples));
        }
    }
    for (operation, mut table, mut chart, columns) in tables {
        for (subject, column) in SUBJECTS.iter().zip(&columns) {
            let cells = column.iter().map(|samples| samples.shown(0));
            table.row([subject.title().to_owned()].into_iter().chain(cells).collect());
            let values = heads[1..].iter().cloned().zip(column.iter().map(Samples::median)).collect();
            chart.add(Series { name: subject.title().to_owned(), values });
        }
        let ratios = (0..sizes.len())
            .map(|size| format!("{:.2}", columns[0][size].median() / columns[1][size].median()));
        table.row(["cloakroom over tower-sessions".to_owned()].into_iter().chain(ratios).collect());
        let name = match operation {
            Operation::Load => "stores-load",
            Operation::Read => "stores-read",
            Operation::Change => "stores-change",
        };
        report.table(name, table);
        report.chart(chart)?;
    }
    if !quick {
        ten_million(report);
    }
    bytes_table(report, quick)
}

/// Compares one million sessions with ten million.
fn ten_million(report: &mut Report) {
    let mut filled = [1_000_000, 10_000_000].map(|size| Filled::new(Subject::Cloakroom, size));
    let mut runners: Vec<_> = filled.iter_mut().map(|filled| filled.runner(Operation::Load)).collect();
    let samples = in_turns(&mut runners, Turns { rounds: 61, each: Duration::from_millis(3) });
    let mut table = Table::new("cloakroom, load by id", &["sessions", "ns"]);
    table.row(vec!["1,000,000".to_owned(), samples[0].shown(0)]);
    table.row(vec!["10,000,000".to_owned(), samples[1].shown(0)]);
    table.row(vec!["ratio".to_owned(), format!("{:.2}", samples[1].median() / samples[0].median())]);
    report.table("stores-ten-million", table);
}

/// A store filled with sessions, and what is needed to load them.
enum Filled {
    Cloakroom {
        runtime: Runtime,
        provider: MemoryProvider,
        manager: Manager,
        keys: Vec<StoreKey>,
        cookies: Vec<HeaderValue>,
    },
    Tower {
        runtime: Runtime,
        store: tower_sessions::MemoryStore,
        ids: Vec<tower_sessions::session::Id>,
    },
    Moka {
        runtime: Runtime,
        store: tower_sessions_moka_store::MokaStore,
        ids: Vec<tower_sessions_14::session::Id>,
    },
}

impl Filled {
    fn new(subject: Subject, size: usize) -> Self {
        let runtime = runtime();
        match subject {
            Subject::Cloakroom => {
                let (provider, manager) = cloakroom();
                let make = async {
                    let mut cookies = Vec::with_capacity(size);
                    for _ in 0..size {
                        cookies.push(new_session(&manager, VALUE).await);
                    }
                    // The provider lists keys in the order of its shards. Without a shuffle, neighbouring keys would
                    // be neighbours in memory.
                    let mut keys = keys(&provider).await;
                    shuffle(&mut keys);
                    (keys, cookies)
                };
                let (keys, cookies) = runtime.block_on(make);
                Filled::Cloakroom { runtime, provider, manager, keys, cookies }
            }
            Subject::TowerSessions => {
                let store = tower_sessions::MemoryStore::default();
                let ids = runtime.block_on(fill_tower(&store, size));
                Filled::Tower { runtime, store, ids }
            }
            _ => {
                let store = tower_sessions_moka_store::MokaStore::new(Some(100_000_000));
                let ids = runtime.block_on(fill_tower_14(&store, size));
                Filled::Moka { runtime, store, ids }
            }
        }
    }

    fn runner(&mut self, operation: Operation) -> Runner<'_> {
        let mut dice = Dice::new(7);
        match self {
            Filled::Cloakroom { runtime, provider, manager, keys, cookies } => match operation {
                Operation::Load => Runner::new(move |count| {
                    in_batches(count, |batch| {
                        let keys: Vec<_> = (0..batch).map(|_| keys[dice.below(keys.len())].clone()).collect();
                        timed(runtime, async {
                            for key in &keys {
                                let record = provider.load(key).await.expect("memory does not fail");
                                assert!(black_box(record).is_some());
                            }
                        })
                    })
                }),
                _ => Runner::new(move |count| {
                    in_batches(count, |batch| {
                        let requests: Vec<_> =
                            (0..batch).map(|_| rig::headers(&cookies[dice.below(cookies.len())])).collect();
                        timed(runtime, async {
                            for request in &requests {
                                if operation == Operation::Read {
                                    read(manager, request).await;
                                } else {
                                    change(manager, request).await;
                                }
                            }
                        })
                    })
                }),
            },
            Filled::Tower { runtime, store, ids } => Runner::new(move |count| {
                in_batches(count, |batch| {
                    let ids: Vec<_> = (0..batch).map(|_| ids[dice.below(ids.len())]).collect();
                    timed(runtime, tower_operations(store, &ids, operation))
                })
            }),
            Filled::Moka { runtime, store, ids } => Runner::new(move |count| {
                in_batches(count, |batch| {
                    let ids: Vec<_> = (0..batch).map(|_| ids[dice.below(ids.len())]).collect();
                    timed(runtime, tower_14_operations(store, &ids, operation))
                })
            }),
        }
    }
}

async fn read(manager: &Manager, request: &HeaderMap) {
    let session = manager.start(request).await.expect("memory does not fail");
    assert!(black_box(session.get::<String>("v")).is_ok_and(|value| value.is_some()));
}

async fn change(manager: &Manager, request: &HeaderMap) {
    let session = manager.start(request).await.expect("memory does not fail");
    let value = session.get::<String>("v").expect("a text").expect("a value");
    session.set("v", value).expect("the value fits");
    let released = session.release(&mut HeaderMap::new()).await;
    assert_eq!(released.expect("memory does not fail"), cloakroom::Released::Saved);
}

/// Defines the functions for one version. Both versions have the same interface, but no trait in common.
macro_rules! tower {
    ($version:ident, $fill:ident, $operations:ident) => {
        pub async fn $fill(
            store: &(impl $version::SessionStore + Clone),
            size: usize,
        ) -> Vec<$version::session::Id> {
            let store = Arc::new(store.clone());
            let mut ids = Vec::with_capacity(size);
            for _ in 0..size {
                let session = $version::Session::new(None, store.clone(), None);
                session.insert("v", VALUE).await.expect("the value fits");
                session.save().await.expect("memory does not fail");
                ids.push(session.id().expect("a saved session has an id"));
            }
            ids
        }

        async fn $operations(
            store: &(impl $version::SessionStore + Clone),
            ids: &[$version::session::Id],
            operation: Operation,
        ) {
            let shared = Arc::new(store.clone());
            for id in ids {
                if operation == Operation::Load {
                    let record = store.load(id).await.expect("memory does not fail");
                    assert!(black_box(record).is_some());
                    continue;
                }
                let session = $version::Session::new(Some(*id), shared.clone(), None);
                let value: String = session.get("v").await.expect("a text").expect("a value");
                if operation == Operation::Change {
                    session.insert("v", value).await.expect("the value fits");
                    session.save().await.expect("memory does not fail");
                } else {
                    black_box(value);
                }
            }
        }
    };
}

tower!(tower_sessions, fill_tower, tower_operations);
tower!(tower_sessions_14, fill_tower_14, tower_14_operations);

/// Returns a memory provider and a manager for it.
pub fn cloakroom() -> (MemoryProvider, Manager) {
    let provider = MemoryProvider::new();
    let manager = Manager::builder(provider.clone()).max_bytes(1 << 17).build();
    (provider, manager.expect("the defaults work together"))
}

/// Begins a session with `value` and returns its cookie.
pub async fn new_session(manager: &Manager, value: &str) -> HeaderValue {
    let session = manager.start(&HeaderMap::new()).await.expect("memory does not fail");
    session.set("v", value).expect("the value fits");
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await.expect("memory does not fail");
    rig::cookie(response.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes))
        .expect("a new session has a cookie")
}

/// Returns the keys of all sessions.
pub async fn keys(provider: &impl Provider) -> Vec<StoreKey> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = provider.scan(cursor, 100_000).await.expect("a page of keys");
        keys.extend(page.entries.into_iter().map(|listed| listed.key));
        cursor = page.next;
        if cursor.is_none() {
            return keys;
        }
    }
}

fn shuffle<T>(items: &mut [T]) {
    let mut dice = Dice::new(3);
    for place in (1..items.len()).rev() {
        items.swap(place, dice.below(place + 1));
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

pub fn in_batches(count: u32, mut batch: impl FnMut(usize) -> Elapsed) -> Elapsed {
    let (whole, rest) = (count as usize / BATCH, count as usize % BATCH);
    let took: Elapsed = (0..whole).map(|_| batch(BATCH)).sum();
    took + if rest > 0 { batch(rest) } else { Elapsed::default() }
}

pub fn timed(runtime: &Runtime, work: impl Future<Output = ()>) -> Elapsed {
    Elapsed::here(|| runtime.block_on(work))
}

fn bytes_table(report: &mut Report, quick: bool) -> Result<(), String> {
    let size = if quick { 100_000 } else { 1_000_000 };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut table = Table::new(
        "Bytes a session, one string of 16 bytes (growth of the process's resident memory)",
        &["".to_owned(), number(size as f64, 0)],
    );
    let mut chart = Chart::bars("bytes", "Bytes a session");
    for subject in SUBJECTS {
        let output = Command::new(&program).arg("bytes").arg(subject.name()).arg(size.to_string()).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let bytes: f64 = said.parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        table.row(vec![subject.title().to_owned(), number(bytes, 0)]);
        chart.add(Series { name: subject.title().to_owned(), values: vec![(String::new(), bytes)] });
    }
    report.table("stores-bytes", table);
    report.chart(chart)
}

/// Prints the bytes that one of `size` sessions takes.
pub fn bytes(subject: Subject, size: usize) {
    let runtime = runtime();
    let before = resident();
    let held = match subject {
        Subject::Cloakroom => {
            let (provider, manager) = cloakroom();
            runtime.block_on(async {
                for _ in 0..size {
                    new_session(&manager, VALUE).await;
                }
            });
            Held::Cloakroom(provider, manager)
        }
        Subject::TowerSessions => {
            let store = tower_sessions::MemoryStore::default();
            drop(runtime.block_on(fill_tower(&store, size)));
            Held::Tower(store)
        }
        _ => {
            let store = tower_sessions_moka_store::MokaStore::new(Some(100_000_000));
            drop(runtime.block_on(fill_tower_14(&store, size)));
            Held::Moka(store)
        }
    };
    println!("{}", (resident() - before) / size as f64);
    drop(held);
}

/// A store that must live until the memory is measured.
#[allow(dead_code, reason = "kept alive, not used")]
enum Held {
    Cloakroom(MemoryProvider, Manager),
    Tower(tower_sessions::MemoryStore),
    Moka(tower_sessions_moka_store::MokaStore),
}

/// Returns this process's resident memory in bytes.
pub fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) * 1024.0
}
