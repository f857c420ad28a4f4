//! Where time comes from: the system, or a clock that a test sets.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// The source of time for a manager and its provider.
///
/// A clone tells the same time. Both sides of a store must be given the same clock, or a
/// record's deadline means two things.
///
/// It never goes backwards within a process: a session that was seen to expire stays so, whatever is done to the system's clock.
/// When that is set back, time goes on from where it was at its own pace until the system's clock has caught up.
///
/// ```
/// use cloakroom::Clock;
/// use std::time::SystemTime;
///
/// let before = SystemTime::now();
/// assert!(Clock::system().now() >= before - std::time::Duration::from_millis(1));
/// ```
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    shown: AtomicU64,
    highest: Highest,
}

/// The latest time that this process has told, whatever number of clocks there are.
static SYSTEM: Highest = Highest::new();

/// The latest time that was told, and how time goes on from there while a clock shows less.
#[derive(Debug)]
struct Highest {
    millis: AtomicU64,
    /// A moment, and the time that was told at it.
    anchor: Mutex<Option<(Instant, u64)>>,
}

impl Highest {
    const fn new() -> Self {
        Highest { millis: AtomicU64::new(0), anchor: Mutex::new(None) }
    }

    /// What to tell where the clock shows `shown`.
    #[inline]
    fn tell(&self, shown: u64) -> u64 {
        let highest = self.millis.load(Ordering::Relaxed);
        match shown.cmp(&highest) {
            std::cmp::Ordering::Equal => shown,
            // Written once a millisecond at the most: threads that ask more often only read.
            std::cmp::Ordering::Greater => shown.max(self.millis.fetch_max(shown, Ordering::Relaxed)),
            std::cmp::Ordering::Less => self.go_on(highest, Instant::now()),
        }
    }

    /// What to tell where the clock shows `shown` or a little more: the latest time that was told, if that is later.
    #[inline]
    fn at_least(&self, shown: u64) -> u64 {
        let highest = self.millis.load(Ordering::Relaxed);
        match shown > highest {
            true => shown.max(self.millis.fetch_max(shown, Ordering::Relaxed)),
            false => highest,
        }
    }

    #[cold]
    fn go_on(&self, highest: u64, at: Instant) -> u64 {
        let mut anchor = self.anchor.lock();
        let continued = anchor
            .map(|(moment, told)| told.saturating_add(Millis::of(at.saturating_duration_since(moment))));
        match continued.filter(|time| *time >= highest) {
            Some(time) => time.max(self.millis.fetch_max(time, Ordering::Relaxed)),
            // The first time it shows less, or the first since it had caught up.
            None => {
                *anchor = Some((at, highest));
                highest
            }
        }
    }
}

impl Clock {
    /// The operating system's clock, in UTC.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// The time now, to the millisecond.
    pub fn now(&self) -> SystemTime {
        self.millis().into()
    }

    /// The time now or up to a tick of the kernel ago, 1 to 10 ms, but never before one that was told: for asking whether something
    /// is over, which every request does. What is to be remembered takes [`millis`](Self::millis).
    #[inline]
    pub(crate) fn recent(&self) -> Millis {
        match &self.0 {
            Source::System => Millis(SYSTEM.at_least(coarse_millis())),
            Source::Manual(_) => self.millis(),
        }
    }

    #[inline]
    pub(crate) fn millis(&self) -> Millis {
        match &self.0 {
            Source::System => Millis(SYSTEM.tell(fine_millis())),
            Source::Manual(manual) => {
                let shown = manual.shown.load(Ordering::SeqCst);
                Millis(shown.max(manual.highest.millis.fetch_max(shown, Ordering::SeqCst)))
            }
        }
    }
}

/// The system's clock to the millisecond.
#[cfg(target_os = "linux")]
#[inline]
fn fine_millis() -> u64 {
    kernel_millis(rustix::time::ClockId::Realtime)
}

/// The same as of the kernel's last tick, which is read ten times as fast.
#[cfg(target_os = "linux")]
#[inline]
fn coarse_millis() -> u64 {
    kernel_millis(rustix::time::ClockId::RealtimeCoarse)
}

#[cfg(target_os = "linux")]
#[inline]
fn kernel_millis(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).map_or(0, |seconds| seconds * 1000 + (time.tv_nsec / 1_000_000) as u64)
}

#[cfg(not(target_os = "linux"))]
fn fine_millis() -> u64 {
    Millis::from(SystemTime::now()).0
}

