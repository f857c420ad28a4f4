//! Shared parts of the tests of whole requests: a provider that a test can inspect and break, and a visitor of a site.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod faulty;
pub(crate) mod hooked;
pub(crate) mod log;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use cloakroom::{Clock, Manager, ManagerBuilder, MemoryProvider, Principal};
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use tower::ServiceExt;

use faulty::Faulty;
use hooked::Hooked;

/// A manager of a memory store, with a hook between the two.
pub(crate) struct Rig {
    pub(crate) manager: Manager,
    /// A manager of the same store that bypasses the faults.
    pub(crate) store: Manager,
    pub(crate) faults: Faulty,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Self {
        Self::on(MemoryProvider::new(), settings)
    }

    pub(crate) fn with_clock(clock: &Clock) -> Self {
        let provider = MemoryProvider::builder().clock(clock.clone()).build();
        Self::on(provider, |builder| builder.clock(clock.clone()))
    }

    fn on(provider: MemoryProvider, settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Self {
        let faults = Faulty::default();
        let faulty = Hooked::new(provider.clone(), faults.clone());
        let manager = settings(Manager::builder(faulty)).build().unwrap();
        Rig { manager, store: settings(Manager::builder(provider)).build().unwrap(), faults }
    }

    /// Stores a session with `n` and returns its cookie. The calls are not counted.
    pub(crate) async fn session_with(&self, n: u64) -> String {
        let session = self.store.start(&HeaderMap::new()).await.unwrap();
        session.set("n", n).unwrap();
        let mut headers = HeaderMap::new();
        let _ = session.release(&mut headers).await.unwrap();
        pair(&headers).unwrap()
    }

    /// Returns the stored value `n` of the session of `cookie`.
    pub(crate) async fn stored(&self, cookie: &str) -> Option<u64> {
        self.store.start(&cookies(cookie)).await.unwrap().get("n").unwrap()
    }

    /// Returns true if the session of `cookie` is alive.
    pub(crate) async fn alive(&self, cookie: &str) -> bool {
        self.store.start(&cookies(cookie)).await.unwrap().id().is_some()
    }

    pub(crate) async fn count(&self) -> u64 {
        self.store.active_sessions().await.unwrap()
    }
}

/// Returns the headers of a request with `cookie` as its `Cookie` header.
pub(crate) fn cookies(cookie: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(cookie).unwrap())])
}

/// Returns a request for `path` with `cookie`. An empty `cookie` means no cookie.
pub(crate) fn request(path: &str, cookie: &str) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if !cookie.is_empty() {
        *request.headers_mut() = cookies(cookie);
    }
    request
}

/// Sends a request for `path` with `cookie` to `site`.
pub(crate) async fn ask(site: &Router, path: &str, cookie: &str) -> Response {
    send(site, request(path, cookie)).await
}

pub(crate) async fn send(site: &Router, request: Request<Body>) -> Response {
    site.clone().oneshot(request).await.unwrap()
}

/// Returns the text of a response's body.
pub(crate) async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Returns every `Set-Cookie` header.
pub(crate) fn set_cookies(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
}

/// Returns `name=value` of the only cookie that is set, if one is.
pub(crate) fn pair(headers: &HeaderMap) -> Option<String> {
    let all = set_cookies(headers);
    assert!(all.len() <= 1, "more than one cookie: {}", all.len());
    all.first().map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

/// Returns the values of the header `name`, joined as HTTP joins them.
pub(crate) fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    values.join(", ")
}

pub(crate) fn alice() -> Principal {
    Principal::new("alice").unwrap()
}
