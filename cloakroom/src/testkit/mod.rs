//! For tests: logged-in requests, records to measure, the conformance suite and the model test of the provider contract.
//!
//! A provider in a crate of its own proves itself in a few lines, in `tests/conformance.rs`:
//!
//! ```
//! use cloakroom::MemoryProvider;
//!
//! cloakroom::conformance!(memory, |clock| async move { MemoryProvider::builder().clock(clock).build() });
//! # fn main() {}
//! ```
//!
//! | what | where |
//! |---|---|
//! | one test for each sentence of the contract | [`conformance!`](crate::conformance), [`conformance`] |
//! | a random walk beside a plain map | [`model`] |
//! | records made to measure | [`record()`], [`RecordBuilder`] |
//! | a logged-in request in one line, for applications: user, level, lifetime, data, CSRF token | [`TestSession`] |
//! | a clock that the test sets | [`ManualClock`](crate::ManualClock) |
//!
//! The feature `testkit` belongs into `[dev-dependencies]`: what is here panics, as tests do.

pub mod conformance;
mod fixture;
pub mod model;
mod record;
mod session;
mod store;

pub use record::{RecordBuilder, record};
pub use session::TestSession;
pub use store::{Part, Store};
