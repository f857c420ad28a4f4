//! The `tower` layer.

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

use super::body::{CsrfBody, Field};
use super::origin::{Origin, Provenance, is_handshake, provenance};
use crate::error::{Error, ErrorKind, Result};
use crate::middleware::tower::{OnError, PlainErrors};
use crate::session::SessionHandle;

/// As far as a form is read for its token: more than any form that carries it near its beginning.
const MAX_FORM: usize = 64 * 1024;

/// Refuses requests that another site's page sends in a visitor's name (cross-site request forgery).
///
/// Goes inside a [`SessionLayer`](crate::SessionLayer), whose session it looks at. `GET`, `HEAD`, `OPTIONS` and `TRACE` pass: they
/// must change nothing. For all other requests there are three rules:
///
/// 1. A request is refused if the browser says, in `Sec-Fetch-Site` or `Origin`, that it comes from another site.
/// 2. A request with a live session must bring its [token](crate::CsrfToken), in the header `X-CSRF-Token` or in the
///    field `csrf_token` of a URL-encoded form.
/// 3. A request without a session must bring the token that its visitor was given, if one was. Otherwise it passes, unless
///    [`require_session`](Self::require_session) is set: nothing can be done in somebody's name but a login, which the
///    first rule guards. The same goes for a request whose session has ended.
///
/// A WebSocket handshake (a `GET` with `Upgrade: websocket`, or `CONNECT`) cannot carry a token. The first rule alone is for it, so that a
/// page on another host is refused.
///
/// A form is read as far as its token, 64 KiB at the most, and handed on whole: put the hidden field first. A form that uploads files
/// (`multipart/form-data`) is not read: have its script send the header, or leave its route out of the layer and
/// [verify](crate::Session::verify_csrf_token) the token there.
///
/// ```
/// use axum::{Router, response::Html, routing::{get, post}};
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
#[derive(Clone, Debug)]
pub struct CsrfLayer<E = PlainErrors> {
    policy: Arc<Policy>,
    on_refused: E,
}

#[derive(Clone, Debug)]
struct Policy {
    field: Box<str>,
    header: HeaderName,
    trusted: Vec<Origin>,
    require_session: bool,
    origin_only: bool,
}

impl CsrfLayer {
    /// A layer with the names that the [type](Self) tells.
    pub fn new() -> Self {
        let policy = Policy {
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
    /// The form field that carries the token.
    #[must_use = "this gives the changed layer back"]
    pub fn field(mut self, name: impl Into<Box<str>>) -> Self {
        self.policy_mut().field = name.into();
        self
    }

    /// The header that carries the token.
    #[must_use = "this gives the changed layer back"]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.policy_mut().header = name;
        self
    }

    /// Has pages of `origin`, such as `https://app.example.com`, send requests as this site's own do. They need a token all the same.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is no scheme and host, or has a path.
    pub fn trust_origin(mut self, origin: &str) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Config, CsrfError::Origin);
        let origin = Origin::parse(origin).ok_or_else(invalid)?;
        self.policy_mut().trusted.push(origin);
        Ok(self)
    }

    /// Refuses a request that would change something and brings no token, even where there is no live session. Then a login needs
    /// a token as well, so its page must ask for one.
    #[must_use = "this gives the changed layer back"]
    pub fn require_session(mut self) -> Self {
        self.policy_mut().require_session = true;
        self
    }

    /// Checks the first rule only, and no token. This suits an API whose clients cannot get a token. It trusts the browser to send
    /// `Sec-Fetch-Site` or `Origin`, as all current ones do, and needs no [`SessionLayer`](crate::SessionLayer).
    #[must_use = "this gives the changed layer back"]
    pub fn origin_only(mut self) -> Self {
        self.policy_mut().origin_only = true;
        self
    }

    /// Has `respond` make the response to a refused request; by default it is 403 and a short sentence. The error's
    /// [kind](Error::kind) is [`Forged`](ErrorKind::Forged), or that of a session that could not be read.
    pub fn on_refused<F>(self, respond: F) -> CsrfLayer<F> {
        CsrfLayer { policy: self.policy, on_refused: respond }
    }

    fn policy_mut(&mut self) -> &mut Policy {
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
            return CsrfFuture { way: Way::Pass { handler: self.inner.call(request) } };
        }
        // The clone has not been asked whether it is ready: the one that was does the work.
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
        CsrfFuture { way: Way::Check { checked } }
    }
}

impl Policy {
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
        if session.id().is_none() && !self.require_session && !session.0.expects_token() {
            return Ok(());
        }
        session.verify_csrf_token(&self.token(&parts.headers, body).await?)
    }

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
        // What went wrong with the body is the client's business, and no reason to tell more.
        match body.field(&self.field, MAX_FORM).await.map_err(|_| absent())? {
            Field::Found(token) => Ok(token),
            Field::Absent => Err(absent()),
            Field::TooFar => Err(Error::new(ErrorKind::Forged, CsrfError::TooFar)),
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
        way: Way<F, R, E>,
    }
}

type Checked<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

pin_project! {
    #[project = WayProjection]
    enum Way<F, R, E> {
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
        match self.project().way.project() {
            WayProjection::Pass { handler } => handler.poll(context),
            WayProjection::Check { checked } => checked.as_mut().poll(context),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CsrfError {
    #[error(
        "expected a request from a page of this site, found that the browser names another; if that is yours, trust its origin"
    )]
    Foreign,
    #[error(
        "expected the session's token in the header or in a form's field, found none; put one into the form"
    )]
    NoToken,
    #[error(
        "expected the session's token within the first {MAX_FORM} bytes of the form, found none; put its field first"
    )]
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
