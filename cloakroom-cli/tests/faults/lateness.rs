//! Measures how late this machine's timers are, so that a busy machine does not count as a slow library.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// The delay that every machine has now and then, which does not count.
const USUAL: Duration = Duration::from_millis(20);
/// The time for which delays are kept, longer than any caller asks for.
const KEPT: Duration = Duration::from_secs(60);

static LATE: OnceLock<Mutex<VecDeque<(Instant, Duration)>>> = OnceLock::new();

/// Returns the sum of the timer delays since `start`. The first call starts the measurement.
pub(crate) fn since(start: Instant) -> Duration {
    let late = LATE.get_or_init(|| {
        std::thread::spawn(watch);
        Mutex::default()
    });
    let late = late.lock().expect("no thread has panicked");
    late.iter().rev().take_while(|(at, _)| *at >= start).map(|(_, late)| *late).sum()
}

fn watch() {
    loop {
        let start = Instant::now();
        std::thread::sleep(TICK);
        let late = start.elapsed().saturating_sub(TICK);
        let Some(all) = LATE.get().filter(|_| late > USUAL) else { continue };
        let mut all = all.lock().expect("no thread has panicked");
        all.push_back((Instant::now(), late));
        while all.front().is_some_and(|(at, _)| at.elapsed() > KEPT) {
            all.pop_front();
        }
    }
}
