//! Where requests meet sessions: a handle goes in before the handler, a commit comes before the response leaves.

#[cfg(feature = "axum")]
mod axum;
mod body;
#[cfg(feature = "csrf")]
pub(crate) mod csrf;
mod log;
pub(crate) mod tower;

#[cfg(feature = "csrf")]
pub use csrf::{CsrfBody, CsrfFuture, CsrfLayer, CsrfService, CsrfToken};
pub use tower::{OnEnded, OnError, PlainErrors, RefuseEnded, ResponseFuture, SessionLayer, SessionService};
