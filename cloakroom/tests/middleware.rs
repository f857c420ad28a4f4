//! The session layer around axum routers and plain tower services: its calls to the store, its commits, and its
//! responses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "middleware/adapters.rs"]
mod adapters;
#[path = "middleware/commit.rs"]
mod commit;
#[path = "middleware/cut_off.rs"]
mod cut_off;
#[path = "middleware/lazy.rs"]
mod lazy;
#[path = "middleware/logged.rs"]
mod logged;
#[path = "middleware/nested.rs"]
mod nested;
#[path = "middleware/respond.rs"]
mod respond;
#[path = "middleware/warned.rs"]
mod warned;
