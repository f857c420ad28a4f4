//! `CsrfLayer`, a `tower` layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::{CsrfBody, FormField};
use super::origin::{PageOrigin, Provenance, is_handshake, provenance};
use crate::error::{Error, ErrorKind, Result};
use crate::middleware::tower::{OnError, PlainErrors};
use crate::session::{FormSecrets, SessionHandle};

/// The most bytes of a form that are read for its token. A form with the token's field near its beginning needs far fewer.
const MAX_FORM: usize = 64 * 1024;

/// A `tower` layer that refuses forged requests (cross-site request forgery): those that another site's page sends with a
/// visitor's cookies.
///
/// Put it inside a [`SessionLayer`](crate::SessionLayer), which gives it the session. `GET`, `HEAD`, `OPTIONS` and `TRACE` pass,
/// so their handlers must change nothing. Every other request has to keep three rules:
///
/// 1. The browser must not say, in `Sec-Fetch-Site` or `Origin`, that the request comes from another site.
/// 2. A request with a live session must carry its [token](crate::CsrfToken), in the header `X-CSRF-Token` or in the
///    field `csrf_token` of a URL-encoded form.
/// 3. A request without a live session must carry the visitor's token, if the visitor was given one. Otherwise it passes,
///    unless [`require_session`](Self::require_session) is set. Such a request can only be a login, which the first
///    rule protects.
///
/// A refused request gets 403.
///
/// ```
/// use axum::{Router, response::Html, routing::get};
/// use cloakroom::{CsrfLayer, CsrfToken, Manager, MemoryProvider, Session, SessionLayer};
///
/// async fn form(token: CsrfToken) -> Html<String> {
///     Html(format!(
///         "<form method=post><input type=hidden name=csrf_token value={token}><input name=address></form>"
///     ))
/// }
///
/// # fn main() -> cloakroom::Result<()> {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let app: Router = Router::new()
///     .route("/address", get(form).post(async |session: Session| session.set("moved", true)))
///     .layer(CsrfLayer::new())
///     .layer(SessionLayer::new(sessions));
/// # Ok(()) }
/// ```
///
/// # Forms
///
/// A URL-encoded form is read up to its token, at most 64 KiB. Put the hidden field first. The handler still gets the whole body.
///
/// A form that uploads files (`multipart/form-data`) is not read. Have its script send the header. Or leave its route out of
/// the layer and [verify](crate::Session::verify_csrf_token) the token in the handler.
///
/// # WebSockets
///
/// A WebSocket handshake (a `GET` with `Upgrade: websocket`, or `CONNECT`) cannot carry a token. Only the first rule applies to
/// it: a page on another host is refused.
#[derive(Clone, Debug)]
pub struct CsrfLayer<E = PlainErrors> {
    policy: Arc<CsrfPolicy>,
    on_refused: E,
}

#[derive(Clone, Debug)]
struct CsrfPolicy {
    field: Box<str>,
    header: HeaderName,
    trusted: Vec<PageOrigin>,
    require_session: bool,
    origin_only: bool,
}

impl CsrfLayer {
    /// Returns a layer that looks for the token in the header `X-CSRF-Token` and in the form field `csrf_token`. It trusts no other
    /// origin.
    ///
    /// Put it inside the [`SessionLayer`](crate::SessionLayer):
    ///
    /// ```
    /// use axum::{Router, routing::post};
    /// use cloakroom::{CsrfLayer, Manager, MemoryProvider, SessionLayer};
    ///
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let app: Router = Router::new()
    ///     .route("/order", post(async || "ordered"))
    ///     .layer(CsrfLayer::new())
    ///     .layer(SessionLayer::new(sessions));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn new() -> Self {
        let policy = CsrfPolicy {
            field: "csrf_token".into(),
            header: HeaderName::from_static("x-csrf-token"),
            trusted: Vec::new(),
            require_session: false,
            origin_only: false,
        };
        CsrfLayer { policy: Arc::new(policy), on_refused: PlainErrors }
    }
}

