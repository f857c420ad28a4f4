//! The `tower` layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::{ENDED, plain, text_for_visitors};
use crate::error::{Error, Result};
use crate::manager::Manager;
use crate::session::{Released, SessionHandle, Shared};

/// Puts a [`SessionHandle`] into each request, and commits what was changed before the response leaves.
///
/// A request whose handler does not ask for its session costs no I/O. If the commit fails, its response is replaced: by 503 if
/// the store failed, by 409 if the session had ended under the handler's changes or others kept changing it, by 413 if it grew
/// over a limit.
///
/// # What commits nothing
///
/// A request that is answered 5xx or 408 commits nothing, whether the handler answers so or a layer between it and this one,
/// such as tower-http's `TimeoutLayer`. The same goes for a request that is cancelled and for a handler that panics. A
/// panic is noticed by the handler's [`Session`](crate::Session), which is dropped on the way, so that a `CatchPanicLayer` inside
/// this layer may answer what it likes.
///
/// A handler that a timeout layer has cut off cannot be told from one that has finished if the answer is, say, 200 or 404. Put such
/// a layer outside this one, or have it answer 408 or 5xx.
///
/// # One manager, one session
///
/// Where layers of the same manager lie inside one another, all of a request shares one session. The outermost layer commits
/// it, by its own [`on_error`](Self::on_error) and [`on_ended`](Self::on_ended). Layers of different managers do not know each other.
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

/// Answers with the error's [status](Error::status). A refusal (4xx) carries a short sentence for visitors, a failure (5xx) an
/// empty body.
///
/// The sentence is left out where the response's body is of a type that this crate cannot make of a text. It can for axum's body,
/// `Full<Bytes>`, `Bytes`, `String`, `&str` and `Vec<u8>`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlainErrors;

impl<B: Default + 'static> OnError<B> for PlainErrors {
    fn respond(&self, error: &Error) -> Response<B> {
        let status = error.status();
        plain(status, if status.is_server_error() { "" } else { text_for_visitors(error) })
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

/// Answers 409 and a short sentence for visitors: a success would acknowledge a lost write. For the sentence, the same holds
/// as for [`PlainErrors`].
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
        let SessionHandle(shared) = self.layer.manager.handle_in(request.headers(), request.extensions());
        if let Some(outer) = request.extensions_mut().insert(SessionHandle(Arc::clone(&shared))) {
            // If a layer further out has the same manager, nobody will ask for `shared`, so there is nothing to commit here.
            nest(request.extensions_mut(), &shared, outer);
        }
        let (on_error, on_ended) = (self.layer.on_error.clone(), self.layer.on_ended.clone());
        ResponseFuture { handler: self.inner.call(request), shared, on_error, on_ended, committing: None }
    }
}

/// The handles of session layers further out, but for the one of the layer that comes next.
#[derive(Clone, Default)]
struct OuterHandles(Vec<SessionHandle>);

/// Puts the handle of a layer of the same manager as `inner`'s, if there is one further out, in the place of `inner`. `next` is the
/// handle of the next layer further out.
#[cold]
fn nest(extensions: &mut Extensions, inner: &Arc<Shared>, next: SessionHandle) {
    let mut outer = extensions.remove::<OuterHandles>().unwrap_or_default();
    outer.0.push(next);
    if let Some(place) = outer.0.iter().position(|handle| handle.0.has_manager_of(inner)) {
        let same = outer.0.remove(place);
        extensions.insert(same);
    }
    extensions.insert(outer);
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
    if shared.close_untouched() {
        return true;
    }
    let status = response.status();
    let failed = status.is_server_error() && !shared.commits_on_server_error();
    // A handler that was cut off has not finished, whatever is to become of server errors.
    if failed || status == StatusCode::REQUEST_TIMEOUT {
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
            Ok(Released::Gone { lost_write: true }) => {
                tracing::info!(
                    "a commit was refused: the session had ended or was replaced under the request"
                );
                this.on_ended.respond(response)
            }
            Ok(_) => return Poll::Ready(Ok(response)),
            Err(mut error) => {
                error.log("a session could not be committed");
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
