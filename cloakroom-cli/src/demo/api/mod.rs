//! The demonstration's sessions as an HTTP API, for operators, tests and load generators.
//!
//! Bodies are JSON. Every path takes `?delay=` in milliseconds: a pause between the load of the session and the
//! handler's change to it.

mod error;
mod extract;

use std::time::SystemTime;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use cloakroom::{CsrfLayer, Error, ErrorKind, Manager, Principal, SessionLayer};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use self::error::ApiError;
use self::extract::{ApiSession, Body, LastSegment, Pause};
use super::times::rfc3339;

/// The largest body, in bytes. It is larger than a session may be, so that the session's own limit answers first.
const MAX_BODY: usize = 1 << 20;

/// Builds the routes below `/api`.
pub(super) fn routes(sessions: Manager) -> Router {
    let layer = SessionLayer::new(sessions.clone())
        .on_error(|error: &Error| ApiError::of(error).into_response())
        .on_ended(|_: Response| {
            ApiError::new(StatusCode::CONFLICT, "the session has ended; log in again").into_response()
        });
    Router::new()
        .route("/untouched", get(untouched))
        .route("/session", get(describe))
        .route("/session/data", delete(flush))
        .route("/session/data/{key}", get(read).put(write).delete(remove))
        .route("/session/data/{key}/increment", post(increment))
        .route("/session/regenerate", post(regenerate))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/sessions", get(list).delete(end_others))
        .route("/sessions/{handle}", delete(end_one))
        .route("/active", get(active))
        .route("/fail", post(fail))
        .fallback(no_such_path)
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(layer)
        .layer(CsrfLayer::new().origin_only().on_refused(|_: &Error| {
            ApiError::new(StatusCode::FORBIDDEN, "another site sent this request").into_response()
        }))
        .with_state(sessions)
}

/// Answers a path that the API does not have.
pub(super) async fn no_such_path() -> Response {
    ApiError::not_found("the API has no such path").into_response()
}

/// `GET /healthz`: answers without the session layer.
pub(super) async fn health(_: Pause) -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /api/untouched`: passes the session layer and never uses the session.
async fn untouched(_: Pause) -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The response to `GET /api/session`.
#[derive(Serialize)]
struct Description {
    present: bool,
    principal: Option<String>,
    created: Option<String>,
    last_active: Option<String>,
    expires: Option<String>,
    keys: Vec<String>,
}

async fn describe(ApiSession(session): ApiSession) -> Result<Json<Description>, ApiError> {
    let formatted = |time: Option<SystemTime>| time.and_then(rfc3339);
    let mut keys = session.keys()?;
    keys.sort_unstable();
    Ok(Json(Description {
        present: session.handle().is_some(),
        principal: session.principal().map(|user| user.as_str().to_owned()),
        created: formatted(session.created()),
        last_active: formatted(session.last_active()),
        expires: formatted(session.expires()),
        keys,
    }))
}

async fn read(
    ApiSession(session): ApiSession,
    LastSegment(key): LastSegment,
) -> Result<Json<Value>, ApiError> {
    session.get(&key)?.map(Json).ok_or_else(no_such_key)
}

async fn write(
    ApiSession(session): ApiSession,
    LastSegment(key): LastSegment,
    Body(value): Body<Value>,
) -> Result<StatusCode, ApiError> {
    session.set(&key, value)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    ApiSession(session): ApiSession,
    LastSegment(key): LastSegment,
) -> Result<StatusCode, ApiError> {
    if !session.contains(&key)? {
        return Err(no_such_key());
    }
    session.delete(&key)?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_such_key() -> ApiError {
    ApiError::not_found("the session has no value under this key")
}

async fn flush(ApiSession(session): ApiSession) -> Result<StatusCode, ApiError> {
    session.clear()?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/session/data/{key}/increment`: adds 1 atomically. A missing key counts as 0.