impl Default for CsrfLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> CsrfLayer<E> {
    /// Sets the name of the form field that carries the token.
    ///
    /// ```
    /// use cloakroom::CsrfLayer;
    ///
    /// let layer = CsrfLayer::new().field("authenticity_token");
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn field(mut self, name: impl Into<Box<str>>) -> Self {
        self.policy_mut().field = name.into();
        self
    }

    /// Sets the name of the header that carries the token.
    ///
    /// ```
    /// use cloakroom::CsrfLayer;
    /// use http::HeaderName;
    ///
    /// let layer = CsrfLayer::new().field("authenticity_token").header(HeaderName::from_static("x-xsrf-token"));
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.policy_mut().header = name;
        self
    }

    /// Accepts requests from pages of `origin`, such as `https://app.example.com`. They need a token all the same.
    ///
    /// ```
    /// use cloakroom::{CsrfLayer, ErrorKind};
    ///
    /// let layer = CsrfLayer::new().trust_origin("https://app.example.com")?;
    /// let error = layer.trust_origin("https://*.example.com").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless `origin` is `http://` or `https://` with a host and perhaps a port.
    pub fn trust_origin(mut self, origin: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Config, CsrfError::Origin);
        let origin = PageOrigin::parse(origin).ok_or_else(invalid)?;
        self.policy_mut().trusted.push(origin);
        Ok(self)
    }

    /// Requires a token of requests without a live session, too. A login then needs a token, so its page must have one.
    ///
    /// ```
    /// use cloakroom::CsrfLayer;
    ///
    /// let layer = CsrfLayer::new().require_session();
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn require_session(mut self) -> Self {
        self.policy_mut().require_session = true;
        self
    }

    /// Checks the first rule only, and no token.
    ///
    /// Use it for an API whose clients cannot get a token. It relies on the browser to send `Sec-Fetch-Site` or `Origin`, as all
    /// current ones do. It needs no [`SessionLayer`](crate::SessionLayer).
    ///
    /// ```
    /// use cloakroom::CsrfLayer;
    ///
    /// let layer = CsrfLayer::new().origin_only();
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn origin_only(mut self) -> Self {
        self.policy_mut().origin_only = true;
        self
    }

    /// Sets the function that makes the response to a refused request. By default it is [`PlainErrors`]: 403 and a short
    /// sentence.
    ///
    /// The error's [kind](Error::kind) is [`Forged`](ErrorKind::Forged). If the session could not be read, it is the kind of that
    /// error.
    ///
    /// ```
    /// use cloakroom::{CsrfLayer, Error};
    /// use http::Response;
    ///
    /// let layer = CsrfLayer::new().on_refused(|error: &Error| {
    ///     Response::builder().status(error.status()).body("Please load the page again.".to_owned()).unwrap()
    /// });
    /// ```
    pub fn on_refused<F>(self, respond: F) -> CsrfLayer<F> {
        CsrfLayer { policy: self.policy, on_refused: respond }
    }

    fn policy_mut(&mut self) -> &mut CsrfPolicy {
        Arc::make_mut(&mut self.policy)
    }
}

impl<S, E: Clone> Layer<S> for CsrfLayer<E> {
    type Service = CsrfService<S, E>;

    fn layer(&self, inner: S) -> Self::Service {
        CsrfService { inner, layer: self.clone() }
    }
}

/// The service that [`CsrfLayer`] makes.
#[derive(Clone, Debug)]
pub struct CsrfService<S, E = PlainErrors> {
    inner: S,
    layer: CsrfLayer<E>,
}

