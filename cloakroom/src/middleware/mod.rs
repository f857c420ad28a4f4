//! Middleware: gives each request a session handle, and commits the session before the response leaves.
//!
//! A layer does three things:
//!
//! 1. It puts a [`SessionHandle`](crate::session::SessionHandle) into the request's extensions. It reads nothing.
//! 2. It calls the service inside. A handler that needs the session loads it from the handle.
//! 3. It commits the session and writes the cookie into the response's headers.
//!
//! A response with 5xx or 408 commits nothing, and neither does a handler that panics or is cancelled. If the commit fails, the
//! layer replaces the response. The chapter [frameworks](crate::guide::frameworks) shows how to choose that response.

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
