//! The page: plain HTML made here, forms that post and are answered by 303, and no script.

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

/// What the page keeps in the session. The API reaches the same keys, so nothing is taken for granted about their values.
const VISITS: &str = "visits";
const NOTE: &str = "note";

/// The longest note, in characters; the form says the same.
const NOTE_CHARS: usize = 2000;
/// The longest name, in characters: of four bytes at the most, and a principal has room for 256.
const NAME_CHARS: usize = 64;
/// How many sessions the page lists: a load generator's user may have any number.
const LISTED: usize = 50;

#[derive(Clone)]
struct Site {
    sessions: Manager,
    provider: String,
}

/// The page, and what its forms post to.
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

/// Tells the browser what these pages may do: hardly anything.
async fn with_headers(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                          frame-ancestors 'none'; base-uri 'none'";
    const HEADERS: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        // Nobody who comes after a sign-out finds the page by going back.
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
    /// There where the visitor has a session: who only looks gets none for the sake of a form.
    csrf: Option<CsrfToken>,
    flash: Option<String>,
    name_chars: usize,
    /// How long a session lives unused.
    idle: String,
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
    Visitor(session): Visitor,
) -> Result<Response, PageError> {
    let flash = taken_flash(&session).await?;
    let Some(user) = session.principal() else {
        let csrf = match flash.is_some() && session.is_empty()? {
            // The message was all there was to remember of this visitor.
            true => {
                session.destroy()?;
                None
            }
            false if session.handle().is_some() => Some(session.csrf_token().await?),
            false => None,
        };
        let idle = roughly(site.sessions.config().idle_timeout()).unwrap_or_default();
        return page(StatusCode::OK, &Welcome { csrf, flash, name_chars: NAME_CHARS, idle });
    };
    let now = SystemTime::now();
    // Read before the visit is counted, which is a use too.
    let last_active = session.last_active().map(|time| Moment::new(time, now));
    // Who asks for the head alone has seen nothing.
    let seen = u64::from(method != Method::HEAD);
    let one_more = |old: Option<serde_json::Value>| {
        old.and_then(|old| old.as_u64()).unwrap_or(0).saturating_add(seen).into()
    };
    let visits = session.update(VISITS, one_more).await?.as_u64().unwrap_or(0);
    let (devices, unlisted) = devices(&site.sessions, &session, &user, now).await?;
    let home = Home {
        csrf: session.csrf_token().await?,
        user: user.as_str().to_owned(),
        provider: site.provider,
        flash,
        visits,
        note: readable(&session, NOTE)?.unwrap_or_default(),
        note_chars: NOTE_CHARS,
        created: session.created().map(|time| Moment::new(time, now)),
        last_active,
        expires: session.expires().map(|time| Moment::new(time, now)),
        devices,
        unlisted,
    };
    page(StatusCode::OK, &home)
}