async fn increment(
    ApiSession(session): ApiSession,
    LastSegment(key): LastSegment,
) -> Result<Json<Number>, ApiError> {
    let mut overflows = false;
    let one_more = |old: Option<Number>| {
        let old = old.unwrap_or_else(|| 0.into());
        let new = successor(&old);
        overflows = new.is_none();
        new.unwrap_or(old)
    };
    let number = session.update(&key, one_more).await.map_err(|error| match error.kind() {
        ErrorKind::Value => ApiError::bad_input("the value under this key is not a number"),
        _ => error.into(),
    })?;
    if overflows {
        return Err(ApiError::bad_input("the number is already the largest possible"));
    }
    Ok(Json(number))
}

/// Returns the number plus one, or `None` past the largest integer of 64 bits.
fn successor(number: &Number) -> Option<Number> {
    if let Some(number) = number.as_i64().and_then(|number| number.checked_add(1)) {
        return Some(number.into());
    }
    match number.as_u64() {
        Some(number) => number.checked_add(1).map(Number::from),
        None => number.as_f64().and_then(|number| Number::from_f64(number + 1.0)),
    }
}

async fn regenerate(ApiSession(session): ApiSession) -> Result<StatusCode, ApiError> {
    session.regenerate()?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body of `POST /api/login`.
#[derive(Deserialize)]
struct Login {
    user: String,
}

async fn login(
    ApiSession(session): ApiSession,
    Body(Login { user }): Body<Login>,
) -> Result<StatusCode, ApiError> {
    let principal = Principal::new(&user).map_err(|_| {
        ApiError::bad_input(format!(
            "expected a user of 1 to {} bytes, found another length",
            Principal::MAX_LEN
        ))
    })?;
    session.authenticate(principal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(ApiSession(session): ApiSession) -> Result<StatusCode, ApiError> {
    session.destroy()?;
    Ok(StatusCode::NO_CONTENT)
}

/// One entry of `GET /api/sessions`.
#[derive(Serialize)]
struct Device {
    handle: String,
    created: Option<String>,
    last_active: Option<String>,
    expires: Option<String>,
    current: bool,
}

async fn list(
    State(sessions): State<Manager>,
    ApiSession(session): ApiSession,
) -> Result<Json<Vec<Device>>, ApiError> {
    let principal = session.principal().ok_or_else(ApiError::anonymous)?;
    let current = session.handle();
    let devices = sessions.sessions_of(&principal).await?.into_iter().map(|listed| {
        let handle = listed.key.handle();
        Device {
            current: Some(&handle) == current.as_ref(),
            handle,
            created: rfc3339(listed.meta.created()),
            last_active: rfc3339(listed.meta.last_active()),
            expires: rfc3339(listed.meta.expires()),
        }
    });
    Ok(Json(devices.collect()))
}

async fn end_one(
    State(sessions): State<Manager>,
    ApiSession(session): ApiSession,
    LastSegment(handle): LastSegment,
) -> Result<StatusCode, ApiError> {
    let principal = session.principal().ok_or_else(ApiError::anonymous)?;
    if session.handle().as_ref() == Some(&handle) {
        session.destroy()?;
    } else if !sessions.end_session(&principal, &handle).await? {
        return Err(ApiError::not_found("the user has no session with this handle"));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn end_others(
    State(sessions): State<Manager>,
    ApiSession(session): ApiSession,
) -> Result<Json<Value>, ApiError> {
    session.principal().ok_or_else(ApiError::anonymous)?;
    let ended = sessions.end_other_sessions(&session).await?;
    Ok(Json(json!({ "ended": ended })))
}

async fn active(_: Pause, State(sessions): State<Manager>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "active": sessions.active_sessions().await? })))
}

/// `POST /api/fail`: changes the session and answers 500, so that the change is not stored.
async fn fail(ApiSession(session): ApiSession) -> Result<StatusCode, ApiError> {
    session.set("failed", true)?;
    Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed on request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increment_is_exact_up_to_the_largest_integer() {
        let next = |text: &str| successor(&text.parse().unwrap()).map(|number| number.to_string());
        assert_eq!(next("-1").unwrap(), "0");
        assert_eq!(next("1.5").unwrap(), "2.5");
        assert_eq!(next("9223372036854775807").unwrap(), "9223372036854775808");
        assert_eq!(next("18446744073709551614").unwrap(), "18446744073709551615");
        assert_eq!(next("18446744073709551615"), None);
    }
}
