//! The deadline of a call, and the reasons for which one attempt fails.

use std::future::Future;
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::time::Instant;

use super::error::StoreError;

/// The time at which a call fails, whatever its state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
}

/// The reason for which one attempt failed.
pub(super) enum Failure {
    /// The commands were not sent, since there was no connection.
    NotSent(StoreError),
    /// The server answered with an error before it changed anything, or the connection broke.
    Call(RedisError),
    /// A script failed after it had already written something.
    Broken(RedisError),
    /// The deadline passed.
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

    /// Waits for `answer` until the deadline.
    pub(super) async fn wait_for<T>(self, answer: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout_at(self.at, answer).await.map_err(|_| self.late())
    }
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Failure::NotSent(error) | Failure::Late(error) => error,
            Failure::Call(error) | Failure::Broken(error) => StoreError::of_call(&error),
        }
    }
}

/// Returns the replies, or the failure if the first one is a server's error or that of a script.
pub(super) fn first_error(answers: Vec<Value>) -> Result<Vec<Value>, Failure> {
    match answers.first() {
        Some(Value::ServerError(error)) => Err(Failure::Call(error.clone().into())),
        Some(Value::Array(parts)) => match refusal(parts) {
            Some((error, false)) => Err(Failure::Call(error)),
            Some((error, true)) => Err(Failure::Broken(error)),
            None => Ok(answers),
        },
        _ => Ok(answers),
    }
}

/// The first element of a reply that carries a script's error, as in `scripts/refused.lua`.
const REFUSED: &[u8] = b"cloakroom:refused";

/// Returns the error that a script reports as data, and whether the script had written something before.
///
/// A plain error reply would have a different form in each version of the server.
fn refusal(parts: &[Value]) -> Option<(RedisError, bool)> {
    let [Value::BulkString(mark), Value::BulkString(error), Value::Int(wrote)] = parts else { return None };
    if mark != REFUSED {
        return None;
    }
    let reply = [b"-", &error[..], b"\r\n"].concat();
    let error = redis::parse_redis_value(&reply).ok()?.extract_error().err()?;
    Some((error, *wrote == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mark: &[u8], error: &str, wrote: i64) -> Vec<Value> {
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        vec![Value::Array(vec![text(mark), text(error.as_bytes()), Value::Int(wrote)])]
    }

    #[test]
    fn an_error_inside_a_script_has_its_own_code() {
        let Err(Failure::Call(error)) = first_error(answer(REFUSED, "READONLY You can't", 0)) else {
            panic!()
        };
        assert_eq!(error.code(), Some("READONLY"));
        let Err(Failure::Broken(error)) = first_error(answer(REFUSED, "MISCONF no disk", 1)) else {
            panic!()
        };
        assert_eq!(error.code(), Some("MISCONF"));
    }

    #[test]
    fn a_record_that_a_script_returns_is_no_error() {
        let replies = answer(b"name", "record", 1);
        let Ok(found) = first_error(replies.clone()) else { panic!("it was taken for an error") };
        assert_eq!(found, replies);
    }
}
