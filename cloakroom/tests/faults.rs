//! Requests while the store fails, hangs, panics or lies, while they are cancelled, and while no id can be made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "faults/cancelled.rs"]
mod cancelled;
#[path = "faults/collection.rs"]
mod collection;
#[path = "faults/crowded.rs"]
mod crowded;
#[path = "faults/failing.rs"]
mod failing;
#[path = "faults/hanging.rs"]
mod hanging;
#[path = "faults/listing.rs"]
mod listing;
#[path = "faults/logged.rs"]
mod logged;
#[path = "faults/random.rs"]
mod random;
#[path = "faults/refusing.rs"]
mod refusing;
#[path = "faults/turns.rs"]
mod turns;

use axum::Router;
use axum::routing::get;
use cloakroom::{Manager, Session, SessionLayer};

use support::alice;

/// A site with a path for each kind of change.
fn site(sessions: &Manager) -> Router {
    let read = async |session: Session| format!("{:?}", session.get::<u64>("n").unwrap());
    Router::new()
        .route("/read", get(read))
        .route("/set", get(async |session: Session| session.set("n", 2).unwrap()))
        .route("/login", get(async |session: Session| session.authenticate(alice()).unwrap()))
        .route("/regenerate", get(async |session: Session| session.regenerate().unwrap()))
        .route("/logout", get(async |session: Session| session.destroy().unwrap()))
        .layer(SessionLayer::new(sessions.clone()))
}
