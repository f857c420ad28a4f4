//! `LoginLayer`, a `tower` layer, and the application's own user.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Extensions, Request, Response, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::denial::LoginDenial;
use super::rules::{AnyLogin, LoginNeed, LoginRules};
use crate::error::{Error, ErrorKind, Result};
use crate::middleware::body::plain;
use crate::middleware::checked::CheckedFuture;
use crate::principal::Principal;
use crate::session::SessionHandle;

/// A `tower` layer for handlers that need a user. A request without a login is [redirected or gets 401](LoginRules).
///
/// Put it inside a [`SessionLayer`](crate::SessionLayer). With axum, add it by `route_layer`, so that an unknown path stays 404.
///
/// [`load_user`](Self::load_user) loads the application's own user, once for each request. `LoggedIn`, an extractor of axum, hands it to
/// handlers.
///
/// ```
/// use axum::{Router, routing::get};
/// use cloakroom::middleware::LoginRules;
/// use cloakroom::{LoggedIn, LoginLayer, Manager, MemoryProvider, SessionLayer};
///
/// #[derive(Clone)]
/// struct User {
///     name: String,
/// }
///
/// async fn orders(user: LoggedIn<User>) -> String {
///     format!("The orders of {}", user.name)
/// }
///
/// # fn main() -> cloakroom::Result<()> {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let logins = LoginLayer::new(LoginRules::new().page("/login".parse()?))
///     // An application asks its database. `None` is an account that no longer exists.
///     .load_user(async |principal| Ok(Some(User { name: principal.as_str().to_owned() })));
/// let app: Router = Router::new()
///     .route("/orders", get(orders))
///     .route_layer(logins)
///     .route("/login", get(async || "Who are you?"))
///     .layer(SessionLayer::new(sessions));
/// # Ok(()) }
/// ```
///
/// # Nested routers
///
/// A nested router of axum sees a path without its prefix. The way back is the path that the outermost `LoginLayer` of a request sees. So
/// add the layer to the outer router, or an [`optional`](Self::optional) one there.
pub struct LoginLayer<U = Principal> {
    logins: Arc<Logins<U>>,
    is_optional: bool,
}

/// The rules and the loader of the users of one type.
pub(super) struct Logins<U> {
    rules: LoginRules,
    load: LoadUser<U>,
}

type LoadUser<U> = Box<dyn Fn(Principal) -> UserFuture<U> + Send + Sync>;
type UserFuture<U> = Pin<Box<dyn Future<Output = Result<Option<U>>> + Send>>;

impl LoginLayer {
    /// Returns a layer whose handlers need what `rules` say. Their user is the [`Principal`].
    pub fn new(rules: LoginRules) -> Self {
        let load: LoadUser<Principal> =
            Box::new(|principal| Box::pin(std::future::ready(Ok(Some(principal)))));
        LoginLayer { logins: Arc::new(Logins { rules, load }), is_optional: false }
    }
}

impl<U> LoginLayer<U> {
    /// Loads the application's own user with `load`, once for each request with a login.
    ///
    /// If `load` returns `None`, the application no longer knows the user, and the request is denied like one without a login. If it fails,
    /// the response has the error's [status](Error::status).
    pub fn load_user<T, F, R>(self, load: F) -> LoginLayer<T>
    where
        F: Fn(Principal) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<T>>> + Send + 'static,
    {
        let load: LoadUser<T> = Box::new(move |principal| Box::pin(load(principal)));
        let logins = Logins { rules: self.logins.rules.clone(), load };
        LoginLayer { logins: Arc::new(logins), is_optional: self.is_optional }
    }

    /// Lets requests without a login pass. Handlers that need a user take `LoggedIn`, and others do not, or take `Option<LoggedIn>`.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use cloakroom::middleware::LoginRules;
    /// use cloakroom::{LoggedIn, LoginLayer, Manager, MemoryProvider, SessionLayer};
    ///
    /// async fn home(user: Option<LoggedIn>) -> String {
    ///     user.map_or("Welcome".to_owned(), |user| format!("Welcome, {}", user.as_str()))
    /// }
    ///
    /// async fn orders(user: LoggedIn) -> String {
    ///     format!("The orders of {}", user.as_str())
    /// }
    ///
    /// # fn main() -> cloakroom::Result<()> {
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let app: Router = Router::new()
    ///     .route("/", get(home))
    ///     .route("/orders", get(orders))
    ///     .layer(LoginLayer::new(LoginRules::new().page("/login".parse()?)).optional())
    ///     .layer(SessionLayer::new(sessions));
    /// # Ok(()) }
    /// ```
    #[must_use = "this gives the changed layer back"]
    pub fn optional(self) -> Self {
        LoginLayer { logins: self.logins, is_optional: true }
    }
}

