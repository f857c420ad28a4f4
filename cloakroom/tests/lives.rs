//! How sessions end, and how many of them a user has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "lives/ended.rs"]
mod ended;
#[path = "lives/explained.rs"]
mod explained;
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
