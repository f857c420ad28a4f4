//! Taking turns: everyone is measured for a moment, again and again, so that what disturbs the machine disturbs all alike.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time that this thread has had a processor for: what others do on the machine does not count.
fn cpu_time() -> Duration {
    since_start(ClockId::ThreadCPUTime)
}

/// The same of all threads of this process.
pub fn process_cpu_time() -> Duration {
    since_start(ClockId::ProcessCPUTime)
}

fn since_start(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What repeated measurements of one thing gave, in order.
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

    /// The median, and between which values eight of ten lie.
    pub fn shown(&self, decimals: usize) -> String {
        let [low, median, high] = [0.1, 0.5, 0.9].map(|share| number(self.at(share), decimals));
        format!("{median} ({low} to {high})")
    }
}

/// A number with a comma before every three digits.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    let whole = format!("{sign}{}", groups.join(","));
    rest.map_or(whole.clone(), |rest| format!("{whole}.{rest}"))
}

/// What some work took: processor time, and time by the clock on the wall.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Took {
    /// Of work on this thread.
    pub fn here(work: impl FnOnce()) -> Took {
        let (wall, cpu) = (Instant::now(), cpu_time());
        work();
        Took { cpu: cpu_time() - cpu, wall: wall.elapsed() }
    }

    /// Whether the thread had a processor all the time: others that had it meanwhile have left cold caches behind.
    pub fn undisturbed(self) -> bool {
        self.wall <= self.cpu + self.cpu / 20 + Duration::from_micros(5)
    }
}

impl std::ops::Add for Took {
    type Output = Took;

    fn add(self, other: Took) -> Took {
        Took { cpu: self.cpu + other.cpu, wall: self.wall + other.wall }
    }
}

impl std::iter::Sum for Took {
    fn sum<I: Iterator<Item = Took>>(all: I) -> Took {
        all.fold(Took::default(), std::ops::Add::add)
    }
}

/// One who takes part: does so many operations and says what they took.
pub struct Runner<'a> {
    run: Box<dyn FnMut(u32) -> Took + 'a>,
}

impl<'a> Runner<'a> {
    pub fn new(run: impl FnMut(u32) -> Took + 'a) -> Self {
        Runner { run: Box::new(run) }
    }
}

/// How often, and for how long at a time, everyone's turn comes.
#[derive(Clone, Copy)]
pub struct Turns {
    pub rounds: usize,
    pub each: Duration,
}

/// How often a disturbed turn is tried again before it counts as it is.
const AGAIN: usize = 20;

/// Nanoseconds of processor time an operation, for each runner. Turns during which the thread lost its processor are taken again.
pub fn in_turns(runners: &mut [Runner<'_>], turns: Turns) -> Vec<Samples> {
    let sizes: Vec<u32> = runners.iter_mut().map(|runner| size_of_turn(runner, turns.each)).collect();
    let mut samples = vec![Vec::with_capacity(turns.rounds); runners.len()];
    for _ in 0..turns.rounds {
        for ((runner, size), samples) in runners.iter_mut().zip(&sizes).zip(&mut samples) {
            let mut took = (runner.run)(*size);
            for _ in 0..AGAIN {
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

/// How many operations fill a turn.
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

/// Numbers that look random, the same on every run.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        // xorshift64*, Vigna 2016.
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
    fn the_median_and_the_spread_are_of_the_samples() {
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