impl<U> Clone for LoginLayer<U> {
    fn clone(&self) -> Self {
        LoginLayer { logins: Arc::clone(&self.logins), is_optional: self.is_optional }
    }
}

impl<U> fmt::Debug for LoginLayer<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("LoginLayer");
        debug.field("rules", &self.logins.rules).field("is_optional", &self.is_optional);
        debug.finish_non_exhaustive()
    }
}

impl<S, U> Layer<S> for LoginLayer<U> {
    type Service = LoginService<S, U>;

    fn layer(&self, inner: S) -> Self::Service {
        LoginService { inner, layer: self.clone() }
    }
}

/// The service that [`LoginLayer`] makes.
pub struct LoginService<S, U = Principal> {
    inner: S,
    layer: LoginLayer<U>,
}

impl<S: Clone, U> Clone for LoginService<S, U> {
    fn clone(&self) -> Self {
        LoginService { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, U> fmt::Debug for LoginService<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginService").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, U, ReqBody, ResBody> Service<Request<ReqBody>> for LoginService<S, U>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: Default + 'static,
    U: Clone + Send + Sync + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = CheckedFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        note_target(&mut request);
        request.extensions_mut().insert(Arc::clone(&self.layer.logins));
        if self.layer.is_optional {
            return CheckedFuture::pass(self.inner.call(request));
        }
        // `poll_ready` was called on `self.inner`, not on its clone. So the original handles this request.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        let logins = Arc::clone(&self.layer.logins);
        CheckedFuture::check(async move {
            let (mut parts, body) = request.into_parts();
            match logins.user_of::<AnyLogin>(&mut parts).await {
                Ok(_) => ready.call(Request::from_parts(parts, body)).await,
                Err(denial) => Ok(denied(&denial)),
            }
        })
    }
}

fn denied<B: Default + 'static>(denial: &LoginDenial) -> Response<B> {
    let mut response = plain(denial.status(), denial.text());
    denial.write_headers(response.headers_mut());
    response
}

/// The target of a request as its outermost `LoginLayer` has seen it.
#[derive(Clone)]
struct OuterTarget(Option<PathAndQuery>);

fn note_target<B>(request: &mut Request<B>) {
    if request.extensions().get::<OuterTarget>().is_none() {
        let target = OuterTarget(request.uri().path_and_query().cloned());
        request.extensions_mut().insert(target);
    }
}

fn target_of<'a>(extensions: &'a Extensions, uri: &'a Uri) -> &'a str {
    let outer = extensions.get::<OuterTarget>().map(|outer| outer.0.as_ref());
    outer.unwrap_or_else(|| uri.path_and_query()).map_or("/", PathAndQuery::as_str)
}

/// The user that was loaded for a request.
#[derive(Clone)]
struct LoadedUser<U> {
    /// The loader that found it. Another layer's loader may refuse this user.
    by: Arc<Logins<U>>,
    /// The session that names it. Another manager's users may have the same names.
    session: SessionHandle,
    principal: Principal,
    user: U,
}

impl<U: Clone + Send + Sync + 'static> Logins<U> {
    /// Returns the user of a request, if its session keeps the rules and `N`. Each loader loads it once.
    pub(super) async fn user_of<N: LoginNeed>(self: &Arc<Self>, parts: &mut Parts) -> Result<U, LoginDenial> {
        let handle = parts.extensions.get::<SessionHandle>().cloned();
        let handle = handle.ok_or_else(|| LoginDenial::failed(Error::new(ErrorKind::NoLayer, NoSessions)))?;
        let session = handle.load_for(parts).await.map_err(LoginDenial::failed)?;
        let rules = self.rules.with_need::<N>();
        let deny = |parts: &Parts, error| rules.deny(parts, target_of(&parts.extensions, &parts.uri), error);
        let principal = rules.user(&session).map_err(|error| deny(parts, error))?;
        if let Some(loaded) = parts.extensions.get::<LoadedUser<U>>()
            && Arc::ptr_eq(&loaded.by, self)
            && Arc::ptr_eq(&loaded.session.0, &handle.0)
            && loaded.principal == principal
        {
            return Ok(loaded.user.clone());
        }
        let loaded = (self.load)(principal.clone()).await.map_err(|error| match error.kind() {
            ErrorKind::Denied => deny(parts, error),
            _ => LoginDenial::failed(error),
        })?;
        let user = loaded.ok_or_else(|| deny(parts, LoginRules::unknown()))?;
        let by = Arc::clone(self);
        parts.extensions.insert(LoadedUser { by, session: handle, principal, user: user.clone() });
        Ok(user)
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a SessionLayer around the LoginLayer, found none; add .layer(SessionLayer::new(manager)) after it"
)]
struct NoSessions;
