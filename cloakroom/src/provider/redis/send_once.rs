//! One attempt to send commands to a server and receive the replies.

use std::pin::pin;
use std::sync::Arc;

use redis::Value;
use tokio::time::Instant;

use super::connection::Commands;
use super::failure::{Deadline, Failure, first_error};
use super::pool::ServerPool;

/// Sends the commands on a connection of the pool. Fails with the error of the first command, if it has one.
pub(super) async fn send_once(
    pool: &Arc<ServerPool>,
    commands: &Commands,
    deadline: Deadline,
) -> Result<Vec<Value>, Failure> {
    let mut now = Instant::now();
    let connection = match pool.ready(now) {
        Some(connection) => connection,
        // Boxed, here as elsewhere: a rare and large future would make the future of every call as large.
        None => {
            let connection =
                Box::pin(deadline.wait_for(pool.connection())).await?.map_err(Failure::NotSent)?;
            now = Instant::now();
            connection
        }
    };
    let call = pin!(connection.call(commands, now));
    let answers = match pool.wait_for_reply(&connection, call, now, deadline).await {
        Ok(answers) => answers.map_err(Failure::Call).and_then(first_error),
        Err(late) => Err(late),
    };
    answers.inspect_err(|failure| pool.handle_failure(&connection, failure))
}
