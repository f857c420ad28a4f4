//! The memory provider and the commit in every order, or in very many, of the steps that threads may take between one
//! another: each lock, atomic and wait is a place where another may go on. For `cargo xtask test`, which builds it apart.

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
