//! How long a call may take, and why an attempt at it failed.

use std::future::Future;
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::time::Instant;

use super::error::StoreError;

/// When a call is over, whatever has become of it by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
}

/// Why one attempt failed.
pub(super) enum Failure {
    /// There was no connection: nothing was sent.
    NotSent(StoreError),
    /// The server's own error, or what happened to the connection.
    Call(RedisError),
    /// The time was over.
    Late(StoreError),
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Deadline {
        Deadline { at: Instant::now() + limit, limit }
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    pub(super) fn late(self) -> Failure {
        Failure::Late(StoreError::Late { limit: self.limit })
    }

    /// Waits for `answer` until then.
    pub(super) async fn wait_for<T>(self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout_at(self.at, answer).await.map_err(|_| self.late())
    }
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Failure::NotSent(error) | Failure::Late(error) => error,
            Failure::Call(error) => StoreError::of_call(&error),
        }
    }
}

/// The answers, where the first is not a server's error.
pub(super) fn first_error(answers: Vec<Value>) -> Result<Vec<Value>, Failure> {
    match answers.first() {
        Some(Value::ServerError(error)) => Err(Failure::Call(error.clone().into())),
        _ => Ok(answers),
    }
}
