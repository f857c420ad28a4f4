//! The layer around axum routers and plain tower services: what it costs, what it commits, and what its responses say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "middleware/commit.rs"]
mod commit;
#[path = "middleware/lazy.rs"]
mod lazy;
#[path = "middleware/respond.rs"]
mod respond;
