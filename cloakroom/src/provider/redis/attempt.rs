//! One attempt to have commands done by a server.

use std::pin::pin;
use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::failure::{Deadline, Failure, first_error};
use super::link::Commands;
use super::pool::Pool;

/// Sends the commands on a connection of the pool; an error of the first one is the attempt's.
pub(super) async fn attempt(
    pool: &Arc<Pool>,
    commands: &Commands,
    deadline: Deadline,
) -> Result<Vec<Value>, Failure> {
    let mut now = Instant::now();
    let link = match pool.ready(now) {
        Some(link) => link,
        // Boxed, here as elsewhere: what is rare and large would make every call's future as large.
        None => {
            let link = Box::pin(deadline.wait_for(pool.link())).await?.map_err(Failure::NotSent)?;
            now = Instant::now();
            link
        }
    };
    let call = pin!(link.call(commands, now));
    let answers = match pool.watch(&link, call, now, deadline).await {
        Ok(answers) => answers.map_err(Failure::Call).and_then(first_error),
        Err(late) => Err(late),
    };
    answers.inspect_err(|failure| pool.react(&link, failure))
}
