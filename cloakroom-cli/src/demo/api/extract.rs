//! Extractors for the API's handlers. Each one answers an error in JSON.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use cloakroom::Session;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The loaded session. The pause that `?delay=` asks for comes after the load and before the handler.
pub(super) struct ApiSession(pub(super) Session);

impl<S: Send + Sync> FromRequestParts<S> for ApiSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let delay = Delay::from_query(parts, state).await?;
        let session =
            Session::from_request_parts(parts, state).await.map_err(|error| ApiError::of(&error))?;
        delay.pass().await;
        Ok(ApiSession(session))
    }
}

/// The pause that `?delay=` asks for, on a route that loads no session.
pub(crate) struct Pause;

impl<S: Send + Sync> FromRequestParts<S> for Pause {
    type Rejection = axum::response::Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let delay = Delay::from_query(parts, state).await.map_err(IntoResponse::into_response)?;
        delay.pass().await;
        Ok(Pause)
    }
}

/// The query parameter `?delay=`, in milliseconds.
#[derive(Deserialize)]
struct Delay {
    #[serde(default)]
    delay: u64,
}

impl Delay {
    /// The longest pause, in milliseconds. A longer one would only hold connections open.
    const MAX: u64 = 60_000;

    async fn from_query<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = Query::<Delay>::from_request_parts(parts, state).await.ok().map(|Query(delay)| delay);
        found.filter(|delay| delay.delay <= Delay::MAX).ok_or_else(|| {
            ApiError::bad_input(format!("expected ?delay= as 0 to {} milliseconds", Delay::MAX))
        })
    }

    async fn pass(self) {
        if self.delay > 0 {
            tracing::debug!(milliseconds = self.delay, "pausing");
            tokio::time::sleep(Duration::from_millis(self.delay)).await;
        }
    }
}

/// The last segment of the path: a data key or a session handle.
pub(super) struct LastSegment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for LastSegment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(LastSegment(name)),
            Err(_) => Err(ApiError::bad_input("expected a path in percent-encoded UTF-8, found other bytes")),
        }
    }
}

/// The body, parsed as JSON. The content type is not checked.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    ApiError::new(rejection.status(), "the body is larger than 1 MiB")
                }
                _ => ApiError::bad_input("the body could not be read"),
            })?;
        let value = serde_json::from_slice(&bytes);
        value
            .map(Body)
            .map_err(|error| ApiError::bad_input(format!("the body is not the expected JSON: {error}")))
    }
}
