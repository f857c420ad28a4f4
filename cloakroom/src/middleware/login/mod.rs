//! Handlers that need a user: redirects to the login page, 401 for APIs, and the application's own user.
//!
//! The rules (`rules.rs`), the answer to a denied request (`denial.rs`) and the way back (`next.rs`) know no framework. `layer.rs` is the
//! `tower` layer, and `axum.rs` the extractor. The chapter [users](crate::guide::users#handlers-that-need-a-login) shows both.

#[cfg(feature = "axum")]
mod axum;
mod denial;
#[cfg(feature = "tower")]
mod layer;
mod next;
mod rules;

#[cfg(feature = "axum")]
pub use axum::LoggedIn;
pub use denial::LoginDenial;
#[cfg(feature = "tower")]
pub use layer::{LoginLayer, LoginService};
pub use next::NextPath;
pub use rules::{AnyLogin, LoginNeed, LoginPage, LoginRules};
