//! Runs a kernel under many schedules, and counts them.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, Runner};

/// The number of runs of a kernel under each random scheduler. `CLOAKROOM_SCHEDULES` sets another number.
const SCHEDULES: usize = 5_000;

/// The most runs of an exhaustive scheduler, in units of `schedules()`.
const EXHAUSTIVE: usize = 20;

/// The number of points at which PCT changes the priorities. Its paper finds that few bugs need more.
const DEPTH: usize = 3;

/// The number of different interleavings in all kernels of this process.
static IN_ALL: AtomicUsize = AtomicUsize::new(0);

fn schedules() -> usize {
    let asked = std::env::var("CLOAKROOM_SCHEDULES").ok();
    asked.map_or(SCHEDULES, |text| text.parse().expect("CLOAKROOM_SCHEDULES is a number"))
}

/// Runs `kernel` in random orders, under two schedulers.
pub(crate) fn at_random(name: &str, kernel: impl Fn() + Copy + Send + Sync + 'static) {
    let times = schedules();
    explore(name, "random", RandomScheduler::new(times), kernel);
    explore(name, "PCT", PctScheduler::new(DEPTH, times), kernel);
}

/// Runs `kernel` in every order, up to a limit.
pub(crate) fn in_every_order(kernel: impl Fn() + Send + Sync + 'static) -> Told {
    let most = EXHAUSTIVE * schedules();
    let told = run(DfsScheduler::new(Some(most), false), kernel);
    Told { all: told.runs < most, ..told }
}

/// The result of an exploration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) runs: usize,
    pub(crate) different: usize,
    /// True if these are all orders.
    pub(crate) all: bool,
}

fn explore(
    name: &str,
    how: &str,
    scheduler: impl Scheduler + 'static,
    kernel: impl Fn() + Copy + Send + Sync + 'static,
) {
    run(scheduler, kernel).print(name, how);
}

impl Told {
    /// Prints a line of the closing report.
    pub(crate) fn print(self, name: &str, how: &str) {
        let Told { runs, different, .. } = self;
        let in_all = IN_ALL.fetch_add(different, Ordering::Relaxed) + different;
        println!("{different:>8} interleavings in {runs:>8} runs, {how:<11} {in_all:>9} in all  {name}");
    }
}

fn run(scheduler: impl Scheduler + 'static, kernel: impl Fn() + Send + Sync + 'static) -> Told {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let noted = Noted { inner: scheduler, order: None, seen: Arc::clone(&seen) };
    let mut config = Config::new();
    // An unoptimised build has large stack frames.
    config.stack_size = 1 << 19;
    config.silence_warnings = true;
    let runs = Runner::new(noted, config).run(kernel);
    let different = seen.lock().unwrap().len();
    Told { runs, different, all: false }
}

/// A scheduler that records the orders it chooses.
struct Noted<S> {
    inner: S,
    /// The hash of the order of the current run.
    order: Option<DefaultHasher>,
    seen: Arc<Mutex<HashSet<u64>>>,
}

impl<S: Scheduler> Scheduler for Noted<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        // Shuttle calls this once more after the last run.
        if let Some(order) = self.order.replace(DefaultHasher::new()) {
            self.seen.lock().unwrap().insert(order.finish());
        }
        self.inner.new_execution()
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yielding: bool) -> Option<TaskId> {
        let next = self.inner.next_task(runnable, current, yielding)?;
        if let Some(order) = self.order.as_mut().filter(|_| runnable.len() > 1) {
            usize::from(next).hash(order);
        }
        Some(next)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}
