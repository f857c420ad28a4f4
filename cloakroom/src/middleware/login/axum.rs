//! The axum extractor `LoggedIn`.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use super::denial::LoginDenial;
use super::layer::Logins;
use super::rules::{AnyLogin, LoginNeed};
use crate::error::{Error, ErrorKind};
use crate::principal::Principal;

/// The user who has logged in, as an argument of a handler. A request without a login is [redirected or gets
/// 401](super::LoginRules).
///
/// `U` is the application's own user, which the [`LoginLayer`](crate::LoginLayer) around the route loads; without a loader it is the
/// [`Principal`]. The user is loaded once a request, however many handlers and layers ask. `N` is what the handler [needs](LoginNeed)
/// besides the rules of the layer.
///
/// `Option<LoggedIn>` is `None` for a visitor without a login.
///
/// ```
/// use cloakroom::middleware::LoginNeed;
/// use cloakroom::{Level, LoggedIn, Principal};
/// use std::time::Duration;
///
/// struct Recent;
///
/// impl LoginNeed for Recent {
///     const LEVEL: Option<Level> = None;
///     const RECENT: Option<Duration> = Some(Duration::from_secs(300));
/// }
///
/// async fn orders(user: LoggedIn) -> String {
///     format!("The orders of {}", user.as_str())
/// }
///
/// async fn change_password(user: LoggedIn<Principal, Recent>) -> String {
///     format!("A new password for {}", user.as_str())
/// }
/// ```
pub struct LoggedIn<U = Principal, N = AnyLogin> {
    user: U,
    need: PhantomData<fn() -> N>,
}

impl<U, N> LoggedIn<U, N> {
    /// Returns the user.
    pub fn into_user(self) -> U {
        self.user
    }
}

impl<U, N> Deref for LoggedIn<U, N> {
    type Target = U;

    fn deref(&self) -> &U {
        &self.user
    }
}

impl<U: Clone, N> Clone for LoggedIn<U, N> {
    fn clone(&self) -> Self {
        LoggedIn { user: self.user.clone(), need: PhantomData }
    }
}

impl<U: fmt::Debug, N> fmt::Debug for LoggedIn<U, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn").field("user", &self.user).finish()
    }
}

impl<S, U, N> FromRequestParts<S> for LoggedIn<U, N>
where
    S: Sync,
    U: Clone + Send + Sync + 'static,
    N: LoginNeed,
{
    type Rejection = LoginDenial;

    /// Reads the session, checks the rules and loads the user.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, LoginDenial> {
        let logins = parts.extensions.get::<Arc<Logins<U>>>().cloned();
        let logins = logins.ok_or_else(|| LoginDenial::failed(Error::new(ErrorKind::NoLayer, NoLogins)))?;
        let user = logins.user_of::<N>(parts).await?;
        Ok(LoggedIn { user, need: PhantomData })
    }
}

impl<S, U, N> OptionalFromRequestParts<S> for LoggedIn<U, N>
where
    S: Sync,
    U: Clone + Send + Sync + 'static,
    N: LoginNeed,
{
    type Rejection = LoginDenial;

    /// Returns `None` if the rules deny the request. A session or a user that cannot be loaded is an error.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, LoginDenial> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(user) => Ok(Some(user)),
            Err(denial) if denial.error().kind() == ErrorKind::Denied => Ok(None),
            Err(denial) => Err(denial),
        }
    }
}

impl IntoResponse for LoginDenial {
    fn into_response(self) -> Response {
        self.into_response()
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a LoginLayer for users of this type around this route, found none; add .layer(LoginLayer::new(rules).optional()), with \
     load_user for a user of the application's own"
)]
struct NoLogins;
