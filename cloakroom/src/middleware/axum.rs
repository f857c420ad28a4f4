//! The axum extractors of `Session` and `Typed`, and the response of an `Error`.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::{Error, ErrorKind};
use crate::session::{Session, SessionData, SessionHandle, Typed};

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    /// Reads the session. A request reads it once, however often it is extracted.
    ///
    /// If the store fails, the response is that of the error: 503, with a body that gives no details.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        const FAILED: &str = "a request could not read its session";
        let Some(handle) = parts.extensions.get::<SessionHandle>() else {
            let error = Error::new(ErrorKind::NoLayer, NoLayer);
            error.log(FAILED);
            return Err(error);
        };
        let loaded = match handle.0.load_at_once() {
            Some(loaded) => loaded,
            None => Box::pin(handle.0.load_waiting()).await,
        };
        handle.loaded_for(loaded, parts).inspect_err(|error| error.log(FAILED))
    }
}

impl<S: Sync, T: SessionData + Send> FromRequestParts<S> for Typed<T> {
    type Rejection = Error;

    /// Reads the session and the struct in it. If that fails, the response is that of the error.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let session = Session::from_request_parts(parts, state).await?;
        session.typed().inspect_err(|error| error.log("a request could not read the struct in its session"))
    }
}

impl IntoResponse for Error {
    /// Returns the [status](Error::status) and a short sentence for visitors.
    ///
    /// Logs the text of the error, unless it was logged before: at ERROR for a fault of the server, at INFO or DEBUG for an error
    /// that a visitor can cause.
    fn into_response(self) -> Response {
        self.log("a handler answered with an error of its session");
        (self.status(), self.visitor_text()).into_response()
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a SessionLayer around this route, found none; add .layer(SessionLayer::new(manager)) to its router"
)]
struct NoLayer;
