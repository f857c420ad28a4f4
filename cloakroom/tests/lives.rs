//! The end of sessions, and a user's number of sessions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "lives/arrivals.rs"]
mod arrivals;
#[path = "lives/configured.rs"]
mod configured;
#[path = "lives/crowd.rs"]
mod crowd;
#[path = "lives/ended.rs"]
mod ended;
#[path = "lives/explained.rs"]
mod explained;
#[path = "support/hooked.rs"]
#[allow(dead_code, reason = "other test files use the rest")]
mod hooked;
#[path = "lives/lifetimes.rs"]
mod lifetimes;
#[path = "lives/upgraded.rs"]
mod upgraded;
#[path = "lives/users.rs"]
mod users;
#[path = "support/visitor.rs"]
mod visitor;
#[path = "lives/watched.rs"]
mod watched;
