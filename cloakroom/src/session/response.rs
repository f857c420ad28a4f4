//! `Outcome` and `Replacement`: the response that follows a commit.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::error::{ENDED, Error};
use crate::request::Exchange;

/// The response to send after a [release](super::SessionHandle::release).
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "an adapter that does not handle an outcome must not compile")]
#[must_use = "if the handler's response is sent after a failed commit, its client takes lost changes for stored"]
pub enum Outcome {
    /// The handler's response, with the headers that the release has written.
    Send,
    /// Another response in its place: the handler's changes were not stored.
    Replace(Replacement),
}

/// The response in the place of a handler's, whose changes were not stored.
///
/// [`into_response`](Self::into_response) makes it whole. An adapter for other types, or one that lets the application choose the
/// response, makes a response of its own, and then calls [`write_headers`](Self::write_headers).
#[must_use = "the response needs its headers: call into_response or write_headers"]
pub struct Replacement {
    exchange: Arc<Exchange>,
    /// `None` if the session had ended.
    error: Option<Error>,
}

impl Replacement {
    /// Returns the response after the end of a session.
    pub(super) fn ended(exchange: Arc<Exchange>) -> Self {
        Replacement { exchange, error: None }
    }

    /// Returns the response after a commit that has failed with `error`.
    pub(super) fn failed(exchange: Arc<Exchange>, error: Error) -> Self {
        Replacement { exchange, error: Some(error) }
    }

    /// Returns the error of the commit. `None` means that no error happened: the session had ended before the changes could be stored.
    ///
    /// The error was logged.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Returns the status: 409 if the session had ended, else the [status](Error::status) of the error.
    pub fn status(&self) -> StatusCode {
        self.error.as_ref().map_or(StatusCode::CONFLICT, Error::status)
    }

    /// Returns a short sentence for visitors, for the body. It is empty if the status is 5xx.
    pub fn text(&self) -> &'static str {
        match &self.error {
            None => ENDED,
            Some(error) if error.status().is_server_error() => "",
            Some(error) => error.visitor_text(),
        }
    }

    /// Writes the headers that the response needs, whoever has made it: `Vary` and `Cache-Control: no-store`. After a failed commit, the
    /// cookie that an earlier [`save`](crate::Session::save) of the request owes the client is added, since no client would reach the
    /// saved session without it.
    pub fn write_headers(self, headers: &mut HeaderMap) {
        if self.error.is_some() {
            self.exchange.abandon(headers);
        }
        self.exchange.note_failure(headers);
    }

    /// Returns the response, with the [text](Self::text) as its body.
    ///
    /// ```
    /// # use cloakroom::middleware::Outcome;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::{HeaderMap, StatusCode};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let mut login = HeaderMap::new();
    /// # let session = sessions.start(&HeaderMap::new()).await?;
    /// # session.set("cart", 1)?;
    /// # let _ = session.release(&mut login).await?;
    /// # let mut request = HeaderMap::new();
    /// # request.insert("cookie", login["set-cookie"].to_str().unwrap().split(';').next().unwrap().parse().unwrap());
    /// let handle = sessions.handle(&request);
    /// handle.load().await?.set("cart", 2)?;
    /// let _ = sessions.destroy(&request, &mut HeaderMap::new()).await?; // a logout in another tab
    ///
    /// let outcome = handle.release(StatusCode::OK, &mut HeaderMap::new()).await;
    /// let Outcome::Replace(replacement) = outcome else { panic!("the change is lost") };
    /// assert!(replacement.error().is_none());
    /// let response = replacement.into_response::<String>();
    /// assert_eq!(response.status(), StatusCode::CONFLICT);
    /// assert!(response.body().starts_with("Your session has ended"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn into_response<B: From<&'static str>>(self) -> Response<B> {
        let (status, text) = (self.status(), self.text());
        let mut response = Response::new(B::from(text));
        *response.status_mut() = status;
        if !text.is_empty() {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        self.write_headers(response.headers_mut());
        response
    }
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement").field("status", &self.status()).finish_non_exhaustive()
    }
}
