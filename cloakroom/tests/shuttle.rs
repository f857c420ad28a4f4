//! The memory provider and the commit, with the steps of several threads in every order or in very many.
//!
//! Each lock, atomic and wait is a point where shuttle may switch to another thread. `cargo xtask test` builds these
//! tests apart.

#![cfg(shuttle)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "shuttle/commits.rs"]
mod commits;
#[path = "shuttle/explore.rs"]
mod explore;
#[path = "shuttle/model.rs"]
mod model;
#[path = "shuttle/store.rs"]
mod store;
#[path = "support/visitor.rs"]
mod visitor;
