//! `LoginDenial`: the answer to a request that needs a user and has none.

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Response, StatusCode};

use crate::error::Error;

/// The answer to a request that breaks the [`LoginRules`](super::LoginRules): a redirect to the login page, or the status of the error.
///
/// The error was logged.
#[derive(Debug)]
#[must_use = "the request must not reach its handler"]
pub struct LoginDenial {
    error: Error,
    location: Option<String>,
}

impl LoginDenial {
    pub(super) fn new(error: Error, location: Option<String>) -> Self {
        error.log("a request was denied that needs a login");
        LoginDenial { error, location }
    }

    /// Returns the answer to a request whose session or user could not be loaded. It never redirects.
    pub fn failed(error: Error) -> Self {
        error.log("a request that needs a login could not be checked");
        LoginDenial { error, location: None }
    }

    /// Returns the reason, of the kind [`Denied`](crate::ErrorKind::Denied). If the session or the user could not be loaded, it is that
    /// error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the address of the login page with the way back, if the visitor is redirected.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Returns 303 for a redirect, else the [status](Error::status) of the error: 401 if nobody has logged in.
    pub fn status(&self) -> StatusCode {
        if self.location.is_some() { StatusCode::SEE_OTHER } else { self.error.status() }
    }

    /// Returns a short sentence for visitors, for the body. It is empty for a redirect and for 5xx.
    pub fn text(&self) -> &'static str {
        let has_text = self.location.is_none() && !self.error.status().is_server_error();
        if has_text { self.error.visitor_text() } else { "" }
    }

    /// Writes `Location` for a redirect, `Content-Type` for a body with the [text](Self::text), and `Cache-Control: no-store`.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(Ok(location)) = self.location.as_deref().map(HeaderValue::from_str) {
            headers.insert(LOCATION, location);
        }
        if !self.text().is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        crate::cookie::no_store(headers);
    }

    /// Returns the response, with the [text](Self::text) as its body.
    pub fn into_response<B: From<&'static str>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.text()));
        *response.status_mut() = self.status();
        self.write_headers(response.headers_mut());
        response
    }
}
