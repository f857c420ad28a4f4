//! `SessionLayer`, a `tower` layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::plain;
use crate::error::{ENDED, Error};
use crate::manager::Manager;
use crate::session::{Outcome, SessionHandle};

/// A `tower` layer that gives each request a session and commits its changes before the response leaves.
///
/// It puts a [`SessionHandle`] into each request. A handler takes the [`Session`](crate::Session) as an argument (axum), or
/// [loads](SessionHandle::load) it from the handle. A request that does not load its session costs no I/O.
///
/// ```
/// use axum::{Router, routing::post};
/// use cloakroom::{Manager, MemoryProvider, Session, SessionLayer};
///
/// async fn visit(session: Session) -> cloakroom::Result<String> {
///     let visits = session.get::<u32>("visits")?.unwrap_or(0) + 1;
///     session.set("visits", visits)?;
///     Ok(format!("visit {visits}"))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let app: Router = Router::new().route("/", post(visit)).layer(SessionLayer::new(sessions.clone()));
///
/// use tower::ServiceExt;
/// let request = axum::extract::Request::post("/").body(axum::body::Body::empty())?;
/// let response = app.oneshot(request).await?;
/// assert!(response.headers()["set-cookie"].to_str()?.starts_with("__Host-id="));
/// assert_eq!(sessions.active_sessions().await?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Failed commits
///
/// A failed commit replaces the handler's response:
///
/// | status | reason |
/// |---|---|
/// | 409 | the session had ended before the handler's changes could be stored, or other requests kept changing it |
/// | 413 | the session grew over a limit |
/// | 503 | the store failed |
///
/// [`on_error`](Self::on_error) and [`on_ended`](Self::on_ended) make other responses.
///
/// # Requests that commit nothing
///
/// - A response of 5xx or 408, from the handler or from a layer between it and this one, such as tower-http's `TimeoutLayer`.
/// - A cancelled request.
/// - A handler that panics. Its [`Session`](crate::Session) notices the panic when it is dropped, so a `CatchPanicLayer`
///   inside this layer may respond with any status.
///
/// A timeout layer inside this one must respond with 408 or 5xx. With another status, such as 200 or 404, the handler seems to
/// have finished, and its changes are committed. Otherwise put the timeout layer outside this one.
///
/// # Nested layers
///
/// Nested layers of one manager share one session for each request. The outermost layer commits it, with its own
/// [`on_error`](Self::on_error) and [`on_ended`](Self::on_ended). Layers of different managers are independent.
#[derive(Clone, Debug)]
pub struct SessionLayer<E = PlainErrors, D = RefuseEnded> {
    manager: Manager,
    on_error: E,
    on_ended: D,
}

impl SessionLayer {
    /// Creates a layer for the sessions of `manager`.
    ///
    /// ```
    /// use cloakroom::{Manager, MemoryProvider, SessionLayer};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let layer = SessionLayer::new(sessions);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new(manager: Manager) -> Self {
        SessionLayer { manager, on_error: PlainErrors, on_ended: RefuseEnded }
    }
}

