//! Protection against forged requests (CSRF): those that another site's page sends with a visitor's cookies.

#[cfg(feature = "axum")]
mod axum;
mod body;
mod layer;
mod origin;
mod token;

pub use body::CsrfBody;
pub use layer::{CsrfFuture, CsrfLayer, CsrfService};
pub use token::CsrfToken;
