//! The limits of a step: its deadline and its retries.

use std::future::Future;
use std::time::Duration;

/// The most attempts of a step whose key is created and removed by other calls between its statements.
pub(super) const MAX_ATTEMPTS: usize = 4;

/// An error that a step which took too long is given.
pub(super) trait DeadlineError {
    /// Returns the error of a step that took longer than `limit`.
    fn timeout(limit: Duration) -> Self;
}

/// The consequence of an error of a step for another attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Again {
    Never,
    AtOnce,
    /// After a random pause, so that conflicting calls do not meet again.
    AfterPause,
}

/// The deadline and the number of retries of each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepLimits {
    /// The time limit of one step, including the wait for a connection; `None` for no limit.
    pub(super) deadline: Option<Duration>,
    pub(super) retries: usize,
}

impl StepLimits {
    /// Returns the limits for a `deadline` of which zero means none.
    pub(super) fn new(deadline: Duration, retries: usize) -> Self {
        StepLimits { deadline: lasting(deadline), retries }
    }

    /// Runs a step on one key within the deadline.
    pub(super) async fn within_deadline<T, E: DeadlineError>(
        &self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        within(self.deadline, step).await
    }

    /// Runs a step on many rows within ten times the deadline, since no request waits for it.
    pub(super) async fn within_long_deadline<T, E: DeadlineError>(
        &self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        within(self.deadline.map(|deadline| deadline.saturating_mul(10)), step).await
    }

    /// Runs `step` again for as long as `again` allows it for the error, and retries are left.
    pub(super) async fn retry<T, E, R: Future<Output = Result<T, E>>>(
        &self,
        again: impl Fn(&E) -> Again,
        step: impl Fn() -> R,
    ) -> Result<T, E> {
        let mut tried = 0;
        loop {
            let error = match step().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = again(&error);
            if again == Again::Never || tried == self.retries {
                return Err(error);
            }
            tried += 1;
            if again == Again::AfterPause {
                tokio::time::sleep(pause(tried)).await;
            }
        }
    }
}

/// Returns a limit of which zero means none.
pub(super) fn lasting(limit: Duration) -> Option<Duration> {
    Some(limit).filter(|limit| !limit.is_zero())
}

/// Runs `step` within `limit`; `None` for no limit.
pub(super) async fn within<T, E: DeadlineError>(
    limit: Option<Duration>,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match limit {
        None => step.await,
        Some(limit) => {
            let answer = tokio::time::timeout(limit, step).await;
            answer.unwrap_or_else(|_| Err(E::timeout(limit)))
        }
    }
}

/// Returns a random pause of some milliseconds.
fn pause(tried: usize) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    Duration::from_millis(2).mul_f64(f64::from(chance) / f64::from(u32::MAX) * tried as f64 * 4.0)
}