#[cfg(not(target_os = "linux"))]
fn coarse_millis() -> u64 {
    fine_millis()
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock::system"),
            Source::Manual(_) => write!(f, "ManualClock({:?})", self.now()),
        }
    }
}

/// A clock that stands still until it is told to move: for tests.
///
/// ```
/// use cloakroom::ManualClock;
/// use std::time::{Duration, SystemTime};
///
/// let time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
/// let clock = time.clock();
/// let before = clock.now();
/// time.advance(Duration::from_secs(30));
/// assert_eq!(clock.now(), before + Duration::from_secs(30));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Manual>);

impl ManualClock {
    /// A clock that shows `start`, cut to the millisecond.
    pub fn starting_at(start: SystemTime) -> Self {
        let shown = AtomicU64::new(Millis::from(start).0);
        ManualClock(Arc::new(Manual { shown, highest: Highest::new() }))
    }

    /// The clock to hand to a manager or a provider. It follows every later [`advance`](Self::advance).
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Moves the time on by `step`, which is cut to the millisecond.
    ///
    /// ```
    /// use cloakroom::ManualClock;
    /// use std::time::Duration;
    ///
    /// let time = ManualClock::default();
    /// let before = time.clock().now();
    /// time.advance(Duration::from_secs(60));
    /// assert_eq!(time.clock().now(), before + Duration::from_secs(60));
    /// ```
    pub fn advance(&self, step: Duration) {
        self.0.shown.fetch_add(Millis::of(step), Ordering::SeqCst);
    }

    /// Sets the time, backwards too: as the system's clock may be set. The [`clock`](Self::clock) then stands still at the latest time
    /// that it has told, until this one has caught up.
    pub fn set(&self, time: SystemTime) {
        self.0.shown.store(Millis::from(time).0, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// A clock that shows the system's time of now, and from then on stands still.
    fn default() -> Self {
        Self::starting_at(SystemTime::now())
    }
}

/// Milliseconds since 1970 in UTC: how deadlines are stored and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    /// Later than any clock will show: "no deadline".
    pub(crate) const NEVER: Millis = Millis(u64::MAX);

    pub(crate) fn of(duration: Duration) -> u64 {
        duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
    }

    #[allow(dead_code, reason = "providers need it, and they are features")]
    pub(crate) fn after(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_add(Self::of(duration)))
    }

    #[allow(dead_code, reason = "a provider needs it, and it is a feature")]
    pub(crate) fn before(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_sub(Self::of(duration)))
    }

    /// How long since `earlier`; nothing where the clock has gone backwards.
    pub(crate) fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Millis {
    /// A time before 1970 becomes 1970, one past the range the last there is.
    fn from(time: SystemTime) -> Self {
        Millis(time.duration_since(UNIX_EPOCH).map_or(0, Millis::of))
    }
}

impl From<Millis> for SystemTime {
    fn from(millis: Millis) -> Self {
        // A stored number may be any: what the platform cannot show is shown as the latest it can (year 9999).
        const LATEST: Duration = Duration::from_secs(253_402_300_799);
        UNIX_EPOCH + Duration::from_millis(millis.0).min(LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stored_number_is_a_time() {
        assert_eq!(SystemTime::from(Millis(0)), UNIX_EPOCH);
        assert!(SystemTime::from(Millis::NEVER) > SystemTime::now());
        assert_eq!(Millis(5).after(Duration::MAX), Millis::NEVER);
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_at_its_own_pace() {
        let (highest, start) = (Highest::new(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(highest.tell(1_000), 1_000);
        assert_eq!(highest.go_on(1_000, start), 1_000, "set back, noticed at once");
        assert_eq!(highest.go_on(1_000, after(40)), 1_040);
        assert_eq!(highest.go_on(1_040, after(70)), 1_070);
        assert_eq!(highest.tell(5_000), 5_000, "set right again");
        assert_eq!(highest.go_on(5_000, after(80)), 5_000, "set back once more");
        assert_eq!(highest.go_on(5_000, after(95)), 5_015);
        assert_eq!(highest.tell(5_015), 5_015);
    }

    #[test]
    fn a_manual_clock_tells_no_time_twice() {
        let time = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(100));
        let clock = time.clock();
        let told = clock.now();
        time.set(UNIX_EPOCH + Duration::from_secs(40));
        assert_eq!(clock.now(), told);
        time.advance(Duration::from_secs(61));
        assert_eq!(clock.now(), told + Duration::from_secs(1));
    }

    #[test]
    fn a_clock_that_went_back_has_seen_no_time_pass() {
        assert_eq!(Millis(10).since(Millis(25)), Duration::ZERO);
    }
}
