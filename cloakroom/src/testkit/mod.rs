//! Tools for tests: logged-in requests, sample records, and the conformance suite and the model test of the provider contract.
//!
//! Enable the feature `testkit` in `[dev-dependencies]` only. The functions here panic, as tests do.
//!
//! # Applications
//!
//! [`TestSession`] stores a session and returns the headers of a request that carries it:
//!
//! ```
//! use cloakroom::testkit::TestSession;
//! use cloakroom::{ManualClock, Manager, MemoryProvider};
//! use std::time::Duration;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let time = ManualClock::default();
//! let provider = MemoryProvider::builder().clock(time.clock()).build();
//! let sessions = Manager::builder(provider).clock(time.clock()).build()?;
//!
//! let headers = TestSession::new(&sessions).principal("alice").headers().await;
//! assert!(sessions.start(&headers).await?.principal().is_some());
//!
//! time.advance(Duration::from_secs(31 * 60));
//! assert!(sessions.start(&headers).await?.principal().is_none(), "the session was idle for over 30 minutes");
//! # Ok::<(), cloakroom::Error>(()) }).unwrap();
//! ```
//!
//! # Providers
//!
//! A provider in a crate of its own runs the suite from its `tests/conformance.rs`:
//!
//! ```
//! use cloakroom::MemoryProvider;
//!
//! cloakroom::conformance!(memory, |clock| async move { MemoryProvider::builder().clock(clock).build() });
//! # fn main() {}
//! ```
//!
//! # Contents
//!
//! | tool | where |
//! |---|---|
//! | a session with user, level, lifetime, data and CSRF token, for a request | [`TestSession`] |
//! | a clock that the test sets | [`ManualClock`](crate::ManualClock) |
//! | one test for each sentence of the contract | [`conformance!`](crate::conformance), [`conformance`] |
//! | random steps, compared with a plain map | [`model`] |
//! | sample records | [`record()`], [`RecordBuilder`] |
//! | a store that differs from another in a few methods | [`forward_provider!`](crate::forward_provider) |

pub mod conformance;
mod fixture;
mod forward;
pub mod model;
mod record;
mod session;
mod store;

pub use record::{RecordBuilder, base, record};
pub use session::TestSession;
pub use store::{Part, Store};
