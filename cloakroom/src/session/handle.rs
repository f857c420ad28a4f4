//! The handle by which the middleware and the extractors reach a request's session.

use std::fmt;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, HeaderName, SET_COOKIE, VARY};
use http::{Extensions, HeaderMap, StatusCode};

use super::Session;
use super::response::{Outcome, Replacement};
use crate::error::Result;
use crate::head::RequestHead;
use crate::request::{Exchange, Released};

/// A request's session that nobody has asked for yet. The middleware puts it into the request's extensions.
///
/// Nothing has been read. [`load`](Self::load) reads the record once per request, however often it is called.
///
/// A middleware makes one handle for each request, with [`Manager::handle`](crate::Manager::handle), and
/// [releases](Self::release) it before the response head leaves. The chapter
/// [your own framework](crate::guide::your_own_framework) shows a whole adapter.
#[derive(Clone)]
pub struct SessionHandle(pub(crate) Arc<Exchange>);

/// # For handlers and extractors
impl SessionHandle {
    /// Returns the session. The first call reads it from the provider.
    ///
    /// ```
    /// # #[cfg(feature = "axum")]
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use axum::{Extension, Router, extract::Request, routing::get};
    /// # use cloakroom::{Manager, MemoryProvider, SessionLayer};
    /// # use tower::ServiceExt;
    /// use cloakroom::session::SessionHandle;
    ///
    /// async fn visit(Extension(handle): Extension<SessionHandle>) -> cloakroom::Result<String> {
    ///     let session = handle.load().await?;
    ///     let visits = session.update("visits", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
    ///     Ok(format!("visit {visits}"))
    /// }
    ///
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let app: Router = Router::new().route("/", get(visit)).layer(SessionLayer::new(sessions));
    /// let response = app.oneshot(Request::get("/").body(axum::body::Body::empty()).unwrap()).await.unwrap();
    /// assert!(response.headers().contains_key("set-cookie"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// A failure is an error, never an empty session. The kinds are those of the provider:
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), [`ErrorKind::Timeout`](crate::ErrorKind::Timeout),
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), [`ErrorKind::Incompatible`](crate::ErrorKind::Incompatible).
    pub async fn load(&self) -> Result<Session> {
        self.0.load().await.map(|_| self.loaded())
    }

    /// Does what [`load`](Self::load) does, for an extractor that has the request's head. If the session's cookie is set over plain
    /// HTTP, where browsers drop it, the log has a [warning](crate::guide::plain_http) once.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let request = http::Request::get("/").header("host", "localhost").body(())?;
    /// let session = sessions.handle(request.headers()).load_for(&request).await?;
    /// assert!(session.is_empty()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub async fn load_for<H: RequestHead + ?Sized>(&self, head: &H) -> Result<Session> {
        let loaded = match self.0.load_at_once() {
            Some(loaded) => loaded,
            None => Box::pin(self.0.load_waiting()).await,
        };
        self.loaded_for(loaded, head)
    }

    /// Returns the session after a load for a request with `head`. The axum extractor calls this itself, since the future of
    /// [`load_for`](Self::load_for) inside its own costs 20 instructions.
    #[inline]
    pub(crate) fn loaded_for<H: RequestHead + ?Sized>(
        &self,
        loaded: Result<bool>,
        head: &H,
    ) -> Result<Session> {
        if !loaded? {
            self.look_for_plain_http(head);
        }
        Ok(self.loaded())
    }

    fn look_for_plain_http<H: RequestHead + ?Sized>(&self, head: &H) {
        let value = |name: &'static str| head.values(&HeaderName::from_static(name)).next();
        self.0.look_for_plain_http(value, || head.authority());
    }

    /// Returns the session, which was loaded.
    #[inline]
    pub(crate) fn loaded(&self) -> Session {
        Session::new(Arc::clone(&self.0))
    }
}

/// # For adapters
impl SessionHandle {
    /// Puts the handle into a request's extensions.
    ///
    /// Nested adapters of one manager share one session: if an outer one has put a handle of this manager there, that handle stays, and
    /// the outer adapter commits. This handle is then never loaded, so its release does nothing. Handles of different managers are
    /// independent: the innermost one is found in the extensions.
    ///
    /// A framework with an extension type of its own can keep an `http::Extensions` in it.
    ///
    /// ```
    /// # use cloakroom::session::SessionHandle;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let mut request = http::Request::new(());
    /// let handle = sessions.handle(request.headers());
    /// handle.insert_into(request.extensions_mut());
    ///
    /// // A handler:
    /// let session = request.extensions().get::<SessionHandle>().expect("the adapter put it there").load().await?;
    /// # assert!(session.is_empty()?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[inline]
    pub fn insert_into(&self, extensions: &mut Extensions) {
        if let Some(outer) = extensions.insert(self.clone()) {
            self.nest(extensions, outer);
        }
    }

    /// Replaces this handle by that of an outer adapter with the same manager, if there is one. `next` is the handle of the nearest outer
    /// adapter.
    #[cold]
    fn nest(&self, extensions: &mut Extensions, next: SessionHandle) {
        let mut outer = extensions.remove::<OuterHandles>().unwrap_or_default();
        outer.0.push(next);
        if let Some(place) = outer.0.iter().position(|handle| handle.0.has_manager_of(&self.0)) {
            let same = outer.0.remove(place);
            extensions.insert(same);
        }
        extensions.insert(outer);
    }

