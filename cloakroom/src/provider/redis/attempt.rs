//! One attempt to have commands done by a server, and why it failed.

use std::sync::Arc;

use redis::{Pipeline, RedisError, Value};

use super::error::StoreError;
use super::pool::Pool;

/// Why one attempt failed.
pub(super) enum Failure {
    /// There was no connection: nothing was sent.
    NotSent(StoreError),
    /// The server's own error, or what happened to the connection.
    Call(RedisError),
}

/// Sends the commands on a connection of the pool; an error of the first one is the attempt's.
pub(super) async fn attempt(pool: &Arc<Pool>, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
    let link = pool.link().await.map_err(Failure::NotSent)?;
    let answers = pool.watch(&link, link.call(commands)).await.map_err(Failure::Call)?;
    first_error(answers)
}

pub(super) fn first_error(answers: Vec<Value>) -> Result<Vec<Value>, Failure> {
    match answers.first() {
        Some(Value::ServerError(error)) => Err(Failure::Call(error.clone().into())),
        _ => Ok(answers),
    }
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Failure::NotSent(error) => error,
            Failure::Call(error) => StoreError::of_call(&error),
        }
    }
}
