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
    /// The server's own error, before anything was done, or what happened to the connection.
    Call(RedisError),
    /// The server's error for a step of a script that had written something already.
    Broken(RedisError),
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
            Failure::Call(error) | Failure::Broken(error) => StoreError::of_call(&error),
        }
    }
}

/// The answers, where the first is not a server's error, and no script's that was refused a step.
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

/// The first part of a reply by which a script hands on an error, as in `scripts/record.lua`.
const REFUSED: &[u8] = b"cloakroom:refused";

/// The error that a script hands on, and whether it had written something before. As the reply itself it would have another form
/// with each version of the server.
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
        assert!(first_error(answer(b"name", "record", 1)).is_ok());
    }
}
