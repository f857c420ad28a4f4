//! The delay of a reader while a million sessions expire.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::{Manager, ManualClock, MemoryProvider, Provider, providers::StoreKey};

use crate::measure::{Dice, Samples, number};
use crate::report::{Report, Table};
use crate::stores;

/// The sessions that stay. The reader loads these.
const LIVING: usize = 100_000;

pub fn run(report: &mut Report, quick: bool) {
    let (rounds, dying) = if quick { (2, 100_000) } else { (7, 1_000_000) };
    let mut phases = [const { Vec::new() }; 3];
    let mut took = Vec::new();
    for _ in 0..rounds {
        let time = ManualClock::starting_at(std::time::SystemTime::now());
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let (short, long) = (Duration::from_secs(60), Duration::from_secs(100_000));
        let manager = |idle: Duration| {
            let manager = Manager::builder(provider.clone()).clock(time.clock()).idle_timeout(idle);
            manager.absolute_timeout(None).build().expect("they work together")
        };
        let (brief, lasting) = (manager(short), manager(long));
        let runtime = stores::runtime();
        let keys = runtime.block_on(async {
            for _ in 0..LIVING {
                stores::new_session(&lasting, "0123456789abcdef").await;
            }
            let keys = stores::keys(&provider).await;
            for _ in 0..dying {
                stores::new_session(&brief, "0123456789abcdef").await;
            }
            keys
        });
        time.advance(short * 2);
        // The other thread computes while it does not collect, so that the reader always shares the processors with
        // one thread.
        let idle = Duration::from_millis(if quick { 200 } else { 1000 });
        phases[0].push(watch(&provider, &keys, || spin(idle)));
        let mut collecting = Duration::ZERO;
        phases[1].push(watch(&provider, &keys, || {
            let start = Instant::now();
            let removed = stores::runtime().block_on(brief.collect_garbage()).expect("memory does not fail");
            assert_eq!(removed, dying as u64);
            collecting = start.elapsed();
        }));
        took.push(collecting.as_secs_f64() * 1000.0);
        phases[2].push(watch(&provider, &keys, || spin(idle)));
    }
    let mut table = Table::new(
        &format!(
            "Microseconds that a reader waits for one load while {} sessions expire (medians of {rounds} runs)",
            number(f64::from(dying), 0)
        ),
        &["", "p50", "p99", "p99.9", "p99.99", "longest"],
    );
    let names = ["before, beside a thread that computes", "while they are collected", "after"];
    for (name, runs) in names.iter().zip(&phases) {
        let cells = [0.5, 0.99, 0.999, 0.9999, 1.0].map(|share| {
            let of_runs = runs.iter().map(|samples: &Samples| samples.at(share)).collect();
            format!("{:.2}", Samples::new(of_runs).median())
        });
        table.row([(*name).to_owned()].into_iter().chain(cells).collect());
    }
    table.note(format!("Collecting them took {} ms.", Samples::new(took).shown(0)));
    report.table("pause", table);
}

/// The number of loads between two checks whether one of the threads lost its processor to another process.
const CHUNK: usize = 64;

/// Measures every load in microseconds while `beside` runs in another thread. Drops the loads during which another
/// process took the processor from one of the threads. A wait for a lock is voluntary, so it counts.
fn watch(provider: &MemoryProvider, keys: &[StoreKey], beside: impl FnOnce() + Send) -> Samples {
    let (done, start) = (AtomicBool::new(false), Barrier::new(2));
    let neighbour = this_thread();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut dice, here) = (Dice::new(5), this_thread());
            let mut samples = Vec::with_capacity(1 << 22);
            let put_off = || switches(&here) + switches(&neighbour);
            start.wait();
            stores::runtime().block_on(async {
                while !done.load(Ordering::Relaxed) {
                    let (before, kept) = (put_off(), samples.len());
                    for _ in 0..CHUNK {
                        let key = &keys[dice.below(keys.len())];
                        let begin = Instant::now();
                        let record = provider.load(key).await;
                        samples.push(begin.elapsed().as_nanos() as f64 / 1000.0);
                        assert!(black_box(record).is_ok_and(|record| record.is_some()));
                    }
                    if put_off() != before {
                        samples.truncate(kept);
                    }
                }
            });
            samples
        });
        start.wait();
        beside();
        done.store(true, Ordering::Relaxed);
        Samples::new(reader.join().expect("the reader does not panic"))
    })
}

/// Returns the file with the kernel's counters of this thread.
fn this_thread() -> String {
    let link = std::fs::read_link("/proc/thread-self").expect("Linux has this link");
    format!("/proc/{}/status", link.display())
}

/// Returns how often the thread lost its processor to another one.
fn switches(status: &str) -> u64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

fn spin(time: Duration) {
    let start = Instant::now();
    let mut dice = Dice::new(9);
    while start.elapsed() < time {
        (0..1000).for_each(|_| {
            black_box(dice.below(1000));
        });
    }
}
