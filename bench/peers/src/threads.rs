//! The gain from a second thread, beside its gain for plain arithmetic, and the cost of many requests to one session.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloakroom::{MemoryProvider, Provider, providers::StoreKey};
use http::HeaderValue;

use crate::measure::{Dice, Elapsed, Samples};
use crate::report::{Report, Table};
use crate::stores;

const SESSIONS: usize = 100_000;

/// The work that a thread repeats; it gets the thread's number.
struct Work<'a> {
    name: &'static str,
    /// True if the work waits for locks by sleeping. A turn without a processor is then no sign of a disturbance.
    sleeps: bool,
    thread: &'a (dyn Fn(usize, &AtomicBool) -> u64 + Sync),
}

pub fn run(report: &mut Report, quick: bool) {
    let (rounds, turn) =
        if quick { (15, Duration::from_millis(10)) } else { (101, Duration::from_millis(20)) };
    let (provider, manager) = stores::cloakroom();
    let runtime = stores::runtime();
    let keys = runtime.block_on(async {
        for _ in 0..SESSIONS {
            stores::new_session(&manager, "0123456789abcdef").await;
        }
        stores::keys(&provider).await
    });
    let peer = tower_sessions::MemoryStore::default();
    let ids = runtime.block_on(stores::fill_tower(&peer, SESSIONS));
    let moka = tower_sessions_moka_store::MokaStore::new(Some(10_000_000));
    let moka_ids = runtime.block_on(stores::fill_tower_14(&moka, SESSIONS));
    let cookie = runtime.block_on(stores::new_session(&manager, "0123456789abcdef"));

    let works = [
        Work { name: "arithmetic", sleeps: false, thread: &arithmetic },
        Work {
            name: "cloakroom, reads of different sessions",
            sleeps: false,
            thread: &|number, stop| load(&provider, &keys, number, stop),
        },
        Work {
            name: "cloakroom, reads of one session",
            sleeps: false,
            thread: &|number, stop| load(&provider, &keys[..1], number, stop),
        },
        Work {
            name: "cloakroom, atomic updates of one session",
            sleeps: true,
            thread: &|_, stop| update(&manager, &cookie, stop),
        },
        Work {
            name: "tower-sessions, memory, reads of different sessions",
            sleeps: true,
            thread: &|number, stop| {
                use tower_sessions::SessionStore as _;
                each(stop, number, async |dice| {
                    let found = peer.load(&ids[dice.below(ids.len())]).await;
                    assert!(black_box(found).is_ok_and(|found| found.is_some()));
                })
            },
        },
        Work {
            name: "tower-sessions, moka, reads of different sessions",
            sleeps: false,
            thread: &|number, stop| {
                use tower_sessions_14::SessionStore as _;
                each(stop, number, async |dice| {
                    let found = moka.load(&moka_ids[dice.below(moka_ids.len())]).await;
                    assert!(black_box(found).is_ok_and(|found| found.is_some()));
                })
            },
        },
    ];
    let mut samples = vec![(Vec::new(), Vec::new()); works.len()];
    for _ in 0..rounds {
        for (work, (one, two)) in works.iter().zip(&mut samples) {
            one.push(undisturbed(work, 1, turn));
            two.push(undisturbed(work, 2, turn));
        }
    }
    let mut table = Table::new(
        "Operations a second of one and of two threads, in turns during which all of them had a processor",
        &["", "one", "two", "gain", "of arithmetic's gain"],
    );
    let mut arithmetic = f64::NAN;
    for (work, (one, two)) in works.iter().zip(samples) {
        let of_turns = |samples: Vec<Option<f64>>| Samples::new(samples.into_iter().flatten().collect());
        let (one, two) = (of_turns(one), of_turns(two));
        let gain = two.median() / one.median();
        if arithmetic.is_nan() {
            arithmetic = gain;
        }
        let share = format!("{:.2}", gain / arithmetic);
        table.row(vec![work.name.to_owned(), one.shown(0), two.shown(0), format!("{gain:.2}"), share]);
    }
    report.table("threads", table);
}

/// Returns the operations a second of all threads together, or `None` if other processes disturbed every turn.
fn undisturbed(work: &Work<'_>, threads: usize, turn: Duration) -> Option<f64> {
    (0..20).find_map(|_| throughput(work, threads, turn))
}

fn throughput(work: &Work<'_>, threads: usize, turn: Duration) -> Option<f64> {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(threads + 1));
    let all: Vec<(u64, Elapsed)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let (stop, start) = (&stop, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut done = 0;
                    let took = Elapsed::here(|| done = (work.thread)(number, stop));
                    (done, took)
                })
            })
            .collect();
        start.wait();
        std::thread::sleep(turn);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    // A thread that sleeps for a lock gives up its processor voluntarily, so only the wall clock counts.
    let disturbed = all.iter().any(|(_, took)| !took.undisturbed());
    let rates = all.iter().map(|(done, took)| *done as f64 / took.wall.as_secs_f64());
    (!disturbed || work.sleeps).then(|| rates.sum())
}

fn arithmetic(number: usize, stop: &AtomicBool) -> u64 {
    let mut dice = Dice::new(number as u64);
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        (0..256).for_each(|_| {
            black_box(dice.below(1000));
        });
        done += 256;
    }
    done
}

/// Repeats `operation` until `stop` is set, on a runtime of its own.
fn each(stop: &AtomicBool, number: usize, operation: impl AsyncFn(&mut Dice)) -> u64 {
    let mut dice = Dice::new(number as u64 + 1);
    stores::runtime().block_on(async {
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..16 {
                operation(&mut dice).await;
            }
            done += 16;
        }
        done
    })
}

fn load(provider: &MemoryProvider, keys: &[StoreKey], number: usize, stop: &AtomicBool) -> u64 {
    each(stop, number, async |dice| {
        let record = provider.load(&keys[dice.below(keys.len())]).await;
        let found = black_box(record).expect("memory does not fail");
        assert!(found.is_some(), "every key is stored");
    })
}

fn update(manager: &cloakroom::Manager, cookie: &HeaderValue, stop: &AtomicBool) -> u64 {
    let headers = crate::rig::headers(cookie);
    each(stop, 0, async |_| {
        let session = manager.start(&headers).await.expect("memory does not fail");
        let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await;
        assert!(black_box(n).expect("memory does not fail") > 0);
    })
}