impl<S, ReqBody, ResBody, E> Service<Request<ReqBody>> for CsrfService<S, E>
where
    S: Service<Request<CsrfBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Body<Data = Bytes> + Send + Unpin + 'static,
    E: OnError<ResBody> + Clone + Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = CsrfFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let request = request.map(CsrfBody::new);
        if request.method().is_safe() && !is_handshake(request.method(), request.headers()) {
            return CsrfFuture { state: CsrfState::Pass { handler: self.inner.call(request) } };
        }
        // `poll_ready` was called on `self.inner`, not on its clone. So the original handles this request.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        let layer = self.layer.clone();
        let checked = Box::pin(async move {
            let (parts, mut body) = request.into_parts();
            match layer.policy.check(&parts, &mut body).await {
                Ok(()) => ready.call(Request::from_parts(parts, body)).await,
                Err(mut error) => {
                    error.log("a request was refused");
                    Ok(layer.on_refused.respond(&error))
                }
            }
        });
        CsrfFuture { state: CsrfState::Check { checked } }
    }
}

impl CsrfPolicy {
    /// Checks the three rules, or the first one alone.
    async fn check<B>(&self, parts: &Parts, body: &mut CsrfBody<B>) -> Result<()>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if provenance(parts, &self.trusted) == Provenance::Foreign {
            return Err(Error::new(ErrorKind::Forged, CsrfError::Foreign));
        }
        if self.origin_only || is_handshake(&parts.method, &parts.headers) {
            return Ok(());
        }
        let Some(handle) = parts.extensions.get::<SessionHandle>() else {
            return Err(Error::new(ErrorKind::NoLayer, CsrfError::NoLayer));
        };
        let session = handle.load().await?;
        if session.id().is_none() && !self.require_session && !FormSecrets(&session.0).expects_token() {
            return Ok(());
        }
        session.verify_csrf_token(&self.token(&parts.headers, body).await?)
    }

    /// Returns the token in the request's header or form.
    async fn token<B>(&self, headers: &HeaderMap, body: &mut CsrfBody<B>) -> Result<String>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let absent = || Error::new(ErrorKind::Forged, CsrfError::NoToken);
        if let Some(token) = headers.get(&self.header) {
            return token.to_str().map(str::to_owned).map_err(|_| absent());
        }
        if !is_form(headers) {
            return Err(absent());
        }
        // The error of a body that cannot be read is the client's, so it adds nothing to the log.
        match body.field(&self.field, MAX_FORM).await.map_err(|_| absent())? {
            FormField::Found(token) => Ok(token),
            FormField::Absent => Err(absent()),
            FormField::TooFar => Err(Error::new(ErrorKind::Forged, CsrfError::TooFar)),
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

pin_project! {
    /// The response of a [`CsrfService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CsrfFuture<F, R, E> {
        #[pin]
        state: CsrfState<F, R, E>,
    }
}

type Checked<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

pin_project! {
    #[project = CsrfStateProjection]
    enum CsrfState<F, R, E> {
        Pass { #[pin] handler: F },
        Check { checked: Checked<R, E> },
    }
}

impl<F, R, E> fmt::Debug for CsrfFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfFuture")
    }
}

impl<F: Future<Output = Result<R, E>>, R, E> Future for CsrfFuture<F, R, E> {
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            CsrfStateProjection::Pass { handler } => handler.poll(context),
            CsrfStateProjection::Check { checked } => checked.as_mut().poll(context),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CsrfError {
    #[error(
        "the browser named another site as the origin of this request; if that site is yours, call CsrfLayer::trust_origin"
    )]
    Foreign,
    #[error("the request carried no CSRF token; put one into the form's hidden field or into the header")]
    NoToken,
    #[error("the first {MAX_FORM} bytes of the form held no CSRF token; put its hidden field first")]
    TooFar,
    #[error(
        "expected a SessionLayer around the CsrfLayer, found none; add .layer(SessionLayer::new(manager)) after it"
    )]
    NoLayer,
    #[error(
        "expected an origin such as https://app.example.com, found another text; leave out path and wildcard"
    )]
    Origin,
}
