//! The source of time: the system clock, or a clock that a test sets.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sync::locks::Mutex;

/// The source of time for a manager and its provider.
///
/// A clone returns the same time. A manager and its provider must use the same clock, so that they agree on deadlines.
///
/// Time never goes backwards within a process, so an expired session stays expired. If the system clock is set back, time
/// continues from its latest value at normal speed until the system clock has caught up.
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

/// The latest time that any system clock in this process has returned.
static SYSTEM: Highest = Highest::new();

/// The latest returned time, and how time continues from it while the underlying clock is behind.
#[derive(Debug)]
struct Highest {
    millis: AtomicU64,
    /// A monotonic instant, with the time that was returned at it.
    anchor: Mutex<Option<(Instant, u64)>>,
}

impl Highest {
    const fn new() -> Self {
        Highest { millis: AtomicU64::new(0), anchor: Mutex::new(None) }
    }

    /// Returns the time to use when the clock shows `shown`.
    #[inline]
    fn tell(&self, shown: u64) -> u64 {
        let highest = self.millis.load(Ordering::Relaxed);
        match shown.cmp(&highest) {
            std::cmp::Ordering::Equal => shown,
            // This writes at most once per millisecond; other calls only read.
            std::cmp::Ordering::Greater => shown.max(self.millis.fetch_max(shown, Ordering::Relaxed)),
            std::cmp::Ordering::Less => self.go_on(highest, Instant::now()),
        }
    }

    /// Returns the later of `shown` and the latest returned time.
    #[inline]
    fn at_least(&self, shown: u64) -> u64 {
        let highest = self.millis.load(Ordering::Relaxed);
        if shown <= highest {
            return highest;
        }
        shown.max(self.millis.fetch_max(shown, Ordering::Relaxed))
    }

    #[cold]
    fn go_on(&self, highest: u64, at: Instant) -> u64 {
        let mut anchor = self.anchor.lock();
        let continued = anchor.map(|(moment, told)| {
            told.saturating_add(Millis::count_in(at.saturating_duration_since(moment)))
        });
        match continued.filter(|time| *time >= highest) {
            Some(time) => time.max(self.millis.fetch_max(time, Ordering::Relaxed)),
            // The clock is behind for the first time, or for the first time since it had caught up.
            None => {
                *anchor = Some((at, highest));
                highest
            }
        }
    }
}

impl Clock {
    /// Returns the clock of the operating system, in UTC. It is the default of managers and providers.
    ///
    /// ```
    /// use cloakroom::{Clock, ManualClock};
    ///
    /// assert_eq!(Clock::system(), Clock::default());
    /// assert_ne!(Clock::system(), ManualClock::default().clock());
    /// ```
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// Returns the current time, to the millisecond.
    ///
    /// ```
    /// use cloakroom::Clock;
    ///
    /// let clock = Clock::system();
    /// let first = clock.now();
    /// assert!(clock.now() >= first, "it never goes backwards");
    /// ```
    pub fn now(&self) -> SystemTime {
        self.millis().into()
    }

    /// Returns the time of the last kernel tick, 1 to 10 ms ago, but never earlier than a returned time.
    ///
    /// It is for deadline checks, which every request does. A time that is stored comes from [`millis`](Self::millis).
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

/// Reads the system clock to the millisecond.
#[cfg(target_os = "linux")]
#[inline]
fn fine_millis() -> u64 {
    kernel_millis(rustix::time::ClockId::Realtime)
}

/// Reads the system clock as of the last kernel tick, which is ten times as fast.
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

/// Two system clocks are equal, and so are two handles on one manual clock.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::System, Source::System) => true,
            (Source::Manual(one), Source::Manual(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Clock {}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock::system"),
            Source::Manual(_) => write!(f, "ManualClock({:?})", self.now()),
        }
    }
}

/// A clock for tests, which moves only when it is told to.
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
    /// Returns a clock that shows `start`, cut to the millisecond. [`ManualClock::default`] starts now.
    ///
    /// ```
    /// use cloakroom::ManualClock;
    /// use std::time::{Duration, SystemTime};
    ///
    /// let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    /// assert_eq!(ManualClock::starting_at(start).clock().now(), start);
    /// ```
    pub fn starting_at(start: SystemTime) -> Self {
        let shown = AtomicU64::new(Millis::from(start).0);
        ManualClock(Arc::new(Manual { shown, highest: Highest::new() }))
    }

    /// Returns the clock for a manager or a provider. It follows every later [`advance`](Self::advance).
    ///
    /// ```
    /// # use cloakroom::{ManualClock, Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let time = ManualClock::default();
    /// let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    ///
    /// let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// time.advance(std::time::Duration::from_secs(31 * 60));
    /// assert_eq!(sessions.active_sessions().await?, 0, "idle for over 30 minutes");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(Arc::clone(&self.0)))
    }

    /// Advances the time by `step`, cut to the millisecond.
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
        self.0.shown.fetch_add(Millis::count_in(step), Ordering::SeqCst);
    }

    /// Sets the time, forwards or backwards, as the system clock may be set.
    ///
    /// After a step back, the [`clock`](Self::clock) returns its latest time until this time has caught up.
    ///
    /// ```
    /// use cloakroom::ManualClock;
    /// use std::time::Duration;
    ///
    /// let time = ManualClock::default();
    /// let clock = time.clock();
    /// let noon = clock.now();
    /// time.set(noon - Duration::from_secs(60));
    /// assert_eq!(clock.now(), noon, "time does not go back");
    /// time.set(noon + Duration::from_secs(60));
    /// assert_eq!(clock.now(), noon + Duration::from_secs(60));
    /// ```
    pub fn set(&self, time: SystemTime) {
        self.0.shown.store(Millis::from(time).0, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// Returns a clock that starts at the current system time.
    fn default() -> Self {
        Self::starting_at(SystemTime::now())
    }
}

/// Milliseconds since 1970 in UTC, the form in which deadlines are stored and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    /// The time that is never reached: "no deadline".
    pub(crate) const NEVER: Millis = Millis(u64::MAX);

    /// Returns the number of whole milliseconds in `duration`; `u64::MAX` if there are more.
    pub(crate) fn count_in(duration: Duration) -> u64 {
        duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
    }

    #[allow(dead_code, reason = "providers need it, and they are features")]
    pub(crate) fn after(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_add(Self::count_in(duration)))
    }

    #[allow(dead_code, reason = "a provider needs it, and it is a feature")]
    pub(crate) fn before(self, duration: Duration) -> Millis {
        Millis(self.0.saturating_sub(Self::count_in(duration)))
    }

    /// Returns the time since `earlier`; zero if the clock went backwards.
    pub(crate) fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Millis {
    /// Converts a time. One before 1970 becomes 1970, and one past the range becomes the last that there is.
    fn from(time: SystemTime) -> Self {
        Millis(time.duration_since(UNIX_EPOCH).map_or(0, Millis::count_in))
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
    fn a_clock_that_is_set_back_continues_at_normal_speed() {
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
    fn a_manual_clock_never_goes_backwards() {
        let time = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(100));
        let clock = time.clock();
        let told = clock.now();
        time.set(UNIX_EPOCH + Duration::from_secs(40));
        assert_eq!(clock.now(), told);
        time.advance(Duration::from_secs(61));
        assert_eq!(clock.now(), told + Duration::from_secs(1));
    }

    #[test]
    fn after_a_step_back_no_time_has_passed() {
        assert_eq!(Millis(10).since(Millis(25)), Duration::ZERO);
    }
}
