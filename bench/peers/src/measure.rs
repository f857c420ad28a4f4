//! Measurements in turns: each runner is measured for a moment, many times, so that a disturbance of the machine
//! affects all alike.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Returns this thread's processor time. Time that other processes use does not count.
fn cpu_time() -> Duration {
    since_start(ClockId::ThreadCPUTime)
}

/// Returns the processor time of all threads of this process.
pub fn process_cpu_time() -> Duration {
    since_start(ClockId::ProcessCPUTime)
}

fn since_start(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The sorted results of repeated measurements.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Samples(samples)
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub fn at(&self, share: f64) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            len => self.0[((len - 1) as f64 * share).round() as usize],
        }
    }

    /// Formats the median and the range of the middle 80 %.
    pub fn shown(&self, decimals: usize) -> String {
        let [low, median, high] = [0.1, 0.5, 0.9].map(|share| number(self.at(share), decimals));
        format!("{median} ({low} to {high})")
    }
}

/// Formats a number with a comma before every three digits.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    let whole = format!("{sign}{}", groups.join(","));
    rest.map_or(whole.clone(), |rest| format!("{whole}.{rest}"))
}

/// The time that some work took: processor time and wall-clock time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Elapsed {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Elapsed {
    /// Measures work on this thread.
    pub fn here(work: impl FnOnce()) -> Elapsed {
        let (wall, cpu) = (Instant::now(), cpu_time());
        work();
        Elapsed { cpu: cpu_time() - cpu, wall: wall.elapsed() }
    }

    /// Returns whether the thread had a processor all the time. Other processes would have left cold caches behind.
    pub fn undisturbed(self) -> bool {
        self.wall <= self.cpu + self.cpu / 20 + Duration::from_micros(5)
    }
}

impl std::ops::Add for Elapsed {
    type Output = Elapsed;

    fn add(self, other: Elapsed) -> Elapsed {
        Elapsed { cpu: self.cpu + other.cpu, wall: self.wall + other.wall }
    }
}

impl std::iter::Sum for Elapsed {
    fn sum<I: Iterator<Item = Elapsed>>(all: I) -> Elapsed {
        all.fold(Elapsed::default(), std::ops::Add::add)
    }
}

/// A subject of a measurement: runs a number of operations and returns the time they took.
pub struct Runner<'a> {
    run: Box<dyn FnMut(u32) -> Elapsed + 'a>,
}

impl<'a> Runner<'a> {
    pub fn new(run: impl FnMut(u32) -> Elapsed + 'a) -> Self {
        Runner { run: Box::new(run) }
    }
}

/// The number and the length of the turns.
#[derive(Clone, Copy)]
pub struct Turns {
    pub rounds: usize,
    pub each: Duration,
}

/// The number of repetitions of a disturbed turn. The last one counts even if it was disturbed.
const REPETITIONS: usize = 20;

/// Measures the processor time of an operation in nanoseconds, for each runner. Repeats turns in which the thread lost
/// its processor.
pub fn in_turns(runners: &mut [Runner<'_>], turns: Turns) -> Vec<Samples> {
    let sizes: Vec<u32> = runners.iter_mut().map(|runner| size_of_turn(runner, turns.each)).collect();
    let mut samples = vec![Vec::with_capacity(turns.rounds); runners.len()];
    for _ in 0..turns.rounds {
        for ((runner, size), samples) in runners.iter_mut().zip(&sizes).zip(&mut samples) {
            let mut took = (runner.run)(*size);
            for _ in 0..REPETITIONS {
                if took.undisturbed() {
                    break;
                }
                took = (runner.run)(*size);
            }
            samples.push(took.cpu.as_nanos() as f64 / f64::from(*size));
        }
    }
    samples.into_iter().map(Samples::new).collect()
}

/// Returns how many operations fill a turn.
fn size_of_turn(runner: &mut Runner<'_>, turn: Duration) -> u32 {
    let mut size = 16;
    loop {
        let took = (runner.run)(size).cpu;
        if took * 4 >= turn || size >= 1 << 24 {
            let wanted = f64::from(size) * turn.as_secs_f64() / took.as_secs_f64().max(1e-9);
            return (wanted as u32).clamp(1, 1 << 24);
        }
        size *= 4;
    }
}

/// Pseudorandom numbers, the same on every run.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize * end) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1234567.0, 0), "1,234,567");
        assert_eq!(number(0.256, 2), "0.26");
        assert_eq!(number(-1234.5, 1), "-1,234.5");
    }

    #[test]
    fn median_and_range_come_from_the_samples() {
        let samples = Samples::new((1..=11).rev().map(f64::from).collect());
        assert_eq!(samples.shown(0), "6 (2 to 10)");
    }

    #[test]
    fn dice_reach_everything_below_the_end() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 6];
        (0..200).for_each(|_| seen[dice.below(6)] = true);
        assert!(seen.iter().all(|seen| *seen));
    }
}
