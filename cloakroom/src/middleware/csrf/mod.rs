//! Protection against forged requests (CSRF): requests that another site's page sends with a visitor's cookies.
//!
//! The rules (`rules.rs`) know no framework. They first compare the request's origin with its host, as the browser names them
//! (`origin.rs`). Then they compare the token in the header or the form (`form.rs`) with the visitor's secret (`token.rs`). The secret is
//! in the session, or in a cookie of its own while the visitor has no session. `layer.rs` and `body.rs` are the `tower` layer. The chapter
//! [CSRF](crate::guide::csrf) has the rules.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tower")]
mod body;
mod form;
#[cfg(feature = "tower")]
mod layer;
mod origin;
mod rules;
mod token;

#[cfg(feature = "tower")]
pub use body::CsrfBody;
#[cfg(feature = "tower")]
pub use layer::{CsrfLayer, CsrfService};
pub use origin::PageOrigin;
pub use rules::{CsrfForm, CsrfRules, CsrfVerdict};
pub use token::CsrfToken;