    /// Commits the session before the response head leaves, and writes to the response's headers what the client has to know. Returns
    /// whether the response may be sent.
    ///
    /// The handler's response has `status` and `headers`. Call it once for each response, before the head is sent. Do not call it for a
    /// handler that panics or is cancelled, or whose framework closes the connection: then nothing is committed.
    ///
    /// # Rules
    ///
    /// | case | what happens |
    /// |---|---|
    /// | nobody has asked for the session | no header, no I/O |
    /// | `status` is 5xx, unless [`commit_on_server_error`](crate::ManagerBuilder::commit_on_server_error) is set; or 408 | nothing is committed; an earlier [`save`](Session::save) still sends its cookie |
    /// | the commit succeeds, or has nothing to do | [`Outcome::Send`] |
    /// | the session ended, and changes are lost | [`Outcome::Replace`] with 409, and a log line |
    /// | the commit fails | [`Outcome::Replace`] with the [status](crate::Error::status) of the error, and a log line; an earlier save still sends its cookie |
    ///
    /// # Headers
    ///
    /// A release reads and writes these headers alone, and [`response_headers`](Self::response_headers) lists them:
    ///
    /// | header | written if | how |
    /// |---|---|---|
    /// | `Vary` | the session was asked for | `Cookie` is added to the list, and the name of the [id header](crate::ManagerBuilder::id_header) if one is set; a list that has the name or `*` stays |
    /// | `Set-Cookie`, the session's | the session began, got a new id or ended; its cookie is renewed; the [cookie provider](crate::guide::cookie) stores a change | appended; an earlier one of the same name is removed |
    /// | `Set-Cookie`, with the suffix `-csrf` | a visitor without a login was given a CSRF token with a new secret | the same |
    /// | the id header | one is set, and the session's cookie is set | replaced |
    /// | `Cache-Control` | any of the three before is written, or the response is a [`Replacement`] | `no-store` is added to the list, unless it is there |
    ///
    /// # Example
    ///
    /// ```
    /// # use cloakroom::middleware::Outcome;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::{Request, Response};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let request = Request::new(());
    /// let handle = sessions.handle(request.headers());
    /// let mut response = Response::new("stored"); // the handler's
    /// handle.load().await?.set("seen", true)?; //     it has changed the session
    ///
    /// let status = response.status();
    /// if let Outcome::Replace(replacement) = handle.release(status, response.headers_mut()).await {
    ///     response = replacement.into_response();
    /// }
    /// assert!(response.headers().contains_key("set-cookie"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn release(&self, status: StatusCode, headers: &mut HeaderMap) -> Outcome {
        if self.release_now(status, headers) {
            return Outcome::Send;
        }
        self.release_waiting(headers).await
    }

    /// Does what [`release`](Self::release) does, if it need not wait. Returns true if the response may be sent; false if
    /// [`release_waiting`](Self::release_waiting) has to be called, with the same headers.
    ///
    /// Most responses need not wait, since their session was not asked for or not changed. An adapter whose future is expensive to make
    /// can ask this first.
    #[inline]
    #[must_use = "false means that nothing was committed"]
    pub fn release_now(&self, status: StatusCode, headers: &mut HeaderMap) -> bool {
        if self.0.close_untouched() {
            return true;
        }
        let failed = status.is_server_error() && !self.0.commits_on_server_error();
        // 408 means that a timeout stopped the handler, so its changes are incomplete, also where server errors commit.
        if failed || status == StatusCode::REQUEST_TIMEOUT {
            self.0.abandon(headers);
            return true;
        }
        // A lost write is not acknowledged, also if the handler has released the session itself.
        let released = self.0.release_at_once(headers);
        released.is_some_and(|released| !matches!(released, Released::Gone { lost_write: true }))
    }

    /// Does the rest of a [`release`](Self::release), after [`release_now`](Self::release_now) has returned false.
    pub async fn release_waiting(&self, headers: &mut HeaderMap) -> Outcome {
        match self.0.release_waiting(headers).await {
            Ok(Released::Gone { lost_write: true }) => {
                tracing::info!(
                    "a commit was refused: the session ended or was replaced while the request ran"
                );
                Outcome::Replace(Replacement::ended(Arc::clone(&self.0)))
            }
            Ok(_) => Outcome::Send,
            Err(error) => {
                error.log("a session could not be committed");
                Outcome::Replace(Replacement::failed(Arc::clone(&self.0), error))
            }
        }
    }

    /// Returns the names of the response headers that a [release](Self::release) reads and writes.
    ///
    /// An adapter for a framework with header types of its own copies the response's values of these into a `HeaderMap`, releases with
    /// that map, and then replaces the values in the response.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let handle = sessions.handle(&http::HeaderMap::new());
    /// let names: Vec<_> = handle.response_headers().map(|name| name.as_str().to_owned()).collect();
    /// assert_eq!(names, ["vary", "set-cookie", "cache-control"]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn response_headers(&self) -> impl Iterator<Item = HeaderName> {
        [VARY, SET_COOKIE, CACHE_CONTROL].into_iter().chain(self.0.id_header().cloned())
    }
}

/// The handles of the outer adapters of a request, without that of the nearest one.
#[derive(Clone, Default)]
struct OuterHandles(Vec<SessionHandle>);

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionHandle")
    }
}