impl<E, D> SessionLayer<E, D> {
    /// Sets the function that makes the response after a failed commit. By default it is [`PlainErrors`].
    ///
    /// Send clients the error's [status](Error::status) only. Its text is for logs.
    ///
    /// ```
    /// # use cloakroom::{Error, Manager, MemoryProvider, SessionLayer};
    /// # use http::Response;
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let layer = SessionLayer::new(sessions).on_error(|error: &Error| {
    ///     Response::builder().status(error.status()).body("Please try again.".to_owned()).unwrap()
    /// });
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn on_error<F>(self, respond: F) -> SessionLayer<F, D> {
        SessionLayer { manager: self.manager, on_error: respond, on_ended: self.on_ended }
    }

    /// Sets the function that makes the response when the session ended before the handler's changes could be stored. By
    /// default it is [`RefuseEnded`].
    ///
    /// `respond` gets the handler's response. If it returns that one, the client takes a lost write for stored.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, SessionLayer};
    /// # use http::Response;
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let layer = SessionLayer::new(sessions).on_ended(|response: Response<String>| response);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn on_ended<F>(self, respond: F) -> SessionLayer<E, F> {
        SessionLayer { manager: self.manager, on_error: self.on_error, on_ended: respond }
    }
}

/// Makes the response after a failed commit. Every `Fn(&Error) -> Response<B>` implements it. A layer needs one that is `Clone`.
pub trait OnError<B> {
    /// Returns the response that replaces the handler's.
    ///
    /// ```
    /// use cloakroom::middleware::OnError;
    /// use cloakroom::{Error, Manager, MemoryProvider, SessionLayer};
    /// use http::Response;
    ///
    /// #[derive(Clone)]
    /// struct JsonErrors;
    ///
    /// impl OnError<String> for JsonErrors {
    ///     fn respond(&self, error: &Error) -> Response<String> {
    ///         let mut response = Response::new(r#"{"error":"session"}"#.to_owned());
    ///         *response.status_mut() = error.status();
    ///         response
    ///     }
    /// }
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let layer = SessionLayer::new(sessions).on_error(JsonErrors);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    fn respond(&self, error: &Error) -> Response<B>;
}

impl<B, F: Fn(&Error) -> Response<B>> OnError<B> for F {
    fn respond(&self, error: &Error) -> Response<B> {
        self(error)
    }
}

/// Responds with the error's [status](Error::status). The body of a refusal (4xx) is a short sentence for visitors, that of a
/// failure (5xx) is empty.
///
/// The sentence needs a body that this crate can make from a text: axum's `Body`, `Full<Bytes>`, `Bytes`, `String`, `&str` or
/// `Vec<u8>`. Another body type has its default value.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlainErrors;

impl<B: Default + 'static> OnError<B> for PlainErrors {
    fn respond(&self, error: &Error) -> Response<B> {
        let status = error.status();
        plain(status, if status.is_server_error() { "" } else { error.visitor_text() })
    }
}

/// Makes the response when the session ended before a handler's changes could be stored. Every `Fn(Response<B>) -> Response<B>`
/// implements it. A layer needs one that is `Clone`.
pub trait OnEnded<B> {
    /// Returns the response that replaces `response`, the handler's.
    ///
    /// ```
    /// use cloakroom::middleware::OnEnded;
    /// use cloakroom::{Manager, MemoryProvider, SessionLayer};
    /// use http::{Response, StatusCode};
    ///
    /// /// Sends the visitor to the login, and keeps what the handler has written into the headers.
    /// #[derive(Clone)]
    /// struct ToLogin;
    ///
    /// impl OnEnded<String> for ToLogin {
    ///     fn respond(&self, mut response: Response<String>) -> Response<String> {
    ///         *response.status_mut() = StatusCode::SEE_OTHER;
    ///         response.headers_mut().insert("location", "/login".parse().unwrap());
    ///         response
    ///     }
    /// }
    ///
    /// assert_eq!(ToLogin.respond(Response::new(String::new())).status(), 303);
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let layer = SessionLayer::new(sessions).on_ended(ToLogin);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    fn respond(&self, response: Response<B>) -> Response<B>;
}

impl<B, F: Fn(Response<B>) -> Response<B>> OnEnded<B> for F {
    fn respond(&self, response: Response<B>) -> Response<B> {
        self(response)
    }
}

/// Responds with 409 and a short sentence for visitors, since a success would acknowledge a lost write.
///
/// The sentence needs the same body types as that of [`PlainErrors`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RefuseEnded;

impl<B: Default + 'static> OnEnded<B> for RefuseEnded {
    fn respond(&self, _: Response<B>) -> Response<B> {
        plain(StatusCode::CONFLICT, ENDED)
    }
}

impl<S, E: Clone, D: Clone> Layer<S> for SessionLayer<E, D> {
    type Service = SessionService<S, E, D>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, layer: self.clone() }
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Clone, Debug)]
pub struct SessionService<S, E = PlainErrors, D = RefuseEnded> {
    inner: S,
    layer: SessionLayer<E, D>,
}

impl<S, ReqBody, ResBody, E, D> Service<Request<ReqBody>> for SessionService<S, E, D>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    E: OnError<ResBody> + Clone,
    D: OnEnded<ResBody> + Clone,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, E, D>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let session = self.layer.manager.handle_in(request.headers(), request.extensions());
        session.insert_into(request.extensions_mut());
        let (on_error, on_ended) = (self.layer.on_error.clone(), self.layer.on_ended.clone());
        ResponseFuture { handler: self.inner.call(request), session, on_error, on_ended, committing: None }
    }
}

pin_project! {
    /// The response of a [`SessionService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B, E, D> {
        #[pin]
        handler: F,
        session: SessionHandle,
        on_error: E,
        on_ended: D,
        // Boxed: the handler's future is moved often, and few responses wait for a commit.
        committing: Option<Box<Committing<B>>>,
    }
}

/// A response that waits for the commit of its session. `release` has its headers meanwhile.
struct Committing<B> {
    response: Response<B>,
    release: Release,
}

type Release = Pin<Box<dyn Future<Output = (HeaderMap, Outcome)> + Send>>;

impl<F, B, E, D> fmt::Debug for ResponseFuture<F, B, E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl<F, B, Error_, E, D> Future for ResponseFuture<F, B, E, D>
where
    F: Future<Output = Result<Response<B>, Error_>>,
    E: OnError<B>,
    D: OnEnded<B>,
{
    type Output = Result<Response<B>, Error_>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.committing.is_none() {
            let mut polled = this.handler.poll(context);
            // The response is returned in place, without a move, which every request would pay for.
            let Poll::Ready(Ok(response)) = &mut polled else { return polled };
            if this.session.release_now(response.status(), response.headers_mut()) {
                return polled;
            }
            let mut headers = std::mem::take(response.headers_mut());
            let Poll::Ready(Ok(response)) = polled else { return polled };
            let session = this.session.clone();
            let release = Box::pin(async move {
                let outcome = session.release_waiting(&mut headers).await;
                (headers, outcome)
            });
            *this.committing = Some(Box::new(Committing { response, release }));
        }
        let Some(committing) = this.committing else { return Poll::Pending };
        let (headers, outcome) = ready!(committing.release.as_mut().poll(context));
        let Some(committing) = this.committing.take() else { return Poll::Pending };
        let mut response = committing.response;
        *response.headers_mut() = headers;
        let Outcome::Replace(replacement) = outcome else { return Poll::Ready(Ok(response)) };
        let mut response = match replacement.error() {
            None => this.on_ended.respond(response),
            Some(error) => this.on_error.respond(error),
        };
        replacement.write_headers(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}
