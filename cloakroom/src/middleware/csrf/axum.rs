//! The axum extractor of `CsrfToken`.

use axum_core::extract::FromRequestParts;
use http::request::Parts;

use super::CsrfToken;
use crate::error::Error;
use crate::session::Session;

impl<S: Sync> FromRequestParts<S> for CsrfToken {
    type Rejection = Error;

    /// Returns the token for a form on the handler's page, as [`Session::csrf_token`] does. A visitor without a session gets no
    /// session by it.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let session = Session::from_request_parts(parts, state).await?;
        session
            .csrf_token()
            .await
            .inspect_err(|error| error.log("a request could not get a token for its form"))
    }
}
