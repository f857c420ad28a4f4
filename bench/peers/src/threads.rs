//! Two threads: what the second one adds, beside what it adds to arithmetic, and what a crowd on one session costs.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::{MemoryProvider, Provider, StoreKey};
use http::HeaderValue;

use crate::measure::{Dice, Samples, number};
use crate::report::{Report, Table};
use crate::stores;

const SESSIONS: usize = 100_000;

/// What one thread does again and again; the number is the thread's.
struct Work<'a> {
    name: &'static str,
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
        Work { name: "arithmetic", thread: &arithmetic },
        Work {
            name: "cloakroom, reads of different sessions",
            thread: &|number, stop| load(&provider, &keys, number, stop),
        },
        Work {
            name: "cloakroom, reads of one session",
            thread: &|number, stop| load(&provider, &keys[..1], number, stop),
        },
        Work {
            name: "cloakroom, atomic updates of one session",
            thread: &|_, stop| update(&manager, &cookie, stop),
        },
        Work {
            name: "tower-sessions, memory, reads of different sessions",
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
            one.push(throughput(work, 1, turn));
            two.push(throughput(work, 2, turn));
        }
    }
    let mut table = Table::new(
        "Operations a second of one and of two threads (the best tenth of the turns)",
        &["", "one", "two", "gain", "of arithmetic's gain"],
    );
    let mut arithmetic = f64::NAN;
    for (work, (one, two)) in works.iter().zip(samples) {
        // A turn counts where both threads had a processor; on a busy machine few do.
        let [one, two] = [one, two].map(|samples| Samples::new(samples).at(0.9));
        if arithmetic.is_nan() {
            arithmetic = two / one;
        }
        let share = format!("{:.2}", two / one / arithmetic);
        table.row(vec![
            work.name.to_owned(),
            number(one, 0),
            number(two, 0),
            format!("{:.2}", two / one),
            share,
        ]);
    }
    report.table("threads", table);
}

/// Operations a second of `threads` threads together.
fn throughput(work: &Work<'_>, threads: usize, turn: Duration) -> f64 {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let (stop, start) = (&stop, &start);
                scope.spawn(move || {
                    start.wait();
                    let begin = Instant::now();
                    let done = (work.thread)(number, stop);
                    done as f64 / begin.elapsed().as_secs_f64()
                })
            })
            .collect();
        start.wait();
        std::thread::sleep(turn);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    })
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

/// Does `operation` until it is time, on a runtime of its own.
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
        assert!(black_box(record).is_ok_and(|found| found.is_some()));
    })
}

fn update(manager: &cloakroom::Manager, cookie: &HeaderValue, stop: &AtomicBool) -> u64 {
    let headers = crate::rig::headers(cookie);
    each(stop, 0, async |_| {
        let session = manager.start(&headers).await.expect("memory does not fail");
        let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await;
        assert!(black_box(n).is_ok());
    })
}
