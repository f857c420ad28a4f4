//! The watch over a session: it ends when the session does.

use std::time::Duration;

use crate::engine::{Stored, within};
use crate::request::{Exchange, Reached, look_again};

/// The interval at which the store is asked about a watched session: short enough to learn of its end within a second.
const WATCH: Duration = Duration::from_millis(700);

/// Waits until the session of `exchange` has ended. It follows a session that routine rotation gives another id.
pub(super) async fn until_the_end(exchange: &Exchange) {
    let engine = &exchange.engine;
    loop {
        let Some(former) = exchange.stored(Stored::clone) else { return };
        let found = within(engine.config.deadline.min(WATCH), look_again(engine, &former)).await.0;
        match found {
            Ok(Reached::Session(found)) => exchange.follow(found),
            Ok(Reached::Nobody | Reached::Ended(_)) => return,
            Err(error) => {
                tracing::debug!(%error, "a watched session could not be looked up; trying again")
            }
        }
        tokio::time::sleep(WATCH).await;
    }
}
