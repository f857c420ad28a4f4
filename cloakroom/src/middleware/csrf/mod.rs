//! Protection against forged requests (CSRF): requests that another site's page sends with a visitor's cookies.
//!
//! The layer first compares the request's origin with its host, as the browser names them (`origin.rs`). Then it compares the token
//! in the header or the form (`body.rs`) with the visitor's secret (`token.rs`). The secret is in the session, or in a cookie of
//! its own while the visitor has no session. The chapter [CSRF](crate::guide::csrf) has the rules.

#[cfg(feature = "axum")]
mod axum;
mod body;
mod layer;
mod origin;
mod token;

pub use body::CsrfBody;
pub use layer::{CsrfFuture, CsrfLayer, CsrfService};
pub use token::CsrfToken;
