//! Another library's records in Redis: a string under each key, with a time to live.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Value;

use super::client::{CallKind, RedisClient};
use super::error::StoreError;
use super::script::Script;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::migration::{OldBytes, OldStore};

/// The only partition of a single server.
const ONLY: u16 = 0;

static READ_OLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local value = call('GET', KEYS[1])
     if not value then return false end
     return {value, call('PTTL', KEYS[1])}",
    )
});
static DELETE_OLD: LazyLock<Script> = LazyLock::new(|| Script::new("return call('DEL', KEYS[1])"));

/// The strings of one server.
pub(super) struct OldStrings {
    client: RedisClient,
    clock: Clock,
}

impl OldStrings {
    pub(super) fn new(client: RedisClient, clock: Clock) -> Self {
        OldStrings { client, clock }
    }

    async fn run(&self, script: &Script, key: &str) -> Result<Value, StoreError> {
        let keys = [key.to_owned()];
        let call = script.call(&keys, &[]);
        self.client.run(ONLY, &call, CallKind::Idempotent, self.client.deadline()).await
    }
}

impl OldStore for OldStrings {
    async fn load(&self, key: &str) -> Result<Option<OldBytes>> {
        let answer = match self.run(&READ_OLD, key).await {
            Err(StoreError::NotARecord) => return Err(Error::new(ErrorKind::Corrupt, NoString)),
            answer => answer?,
        };
        let Value::Array(parts) = answer else {
            return match answer {
                Value::Nil => Ok(None),
                _ => Err(StoreError::Form { expected: "our script's answer" }.into()),
            };
        };
        match <[Value; 2]>::try_from(parts) {
            Ok([Value::BulkString(bytes), Value::Int(left)]) => {
                // A value without a time to live has a negative one.
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                let expires = left.map(|left| self.clock.millis().after(left).into());
                Ok(Some(OldBytes::new(bytes, expires)))
            }
            _ => Err(StoreError::Form { expected: "our script's answer" }.into()),
        }
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        match self.run(&DELETE_OLD, key).await? {
            Value::Int(deleted) => Ok(deleted > 0),
            _ => Err(StoreError::Form { expected: "our script's answer" }.into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected a string under an old session's key, found a Redis value of another type")]
struct NoString;
