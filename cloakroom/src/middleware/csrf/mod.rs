//! Protection against requests that another site's page sends in a visitor's name.

#[cfg(feature = "axum")]
mod axum;
mod body;
mod layer;
mod origin;
mod token;

pub use body::CsrfBody;
pub use layer::{CsrfFuture, CsrfLayer, CsrfService};
pub use token::CsrfToken;
