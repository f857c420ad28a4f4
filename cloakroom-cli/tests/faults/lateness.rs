//! How late this machine's timers are: one that is busy with other things must not make the library look slow.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// Timers are a little late on every machine.
const USUAL: Duration = Duration::from_millis(20);
/// More than is ever asked for.
const KEPT: Duration = Duration::from_secs(60);

static LATE: OnceLock<Mutex<VecDeque<(Instant, Duration)>>> = OnceLock::new();

/// How late timers have been since `start`, all together; nothing until it has been asked for once.
pub(crate) fn since(start: Instant) -> Duration {
    let late = LATE.get_or_init(|| {
        std::thread::spawn(watch);
        Mutex::default()
    });
    let late = late.lock().expect("nobody has panicked");
    late.iter().rev().take_while(|(at, _)| *at >= start).map(|(_, late)| *late).sum()
}

fn watch() {
    loop {
        let start = Instant::now();
        std::thread::sleep(TICK);
        let late = start.elapsed().saturating_sub(TICK);
        let Some(all) = LATE.get().filter(|_| late > USUAL) else { continue };
        let mut all = all.lock().expect("nobody has panicked");
        all.push_back((Instant::now(), late));
        while all.front().is_some_and(|(at, _)| at.elapsed() > KEPT) {
            all.pop_front();
        }
    }
}
