//! The interval at which the time of a session's last use is written.

use std::time::Duration;

/// The number of uses stored within the time that they renew. So a session ends at most a twentieth of its idle timeout early, and a
/// session in steady use costs 20 writes for each idle timeout.
const USES_STORED: u32 = 20;

/// The longest time between two stored uses, so that lists of sessions show when each was used to within a minute.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// Returns the least time between two stored uses. `times` are those that a use renews: the idle timeout, the cookie's lifetime, the
/// token's age.
pub(crate) fn touch_interval(times: impl IntoIterator<Item = Option<Duration>>) -> Duration {
    let shortest = times.into_iter().flatten().fold(Duration::MAX, Duration::min);
    (shortest / USES_STORED).min(LONGEST_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_stored_before_the_shortest_time_it_renews() {
        let second = Duration::from_secs(1);
        assert_eq!(touch_interval([Some(20 * second)]), second);
        assert_eq!(touch_interval([Some(3_600 * second), Some(20 * second)]), second);
        assert_eq!(touch_interval([Some(3_600 * second), None, Some(40 * second)]), 2 * second);
        assert_eq!(touch_interval([Some(36_000 * second), None]), 60 * second, "a minute at most");
    }
}
