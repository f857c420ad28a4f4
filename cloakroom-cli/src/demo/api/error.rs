//! Errors of the API: a status and a body of `{"error": ".."}` that reveals nothing internal.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cloakroom::{Error, ErrorKind};

/// An error response of the API.
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
        ApiError::new(StatusCode::UNAUTHORIZED, "not logged in; call POST /api/login first")
    }

    /// Converts a session error. The client gets a fixed text; the error's own text is for the log.
    pub(super) fn of(error: &Error) -> Self {
        let text = match error.kind() {
            ErrorKind::Gone => "the session has ended; log in again",
            ErrorKind::Conflict => "other requests changed the session at the same time; try again",
            ErrorKind::TooLarge => "the session would exceed a size limit; nothing was stored",
            ErrorKind::Unavailable | ErrorKind::Timeout => {
                "the session store does not answer; try again later"
            }
            ErrorKind::Unsupported => {
                return ApiError::new(StatusCode::NOT_IMPLEMENTED, "this session store cannot list sessions");
            }
            ErrorKind::Value => return ApiError::bad_input("the stored value has another type"),
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
