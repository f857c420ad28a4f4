//! `CsrfLayer`, a `tower` layer.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::CsrfBody;
use super::origin::PageOrigin;
use super::rules::{CsrfRules, CsrfVerdict};
use crate::error::Result;
use crate::middleware::checked::CheckedFuture;
use crate::middleware::tower::{OnError, PlainErrors};

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
/// A refused request gets 403. [`CsrfRules`](crate::middleware::CsrfRules) has the same rules for other frameworks.
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
    rules: Arc<CsrfRules>,
    on_refused: E,
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
        CsrfLayer { rules: Arc::new(CsrfRules::new()), on_refused: PlainErrors }
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
    pub fn field(self, name: impl Into<Box<str>>) -> Self {
        self.with(|rules| rules.field(name))
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
    pub fn header(self, name: HeaderName) -> Self {
        self.with(|rules| rules.header(name))
    }

    /// Accepts requests from pages of `origin` too. They need a token all the same. Default: no other origin than the site's own.
    ///
    /// An origin is parsed from text, and a malformed one is an error [there](PageOrigin#method.from_str). So nothing that this layer
    /// is made of can be wrong.
    ///
    /// ```
    /// use cloakroom::{CsrfLayer, ErrorKind, middleware::PageOrigin};
    ///
    /// let layer = CsrfLayer::new().trust_origin("https://app.example.com".parse()?);
    /// let error = "https://*.example.com".parse::<PageOrigin>().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn trust_origin(self, origin: PageOrigin) -> Self {
        self.with(|rules| rules.trust_origin(origin))
    }

    /// Requires a token of requests without a live session, too. A login then needs a token, so its page must have one.
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use axum::{Router, body::Body, extract::Request, routing::post};
    /// # use cloakroom::{CsrfLayer, Manager, MemoryProvider, SessionLayer};
    /// # use tower::ServiceExt;
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let site = |csrf: CsrfLayer| -> Router {
    ///     Router::new().route("/login", post(async || "welcome")).layer(csrf).layer(SessionLayer::new(sessions.clone()))
    /// };
    /// let login = || Request::post("/login").body(Body::empty()).unwrap();
    /// assert_eq!(site(CsrfLayer::new()).oneshot(login()).await.unwrap().status(), 200);
    /// assert_eq!(site(CsrfLayer::new().require_session()).oneshot(login()).await.unwrap().status(), 403);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn require_session(self) -> Self {
        self.with(CsrfRules::require_session)
    }

    /// Checks the first rule only, and no token.
    ///
    /// Use it for an API whose clients cannot get a token. It relies on the browser to send `Sec-Fetch-Site` or `Origin`, as all
    /// current ones do. It needs no [`SessionLayer`](crate::SessionLayer).
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use axum::{Router, body::Body, extract::Request, routing::post};
    /// # use cloakroom::CsrfLayer;
    /// # use tower::ServiceExt;
    /// let api: Router = Router::new().route("/order", post(async || "ordered")).layer(CsrfLayer::new().origin_only());
    /// let from = |site| Request::post("/order").header("sec-fetch-site", site).body(Body::empty()).unwrap();
    /// assert_eq!(api.clone().oneshot(from("same-origin")).await.unwrap().status(), 200);
    /// assert_eq!(api.oneshot(from("cross-site")).await.unwrap().status(), 403);
    /// # });
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn origin_only(self) -> Self {
        self.with(CsrfRules::origin_only)
    }

    /// Sets the function that makes the response to a refused request. By default it is [`PlainErrors`]: 403 and a short
    /// sentence.
    ///
    /// The error's [kind](crate::Error::kind) is [`Forged`](crate::ErrorKind::Forged). If the session could not be read, it is the kind of that
    /// error.
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use axum::{Router, body::Body, extract::Request, routing::post};
    /// # use tower::ServiceExt;
    /// use cloakroom::{CsrfLayer, Error};
    /// use http::Response;
    ///
    /// let layer = CsrfLayer::new().origin_only().on_refused(|error: &Error| {
    ///     Response::builder().status(error.status()).header("x-reason", "csrf").body(Body::empty()).unwrap()
    /// });
    /// let api: Router = Router::new().route("/order", post(async || "ordered")).layer(layer);
    /// let forged = Request::post("/order").header("sec-fetch-site", "cross-site").body(Body::empty()).unwrap();
    /// assert_eq!(api.oneshot(forged).await.unwrap().headers()["x-reason"], "csrf");
    /// # });
    /// ```
    pub fn on_refused<F>(self, respond: F) -> CsrfLayer<F> {
        CsrfLayer { rules: self.rules, on_refused: respond }
    }

    fn with(self, change: impl FnOnce(CsrfRules) -> CsrfRules) -> Self {
        let rules = change(Arc::unwrap_or_clone(self.rules));
        CsrfLayer { rules: Arc::new(rules), on_refused: self.on_refused }
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
    type Future = CheckedFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let request = request.map(CsrfBody::new);
        if !self.layer.rules.apply_to(&request) {
            return CheckedFuture::pass(self.inner.call(request));
        }
        // `poll_ready` was called on `self.inner`, not on its clone. So the original handles this request.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        let layer = self.layer.clone();
        CheckedFuture::check(async move {
            let (parts, mut body) = request.into_parts();
            match check(&layer.rules, &parts, &mut body).await {
                Ok(()) => ready.call(Request::from_parts(parts, body)).await,
                Err(error) => Ok(layer.on_refused.respond(&error)),
            }
        })
    }
}

async fn check<B>(rules: &CsrfRules, parts: &Parts, body: &mut CsrfBody<B>) -> Result<()>
where
    B: Body<Data = Bytes> + Unpin,
{
    match rules.check(parts, parts.extensions.get()).await? {
        CsrfVerdict::Pass => Ok(()),
        CsrfVerdict::ReadForm(mut form) => {
            if !body.read_until(|data| form.read(data)).await {
                return Err(form.broken());
            }
            form.verify()
        }
    }
}
