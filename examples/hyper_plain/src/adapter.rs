//! Sessions for services of plain hyper.

use std::convert::Infallible;

use cloakroom::middleware::Outcome;
use cloakroom::session::SessionHandle;
use cloakroom::{Error, ErrorKind, Manager, Session};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Runs `handler` with a session, and commits it before the response head leaves.
pub(crate) async fn with_session(
    sessions: &Manager,
    mut request: Request<Incoming>,
    handler: impl AsyncFnOnce(Request<Incoming>) -> Result<Response<Body>, Error>,
) -> Response<Body> {
    let handle = sessions.handle_in(request.headers(), request.extensions());
    handle.insert_into(request.extensions_mut());
    let mut response = handler(request).await.unwrap_or_else(|error| refusal(&error));

    let status = response.status();
    match handle.release(status, response.headers_mut()).await {
        Outcome::Send => response,
        Outcome::Replace(replacement) => {
            let mut response = text(replacement.status(), replacement.text());
            replacement.write_headers(response.headers_mut());
            response
        }
    }
}

/// Returns the session of a request. The first call reads it from the store.
pub(crate) async fn session(request: &Request<Incoming>) -> Result<Session, Error> {
    const MISSING: &str = "expected with_session around this handler, found none";
    let handle = request.extensions().get::<SessionHandle>();
    handle.ok_or_else(|| Error::new(ErrorKind::NoLayer, MISSING))?.load_for(request).await
}

/// Returns the response to an error of the session. The error's own text goes to the log.
fn refusal(error: &Error) -> Response<Body> {
    error.log("a handler answered with an error of its session");
    text(error.status(), error.visitor_text())
}

/// Returns a response with a text of this program.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
