//! The site's pages: HTML made on the server, forms that post and are answered with 303, and no script.

use std::time::SystemTime;

use askama::Template;
use axum::Router;
use axum::extract::rejection::{FormRejection, PathRejection};
use axum::extract::{Form, FromRequestParts, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cloakroom::{CsrfLayer, CsrfToken, Error, ErrorKind, Manager, Principal, Session, SessionLayer};
use serde::Deserialize;

use super::times::{Moment, roughly};

/// The session keys of the page. The API can write any value under them, so their types are checked.
const VISITS: &str = "visits";
const NOTE: &str = "note";

/// The longest note, in characters. The form has the same limit.
const NOTE_CHARS: usize = 2000;
/// The longest name, in characters. A character has at most 4 bytes, and a principal at most 256.
const NAME_CHARS: usize = 64;
/// The number of sessions that the page lists. A load generator's user may have thousands.
const LISTED: usize = 50;

#[derive(Clone)]
struct Site {
    sessions: Manager,
    provider: String,
}

/// Builds the page's routes and those of its forms.
pub(super) fn routes(sessions: Manager, provider: &str) -> Router {
    let layer = SessionLayer::new(sessions.clone())
        .on_error(|error: &Error| PageError::of(error).into_response())
        .on_ended(|_: Response| PageError::Ended.into_response());
    Router::new()
        .route("/", get(home))
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/note", post(keep_note))
        .route("/sessions/{handle}/end", post(end_one))
        .route("/sessions/end-others", post(end_others))
        .fallback(async || PageError::NotFound)
        .method_not_allowed_fallback(async || PageError::Method)
        .layer(CsrfLayer::new().on_refused(|error: &Error| PageError::of(error).into_response()))
        .layer(layer)
        .layer(from_fn(with_headers))
        .with_state(Site { sessions, provider: provider.to_owned() })
}

/// Adds headers that forbid the browser nearly everything.
async fn with_headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                          frame-ancestors 'none'; base-uri 'none'";
    const HEADERS: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        // A page in the browser's history would show the data after a sign-out.
        (CACHE_CONTROL, "no-store"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    /// `None` without a session: a form alone is no reason to begin one.
    csrf: Option<CsrfToken>,
    flash: Option<String>,
    name_chars: usize,
    /// The time after which an unused session expires, in words.
    idle: String,
    /// The longest life of a session, in words; `None` without a limit.
    longest: Option<String>,
    /// False with the provider `cookie`, where a copy of the cookie stays valid after a sign-out.
    final_sign_out: bool,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    csrf: CsrfToken,
    user: String,
    provider: String,
    flash: Option<String>,
    visits: u64,
    note: String,
    note_chars: usize,
    created: Option<Moment>,
    last_active: Option<Moment>,
    expires: Option<Moment>,
    devices: Vec<Device>,
    unlisted: usize,
}

/// One of the user's sessions.
struct Device {
    handle: String,
    created: Moment,
    last_active: Moment,
    current: bool,
}

async fn home(
    method: Method,
    State(site): State<Site>,
    PageSession(session): PageSession,
) -> Result<Response, PageError> {
    let flash = take_flash(&session).await?;
    let Some(user) = session.principal() else {
        let csrf = if flash.is_some() && session.is_empty()? {
            // The session existed only for the message, which is now shown.
            session.destroy()?;
            None
        } else if session.handle().is_some() {
            Some(session.csrf_token().await?)
        } else {
            None
        };
        let idle = roughly(site.sessions.config().idle_timeout()).unwrap_or_default();
        let final_sign_out = site.provider != "cookie";
        let longest = site.sessions.config().absolute_timeout().and_then(roughly);
        let welcome = Welcome { csrf, flash, name_chars: NAME_CHARS, idle, longest, final_sign_out };
        return page(StatusCode::OK, &welcome);
    };
    let now = SystemTime::now();
    // The update below counts as a use, so read the time of the last one first.
    let last_active = session.last_active().map(|time| Moment::new(time, now));
    // A HEAD request shows nothing, so it is no visit.
    let increment = u64::from(method != Method::HEAD);
    let one_more = |old: Option<serde_json::Value>| {
        old.and_then(|old| old.as_u64()).unwrap_or(0).saturating_add(increment).into()
    };
    let visits = session.update(VISITS, one_more).await?.as_u64().unwrap_or(0);
    let (devices, unlisted) = devices(&site.sessions, &session, &user, now).await?;
    let home = Home {
        csrf: session.csrf_token().await?,
        user: user.as_str().to_owned(),
        provider: site.provider,
        flash,
        visits,
        note: read_text(&session, NOTE)?.unwrap_or_default(),
        note_chars: NOTE_CHARS,
        created: session.created().map(|time| Moment::new(time, now)),
        last_active,
        expires: session.expires().map(|time| Moment::new(time, now)),
        devices,
        unlisted,
    };
    page(StatusCode::OK, &home)
}

/// Returns the user's sessions and the number of those left out. The current one is first, then the most recently
/// used.
async fn devices(
    sessions: &Manager,
    session: &Session,
    user: &Principal,
    now: SystemTime,
) -> Result<(Vec<Device>, usize), PageError> {
    let current = session.handle();
    let all = match sessions.sessions_of(user).await {
        // The provider cannot list sessions, so the page has no list.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok((Vec::new(), 0)),
        all => all?,
    };
    let mut devices: Vec<Device> = all
        .iter()
        .map(|listed| {
            let handle = listed.key.handle();
            Device {
                current: Some(&handle) == current.as_ref(),
                handle,
                created: Moment::new(listed.meta.created(), now),
                last_active: Moment::new(listed.meta.last_active(), now),
            }
        })
        .collect();
    devices.sort_by_key(|device| !device.current);
    devices.truncate(LISTED);
    let unlisted = all.len() - devices.len();
    Ok((devices, unlisted))
}

/// Takes the messages that earlier actions left for the next page. Each is shown once.
async fn take_flash(session: &Session) -> Result<Option<String>, PageError> {
    let flashes = session.take_flashes::<String>().await?;
    let messages: Vec<_> = flashes.into_iter().map(|flash| flash.message).collect();
    Ok((!messages.is_empty()).then(|| messages.join(" ")))
}

/// Returns the text under `key`, or `None` if the value has another type.
fn read_text(session: &Session, key: &str) -> Result<Option<String>, PageError> {
    match session.get(key) {
        Err(error) if error.kind() == ErrorKind::Value => Ok(None),
        read => Ok(read?),
    }
}

/// Redirects to the start page, which shows `flash` once.
fn go_home_with(session: &Session, flash: &str) -> Result<Redirect, PageError> {
    session.flash("info", flash)?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

async fn sign_in(
    PageSession(session): PageSession,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(SignIn { user }) = form?;
    let user = user.trim();
    if !(1..=NAME_CHARS).contains(&user.chars().count()) {
        return Err(PageError::Name);
    }
    session.authenticate(Principal::new(user)?)?;
    go_home_with(&session, "You are signed in. Your browser has a new session cookie.")
}

/// Ends the session. The message is stored in a new session, which the next page ends.
async fn sign_out(PageSession(session): PageSession) -> Result<Redirect, PageError> {
    if session.handle().is_none() {
        return Ok(Redirect::to("/"));
    }
    session.destroy()?;
    go_home_with(&session, "You are signed out.")
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn keep_note(
    PageSession(session): PageSession,
    form: Result<Form<Note>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(Note { note }) = form?;
    if session.principal().is_none() {
        return Ok(Redirect::to("/"));
    }
    // Forms send line ends as CR LF, whatever was typed (HTML, form submission).
    let note = note.replace("\r\n", "\n");
    if note.chars().count() > NOTE_CHARS {
        return Err(PageError::Note);
    }
    session.set(NOTE, &note)?;
    go_home_with(&session, "Your note is saved.")
}

async fn end_one(
    State(site): State<Site>,
    PageSession(session): PageSession,
    handle: Result<Path<String>, PathRejection>,
) -> Result<Redirect, PageError> {
    let Some(user) = session.principal() else { return Ok(Redirect::to("/")) };
    // A path that is not UTF-8 is no session's handle.
    let Path(handle) = handle.unwrap_or(Path(String::new()));
    if session.handle().as_ref() == Some(&handle) {
        return sign_out(PageSession(session)).await;
    }
    let ended = site.sessions.end_session(&user, &handle).await?;
    go_home_with(
        &session,
        if ended { "That session is signed out." } else { "That session had already ended." },
    )
}

async fn end_others(
    State(site): State<Site>,
    PageSession(session): PageSession,
) -> Result<Redirect, PageError> {
    if session.principal().is_none() {
        return Ok(Redirect::to("/"));
    }
    match site.sessions.end_other_sessions(&session).await? {
        0 => go_home_with(&session, "There was no other session."),
        1 => go_home_with(&session, "The other session is signed out."),
        ended => go_home_with(&session, &format!("{ended} other sessions are signed out.")),
    }
}

/// The session, or the page for its error.
struct PageSession(Session);

impl<S: Send + Sync> FromRequestParts<S> for PageSession {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let session = Session::from_request_parts(parts, state).await;
        session.map(PageSession).map_err(|error| PageError::of(&error))
    }
}

/// The reason why a page cannot be shown or an action not be done.
#[derive(Debug)]
enum PageError {
    NotFound,
    Method,
    CrossSite,
    Form(StatusCode),
    Name,
    Note,
    /// The session ended during the request; the visitor goes on from the start page.
    Ended,
    /// An error of the session, by its status.
    Session(StatusCode),
}

impl PageError {
    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Gone => PageError::Ended,
            ErrorKind::Forged => PageError::CrossSite,
            _ => PageError::Session(error.status()),
        }
    }
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        if error.status().is_server_error() {
            tracing::error!(%error, "a page failed");
        }
        PageError::of(&error)
    }
}

