//! Middleware: gives each request a session handle, and commits the session before the response leaves.

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
