//! The `tower` layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, Result};
use crate::manager::Manager;
use crate::session::{Released, SessionHandle, Shared};

/// Puts a [`SessionHandle`] into each request, and commits what was changed before the response leaves.
///
/// A request whose handler does not ask for its session costs no I/O. A handler that answers 5xx, panics or is cancelled commits
/// nothing. If the commit fails, its response is replaced: by 503 if the store failed, by 409 if the session had ended under
/// the handler's changes or others kept changing it, by 413 if it grew over a limit.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, SessionLayer};
///
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let layer = SessionLayer::new(sessions);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SessionLayer<E = PlainErrors, D = RefuseEnded> {
    manager: Manager,
    on_error: E,
    on_ended: D,
}

impl SessionLayer {
    /// A layer over the sessions of `manager`.
    pub fn new(manager: Manager) -> Self {
        SessionLayer { manager, on_error: PlainErrors, on_ended: RefuseEnded }
    }
}

impl<E, D> SessionLayer<E, D> {
    /// Has `respond` make the response when a commit failed. Only the error's [status](Error::status) is for clients.
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

    /// Has `respond` make the response, from the handler's own, when the session had ended before the handler's changes
    /// could be stored. Handing the response back lets it through, though it acknowledges a write that is lost.
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

/// Makes the response when a commit failed: any `Fn(&Error) -> Response<B>` that is `Clone`.
pub trait OnError<B> {
    /// The response in the place of the handler's.
    fn respond(&self, error: &Error) -> Response<B>;
}

impl<B, F: Fn(&Error) -> Response<B>> OnError<B> for F {
    fn respond(&self, error: &Error) -> Response<B> {
        self(error)
    }
}

/// Answers with the error's [status](Error::status) and an empty body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlainErrors;

impl<B: Default> OnError<B> for PlainErrors {
    fn respond(&self, error: &Error) -> Response<B> {
        with_status(error.status())
    }
}

/// Makes the response when the session had ended under a handler's changes: any `Fn(Response<B>) -> Response<B>` that is
/// `Clone`.
pub trait OnEnded<B> {
    /// The response in the place of `response`, which was the handler's.
    fn respond(&self, response: Response<B>) -> Response<B>;
}

impl<B, F: Fn(Response<B>) -> Response<B>> OnEnded<B> for F {
    fn respond(&self, response: Response<B>) -> Response<B> {
        self(response)
    }
}

/// Answers 409 and an empty body: a success would acknowledge a lost write.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RefuseEnded;

impl<B: Default> OnEnded<B> for RefuseEnded {
    fn respond(&self, _: Response<B>) -> Response<B> {
        with_status(StatusCode::CONFLICT)
    }
}

fn with_status<B: Default>(status: StatusCode) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = status;
    response
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
        let SessionHandle(shared) = self.layer.manager.handle_in(request.headers(), request.extensions());
        request.extensions_mut().insert(SessionHandle(Arc::clone(&shared)));
        let (on_error, on_ended) = (self.layer.on_error.clone(), self.layer.on_ended.clone());
        ResponseFuture { handler: self.inner.call(request), shared, on_error, on_ended, committing: None }
    }
}

pin_project! {
    /// The response of a [`SessionService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B, E, D> {
        #[pin]
        handler: F,
        shared: Arc<Shared>,
        on_error: E,
        on_ended: D,
        // Boxed, since the handler's future is moved about and few requests get here.
        committing: Option<Box<Committing<B>>>,
    }
}

/// The response waits for its session to be stored. Its headers are out on loan.
struct Committing<B> {
    response: Response<B>,
    release: Release,
}

type Release = Pin<Box<dyn Future<Output = (HeaderMap, Result<Released>)> + Send>>;

impl<F, B, E, D> fmt::Debug for ResponseFuture<F, B, E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// Whether a handler's response need not wait: nobody asked for the session, or all that was to be done to it is done.
fn may_leave<B>(shared: &Shared, response: &mut Response<B>) -> bool {
    if !shared.was_asked_for() {
        return true;
    }
    if response.status().is_server_error() && !shared.commits_on_server_error() {
        shared.abandon(response.headers_mut());
        return true;
    }
    shared.release_at_once(response.headers_mut()).is_some()
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
            // What may leave is handed on as it is: moving a response costs every request.
            let Poll::Ready(Ok(response)) = &mut polled else { return polled };
            if may_leave(this.shared, response) {
                return polled;
            }
            let mut headers = std::mem::take(response.headers_mut());
            let Poll::Ready(Ok(response)) = polled else { return polled };
            let shared = Arc::clone(this.shared);
            let release = Box::pin(async move {
                let released = shared.release_waiting(&mut headers).await;
                (headers, released)
            });
            *this.committing = Some(Box::new(Committing { response, release }));
        }
        let Some(committing) = this.committing else { return Poll::Pending };
        let (headers, released) = ready!(committing.release.as_mut().poll(context));
        let Some(committing) = this.committing.take() else { return Poll::Pending };
        let mut response = committing.response;
        *response.headers_mut() = headers;
        let mut response = match released {
            Ok(Released::Gone { lost_write: true }) => this.on_ended.respond(response),
            Ok(_) => return Poll::Ready(Ok(response)),
            Err(error) => {
                tracing::error!(%error, "a session could not be committed");
                let mut response = this.on_error.respond(&error);
                // What a save stored earlier in the request stands, and without its cookie nobody would reach it.
                this.shared.abandon(response.headers_mut());
                response
            }
        };
        this.shared.note_failure(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}
