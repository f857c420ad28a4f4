//! What the API answers when it cannot do what it was asked: a status, and `{"error": ".."}` without internals.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cloakroom::{Error, ErrorKind};

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        ApiError { status, text: text.into() }
    }

    pub(super) fn bad_input(text: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn anonymous() -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, "nobody is logged in")
    }

    /// What a client may know of `error`: its own text is for logs.
    pub(super) fn of(error: &Error) -> Self {
        let text = match error.kind() {
            ErrorKind::Gone => "the session has ended",
            ErrorKind::Conflict => "other requests kept changing the session first; try again",
            ErrorKind::TooLarge => "a limit of the session is exceeded",
            ErrorKind::Unavailable | ErrorKind::Timeout => "the session store does not answer; try again",
            ErrorKind::Unsupported => {
                return ApiError::new(StatusCode::NOT_IMPLEMENTED, "this session store keeps no lists");
            }
            ErrorKind::Value => return ApiError::bad_input("the value does not fit"),
            _ => error.status().canonical_reason().unwrap_or("error"),
        };
        ApiError::new(error.status(), text)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let expected = matches!(error.kind(), ErrorKind::Value | ErrorKind::Unsupported);
        if error.status().is_server_error() && !expected {
            tracing::error!(%error, "a request failed");
        }
        ApiError::of(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.text }))).into_response()
    }
}
