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
//!
//! # Adapters for other frameworks
//!
//! `SessionLayer` is an adapter for `tower` in front of public methods that know no framework. An adapter for
//! [your own framework](crate::guide::your_own_framework) uses the same ones:
//!
//! | step | call |
//! |---|---|
//! | a request arrives | [`Manager::handle`](crate::Manager::handle), or [`handle_of`](crate::Manager::handle_of) with a [`RequestHead`] |
//! | the handler finds the session | [`SessionHandle::insert_into`](crate::session::SessionHandle::insert_into), [`load_for`](crate::session::SessionHandle::load_for) |
//! | a request may be forged | `CsrfRules`, with the feature `csrf` |
//! | a handler needs a user | [`LoginRules`], [`NextPath`] |
//! | the response leaves | [`SessionHandle::release`](crate::session::SessionHandle::release), which returns an [`Outcome`] |
//! | an error becomes a response | [`Error::status`](crate::Error::status), [`visitor_text`](crate::Error::visitor_text), [`log`](crate::Error::log) |

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tower")]
mod body;
#[cfg(feature = "tower")]
mod checked;
#[cfg(feature = "csrf")]
pub(crate) mod csrf;
pub(crate) mod login;
#[cfg(feature = "tower")]
pub(crate) mod tower;

pub use crate::head::RequestHead;
pub use crate::session::{Outcome, Replacement};
#[cfg(feature = "tower")]
pub use checked::CheckedFuture;
#[cfg(all(feature = "csrf", feature = "tower"))]
pub use csrf::{CsrfBody, CsrfLayer, CsrfService};
#[cfg(feature = "csrf")]
pub use csrf::{CsrfForm, CsrfRules, CsrfToken, CsrfVerdict, PageOrigin};
#[cfg(feature = "axum")]
pub use login::LoggedIn;
pub use login::{AnyLogin, LoginDenial, LoginNeed, LoginPage, LoginRules, NextPath};
#[cfg(feature = "tower")]
pub use login::{LoginLayer, LoginService};
#[cfg(feature = "tower")]
pub use tower::{OnEnded, OnError, PlainErrors, RefuseEnded, ResponseFuture, SessionLayer, SessionService};