impl From<FormRejection> for PageError {
    fn from(rejection: FormRejection) -> Self {
        // axum answers 422 for a missing field; a page needs no such difference.
        PageError::Form(match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        })
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    title: &'static str,
    text: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            PageError::Ended => return Redirect::to("/").into_response(),
            PageError::NotFound => {
                let text = "There is no page at this address. Check the address, or go to the start page.";
                (StatusCode::NOT_FOUND, "Page not found", text.to_owned())
            }
            PageError::Method => {
                let text =
                    "This address does not accept this kind of request. Use the forms on the start page.";
                (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", text.to_owned())
            }
            PageError::CrossSite => {
                let text = "The form came from another site, or from a page you opened before you signed in. \
                            Nothing was changed. Go to the start page and try again.";
                (StatusCode::FORBIDDEN, "Form refused", text.to_owned())
            }
            PageError::Form(StatusCode::PAYLOAD_TOO_LARGE) => {
                let text = "The form is too large. Nothing was changed. Go back and shorten it.";
                (StatusCode::PAYLOAD_TOO_LARGE, "Form too large", text.to_owned())
            }
            PageError::Form(status) => {
                let text = "The form could not be read. Nothing was changed. Go back and send it again.";
                (status, "Form not understood", text.to_owned())
            }
            PageError::Name => {
                let text =
                    format!("A name needs 1 to {NAME_CHARS} characters. Go back and enter another one.");
                (StatusCode::BAD_REQUEST, "Name not accepted", text)
            }
            PageError::Note => {
                let limit = format!("A note has at most {NOTE_CHARS} characters.");
                let text = format!("{limit} Your saved note is unchanged. Go back and shorten it.");
                (StatusCode::PAYLOAD_TOO_LARGE, "Note too long", text)
            }
            PageError::Session(status) => {
                let (title, text) = session_error(status);
                (status, title, text.to_owned())
            }
        };
        page(status, &Message { title, text }).unwrap_or_else(|_| status.into_response())
    }
}

/// Returns the title and the text of the page for a session's error.
fn session_error(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ("Session full", "The session has no room for this. Nothing was saved. Go back and save less.")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Sessions not available", "The session store does not answer. Wait a moment and try again.")
        }
        StatusCode::CONFLICT => {
            ("Not saved", "Other requests changed the session at the same time. Go back and try again.")
        }
        _ => (
            "Session not readable",
            "Your session could not be read. Go to the start page and sign in again.",
        ),
    }
}

fn page(status: StatusCode, template: &impl Template) -> Result<Response, PageError> {
    match template.render() {
        Ok(html) => Ok((status, Html(html)).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Err(PageError::Session(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}
