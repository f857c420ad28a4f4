//! `Session` as an argument of axum handlers.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::{Error, ErrorKind};
use crate::session::{Session, SessionData, SessionHandle, Typed};

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    /// Reads the session, once a request however often it is extracted. What is answered if the store fails is the
    /// error's own response: 503, and a body that tells nothing.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let Some(handle) = parts.extensions.get::<SessionHandle>() else {
            return Err(Error::new(ErrorKind::NoLayer, NoLayer));
        };
        let loaded = match handle.load_at_once() {
            Some(loaded) => loaded,
            None => handle.load_waiting().await,
        };
        loaded.inspect_err(|error| tracing::error!(%error, "the session of a request could not be read"))
    }
}

impl<S: Sync, T: SessionData + Send> FromRequestParts<S> for Typed<T> {
    type Rejection = Error;

    /// Reads the session and the struct in it. What is answered if that fails is the error's own response.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let session = Session::from_request_parts(parts, state).await?;
        session
            .typed()
            .inspect_err(|error| tracing::error!(%error, "a struct in a session could not be read"))
    }
}

impl IntoResponse for Error {
    /// The [status](Error::status) and its name. The text of the error is for logs.
    fn into_response(self) -> Response {
        let status = self.status();
        (status, status.canonical_reason().unwrap_or_default()).into_response()
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a SessionLayer around this route, found none; add .layer(SessionLayer::new(manager)) to its router"
)]
struct NoLayer;
