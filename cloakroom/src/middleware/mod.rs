//! Where requests meet sessions: a handle goes in before the handler, a commit comes before the response leaves.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "csrf")]
pub(crate) mod csrf;
#[cfg(feature = "tower")]
pub(crate) mod tower;