/// The user's sessions, this one first and then the one used last; and how many more there are.
async fn devices(
    sessions: &Manager,
    session: &Session,
    user: &Principal,
    now: SystemTime,
) -> Result<(Vec<Device>, usize), PageError> {
    let current = session.handle();
    let all = match sessions.sessions_of(user).await {
        // A provider that keeps no list: the page goes without.
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

/// What actions left for the next page, which is shown once.
async fn taken_flash(session: &Session) -> Result<Option<String>, PageError> {
    let flashes = session.take_flashes::<String>().await?;
    let messages: Vec<_> = flashes.into_iter().map(|flash| flash.message).collect();
    Ok((!messages.is_empty()).then(|| messages.join(" ")))
}

/// The text under `key`; something else that was put there is as good as nothing.
fn readable(session: &Session, key: &str) -> Result<Option<String>, PageError> {
    match session.get(key) {
        Err(error) if error.kind() == ErrorKind::Value => Ok(None),
        read => Ok(read?),
    }
}

/// Back to the page, which says `flash` once.
fn back_saying(session: &Session, flash: &str) -> Result<Redirect, PageError> {
    session.flash("info", flash)?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

async fn sign_in(
    Visitor(session): Visitor,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(SignIn { user }) = form?;
    let user = user.trim();
    if !(1..=NAME_CHARS).contains(&user.chars().count()) {
        return Err(PageError::Name);
    }
    session.authenticate(Principal::new(user)?)?;
    back_saying(&session, "You are signed in. The cookie in your browser is a new one.")
}

/// Ends the session. What is said about it is the first thing in a new one, which the next page ends.
async fn sign_out(Visitor(session): Visitor) -> Result<Redirect, PageError> {
    if session.handle().is_none() {
        return Ok(Redirect::to("/"));
    }
    session.destroy()?;
    back_saying(&session, "You are signed out. The old cookie opens nothing any more.")
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn keep_note(
    Visitor(session): Visitor,
    form: Result<Form<Note>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(Note { note }) = form?;
    if session.principal().is_none() {
        return Ok(Redirect::to("/"));
    }
    // Forms send line ends as CR LF, whatever was typed.
    let note = note.replace("\r\n", "\n");
    if note.chars().count() > NOTE_CHARS {
        return Err(PageError::Note);
    }
    session.set(NOTE, &note)?;
    back_saying(&session, "Your note is kept.")
}

async fn end_one(
    State(site): State<Site>,
    Visitor(session): Visitor,
    handle: Result<Path<String>, PathRejection>,
) -> Result<Redirect, PageError> {
    let Some(user) = session.principal() else { return Ok(Redirect::to("/")) };
    // What is no text is no handle of anybody's.
    let Path(handle) = handle.unwrap_or(Path(String::new()));
    if session.handle().as_ref() == Some(&handle) {
        return sign_out(Visitor(session)).await;
    }
    match site.sessions.end_session(&user, &handle).await? {
        true => back_saying(&session, "That session is signed out."),
        false => back_saying(&session, "That session had ended already."),
    }
}

async fn end_others(State(site): State<Site>, Visitor(session): Visitor) -> Result<Redirect, PageError> {
    if session.principal().is_none() {
        return Ok(Redirect::to("/"));
    }
    match site.sessions.end_other_sessions(&session).await? {
        0 => back_saying(&session, "There was no other session."),
        1 => back_saying(&session, "The other session is signed out."),
        ended => back_saying(&session, &format!("{ended} other sessions are signed out.")),
    }
}

/// The session, or a page that says why there is none.
struct Visitor(Session);

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let session = Session::from_request_parts(parts, state).await;
        session.map(Visitor).map_err(|error| PageError::of(&error))
    }
}

/// Why a visitor does not get what they asked for.
#[derive(Debug)]
enum PageError {
    NotFound,
    Method,
    Foreign,
    Form(StatusCode),
    Name,
    Note,
    /// The session ended under the request: the start page is where to go on.
    Ended,
    /// The session layer's refusal.
    Session(StatusCode),
}

impl PageError {
    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Gone => PageError::Ended,
            ErrorKind::Forged => PageError::Foreign,
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
        // That a field is missing is as bad an input as any other.
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
                (StatusCode::NOT_FOUND, "Nothing hangs here", "There is no such page.".into())
            }
            PageError::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "Not like this", "This address takes another method.".into())
            }
            PageError::Foreign => (
                StatusCode::FORBIDDEN,
                "Not from there",
                "Another site sent this form, or it stood on a page of before you signed in. Nothing was done.".into(),
            ),
            PageError::Form(status) => (status, "Not understood", "The form did not arrive whole.".into()),
            PageError::Name => {
                let text = format!("A name has 1 to {NAME_CHARS} characters.");
                (StatusCode::BAD_REQUEST, "A name, please", text)
            }
            PageError::Note => {
                let text = format!("A note has at most {NOTE_CHARS} characters. The old one is still there.");
                (StatusCode::PAYLOAD_TOO_LARGE, "That does not fit", text)
            }
            PageError::Session(StatusCode::PAYLOAD_TOO_LARGE) => {
                let text = "The session cannot hold that much. Nothing was changed.".into();
                (StatusCode::PAYLOAD_TOO_LARGE, "That does not fit", text)
            }
            PageError::Session(status) => {
                let text = match status {
                    StatusCode::SERVICE_UNAVAILABLE => {
                        "The sessions cannot be reached just now. Please try again."
                    }
                    _ => "Your session could not be read. Please sign in again.",
                };
                (status, "One moment", text.into())
            }
        };
        page(status, &Message { title, text }).unwrap_or_else(|_| status.into_response())
    }
}

fn page(status: StatusCode, template: &impl Template) -> Result<Response, PageError> {
    match template.render() {
        Ok(html) => Ok((status, Html(html)).into_response()),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            Err(PageError::Session(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}
