//! The demonstration's sessions as an HTTP API, for operators, tests and load generators. Bodies are JSON; every path takes
//! `?delay=` in milliseconds, a pause between the loading of the session and the handler's change to it.

mod error;
mod extract;

use std::time::SystemTime;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use cloakroom::{Error, ErrorKind, Manager, Principal, SessionLayer};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use self::error::ApiError;
use self::extract::{Body, Name, Pause, Visit};
use super::origin;
use super::times::rfc3339;

/// More than a session takes by default, so that it is the session's own limit that answers; and less than what hurts.
const MAX_BODY: usize = 1 << 20;

/// Everything below `/api`.
pub(super) fn routes(sessions: Manager) -> Router {
    let layer = SessionLayer::new(sessions.clone())
        .on_error(|error: &Error| ApiError::of(error).into_response())
        .on_ended(|_: Response| ApiError::new(StatusCode::CONFLICT, "the session has ended").into_response());
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
        .fallback(nothing)
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(layer)
        .layer(from_fn(refuse_foreign))
        .with_state(sessions)
}

/// Any other path.
pub(super) async fn nothing() -> Response {
    ApiError::not_found("there is nothing at this path").into_response()
}

async fn refuse_foreign(request: Request, next: Next) -> Response {
    match origin::is_foreign(request.method(), request.headers()) {
        true => ApiError::new(StatusCode::FORBIDDEN, "another site sent this request").into_response(),
        false => next.run(request).await,
    }
}

/// `GET /healthz`: outside the session layer.
pub(super) async fn health(_: Pause) -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /api/untouched`: inside the layer, and the session is never asked for.
async fn untouched(_: Pause) -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The answer of `GET /api/session`.
#[derive(Serialize)]
struct Description {
    present: bool,
    principal: Option<String>,
    created: Option<String>,
    last_active: Option<String>,
    expires: Option<String>,
    keys: Vec<String>,
}

async fn describe(Visit(session): Visit) -> Result<Json<Description>, ApiError> {
    let told = |time: Option<SystemTime>| time.and_then(rfc3339);
    let mut keys = session.keys()?;
    keys.sort_unstable();
    Ok(Json(Description {
        present: session.handle().is_some(),
        principal: session.principal().map(|user| user.as_str().to_owned()),
        created: told(session.created()),
        last_active: told(session.last_active()),
        expires: told(session.expires()),
        keys,
    }))
}

async fn read(Visit(session): Visit, Name(key): Name) -> Result<Json<Value>, ApiError> {
    session.get(&key)?.map(Json).ok_or_else(no_such_key)
}

async fn write(
    Visit(session): Visit,
    Name(key): Name,
    Body(value): Body<Value>,
) -> Result<StatusCode, ApiError> {
    session.set(&key, value)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(Visit(session): Visit, Name(key): Name) -> Result<StatusCode, ApiError> {
    if !session.contains(&key)? {
        return Err(no_such_key());
    }
    session.delete(&key)?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_such_key() -> ApiError {
    ApiError::not_found("the session holds nothing under this key")
}

async fn flush(Visit(session): Visit) -> Result<StatusCode, ApiError> {
    session.clear()?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/session/data/{key}/increment`: atomic, and an absent key counts as 0.
async fn increment(Visit(session): Visit, Name(key): Name) -> Result<Json<Number>, ApiError> {
    let mut at_the_end = false;
    let one_more = |old: Option<Number>| {
        let old = old.unwrap_or_else(|| 0.into());
        let new = successor(&old);
        at_the_end = new.is_none();
        new.unwrap_or(old)
    };
    let number = session.update(&key, one_more).await.map_err(|error| match error.kind() {
        ErrorKind::Value => ApiError::bad_input("what is under this key is no number"),
        _ => error.into(),
    })?;
    match at_the_end {
        true => Err(ApiError::bad_input("the number is as large as it can be")),
        false => Ok(Json(number)),
    }
}

/// The number that is one more; `None` past the largest integer of 64 bits.
fn successor(number: &Number) -> Option<Number> {
    if let Some(number) = number.as_i64().and_then(|number| number.checked_add(1)) {
        return Some(number.into());
    }
    match number.as_u64() {
        Some(number) => number.checked_add(1).map(Number::from),
        None => number.as_f64().and_then(|number| Number::from_f64(number + 1.0)),
    }
}

async fn regenerate(Visit(session): Visit) -> Result<StatusCode, ApiError> {
    session.regenerate()?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body of `POST /api/login`.
#[derive(Deserialize)]
struct Login {
    user: String,
}

async fn login(Visit(session): Visit, Body(Login { user }): Body<Login>) -> Result<StatusCode, ApiError> {
    let principal = Principal::new(&user)
        .map_err(|_| ApiError::bad_input(format!("expected a user of 1 to {} bytes", Principal::MAX_LEN)))?;
    session.authenticate(principal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(Visit(session): Visit) -> Result<StatusCode, ApiError> {
    session.destroy()?;
    Ok(StatusCode::NO_CONTENT)
}

/// One of `GET /api/sessions`.
#[derive(Serialize)]
struct Device {
    handle: String,
    created: Option<String>,
    last_active: Option<String>,
    expires: Option<String>,
    current: bool,
}

async fn list(State(sessions): State<Manager>, Visit(session): Visit) -> Result<Json<Vec<Device>>, ApiError> {
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
    Visit(session): Visit,
    Name(handle): Name,
) -> Result<StatusCode, ApiError> {
    let principal = session.principal().ok_or_else(ApiError::anonymous)?;
    if session.handle().as_ref() == Some(&handle) {
        session.destroy()?;
    } else if !sessions.end_session(&principal, &handle).await? {
        return Err(ApiError::not_found("none of the user's sessions has this handle"));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn end_others(State(sessions): State<Manager>, Visit(session): Visit) -> Result<Json<Value>, ApiError> {
    session.principal().ok_or_else(ApiError::anonymous)?;
    let ended = sessions.end_other_sessions(&session).await?;
    Ok(Json(json!({ "ended": ended })))
}

async fn active(_: Pause, State(sessions): State<Manager>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "active": sessions.active_sessions().await? })))
}

/// `POST /api/fail`: what a handler changes before it answers 500 is not stored.
async fn fail(Visit(session): Visit) -> Result<StatusCode, ApiError> {
    session.set("failed", true)?;
    Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed, as it was asked to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_is_exact_to_the_largest_integer_and_nothing_after_it() {
        let next = |text: &str| successor(&text.parse().unwrap()).map(|number| number.to_string());
        assert_eq!(next("-1").unwrap(), "0");
        assert_eq!(next("1.5").unwrap(), "2.5");
        assert_eq!(next("9223372036854775807").unwrap(), "9223372036854775808");
        assert_eq!(next("18446744073709551614").unwrap(), "18446744073709551615");
        assert_eq!(next("18446744073709551615"), None);
    }
}
