//! A logged-in request in one line.

use std::fmt;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use http::{HeaderName, Request};
use serde::Serialize;

use crate::error::Result;
use crate::manager::Manager;
use crate::principal::Principal;
use crate::session::Session;

/// A stored session and the request headers that bring it, for tests of applications: what a login, a few pages and a browser
/// would have come to.
///
/// ```
/// use cloakroom::testkit::TestSession;
/// use cloakroom::{Manager, MemoryProvider};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let headers = TestSession::new(&sessions).principal("alice").set("cart", 3).headers().await;
///
/// // What the application does with such a request:
/// let session = sessions.start(&headers).await?;
/// assert_eq!(session.principal().unwrap().as_str(), "alice");
/// assert_eq!(session.get::<u32>("cart")?, Some(3));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// [`apply`](Self::apply) puts it into a request that is there already, [`cookie`](Self::cookie) gives the bare header.
///
/// # Panics
///
/// As tests do: where the session cannot be stored, and where neither a user nor a value was given, since such a session is
/// never stored.
#[must_use = "nothing is stored before `headers`, `apply` or `cookie`"]
pub struct TestSession {
    manager: Manager,
    changes: Vec<Change>,
}

type Change = Box<dyn FnOnce(&Session) -> Result<()> + Send>;

impl TestSession {
    /// Begins a session of `manager`'s.
    pub fn new(manager: &Manager) -> Self {
        TestSession { manager: manager.clone(), changes: Vec::new() }
    }

    /// Logs this user in.
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.changes.push(Box::new(move |session| session.authenticate(Principal::new(name)?)));
        self
    }

    /// Puts `value` under `key`.
    pub fn set<T: Serialize + Send + 'static>(mut self, key: impl Into<String>, value: T) -> Self {
        let key = key.into();
        self.changes.push(Box::new(move |session| session.set(&key, value)));
        self
    }

    /// Stores the session. The headers of a request that brings it: `Cookie`, or the header for ids where the
    /// manager sends no cookies.
    pub async fn headers(self) -> HeaderMap {
        let (name, value) = self.stored().await;
        HeaderMap::from_iter([(name, value)])
    }

    /// Stores the session, and has `request` bring it beside the cookies that it has.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let mut request = http::Request::get("/cart").header("cookie", "theme=dark").body(())?;
    /// TestSession::new(&sessions).principal("alice").apply(&mut request).await;
    /// assert!(request.headers()["cookie"].to_str()?.starts_with("theme=dark; __Host-id="));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn apply<B>(self, request: &mut Request<B>) {
        let (name, value) = self.stored().await;
        let headers = request.headers_mut();
        let others = headers.get_all(&name).iter().filter(|_| name == COOKIE).map(HeaderValue::as_bytes);
        let all = others.chain([value.as_bytes()]).collect::<Vec<_>>().join(&b"; "[..]);
        let all = HeaderValue::from_bytes(&all).expect("header values, joined by what may stand in one");
        headers.insert(name, all);
    }

    /// Stores the session. The value of a `Cookie` header that brings it: `name=id`.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let cookie = TestSession::new(&sessions).set("visits", 1).cookie().await;
    /// let request = http::Request::get("/").header("cookie", cookie).body(())?;
    /// assert_eq!(sessions.start(request.headers()).await?.get::<u32>("visits")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn cookie(self) -> HeaderValue {
        let (name, value) = self.stored().await;
        assert_eq!(name, COOKIE, "this manager sends no cookies; use `headers` or `apply`");
        value
    }

    /// Stores the session through the manager. The header that a request brings it in.
    async fn stored(self) -> (HeaderName, HeaderValue) {
        let session =
            self.manager.start(&HeaderMap::new()).await.expect("a request without a cookie needs no store");
        for change in self.changes {
            change(&session).expect("a user of 1 to 256 bytes, and values within the manager's limits");
        }
        let _ = session.release(&mut HeaderMap::new()).await.expect("the session of a test is stored");
        let id = session
            .id()
            .expect("a session with neither user nor values is never stored: call `principal` or `set`");
        let config = self.manager.config();
        let cookie = || (COOKIE, format!("{}={}", config.cookie().name(), id.expose()));
        let (name, text) = match &config.id_header {
            Some(header) if !config.send_cookie => (header.clone(), id.expose().to_owned()),
            _ => cookie(),
        };
        let mut value = HeaderValue::try_from(text).expect("a cookie's name and an id are visible ASCII");
        value.set_sensitive(true);
        (name, value)
    }
}

impl fmt::Debug for TestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSession").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]
mod tests {
    use super::*;
    use crate::provider::memory::MemoryProvider;

    fn sessions() -> Manager {
        Manager::builder(MemoryProvider::new()).build().unwrap()
    }

    #[tokio::test]
    async fn the_session_is_stored_and_its_headers_reach_it() {
        let sessions = sessions();
        let test = TestSession::new(&sessions).set("cart", 3).principal("alice").set("name", "Ada");
        let headers = test.headers().await;
        assert_eq!(headers.len(), 1);
        let session = sessions.start(&headers).await.unwrap();
        assert_eq!(session.principal(), Some(Principal::new("alice").unwrap()));
        assert_eq!(session.get::<u32>("cart").unwrap(), Some(3));
        assert_eq!(session.get::<String>("name").unwrap().as_deref(), Some("Ada"));
        assert!(session.authenticated().is_some());
        assert_eq!(sessions.active_sessions().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_request_keeps_the_cookies_it_has() {
        let sessions = sessions();
        let mut request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        TestSession::new(&sessions).set("n", 1).apply(&mut request).await;
        let cookie = request.headers()[COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("a=1; b=2; __Host-id="), "{}", cookie.len());
        assert_eq!(sessions.start(request.headers()).await.unwrap().get::<u32>("n").unwrap(), Some(1));
    }

    #[tokio::test]
    async fn a_manager_without_cookies_gets_its_id_in_its_header() {
        let config = r#"{"cookieName":"id","enableSetCookie":false,"EnableSidInHTTPHeader":true,
            "SessionNameInHTTPHeader":"x-session"}"#;
        let sessions = Manager::new("memory", config).await.unwrap();
        let mut request = Request::get("/").header("x-session", "former").body(()).unwrap();
        TestSession::new(&sessions).set("n", 1).apply(&mut request).await;
        assert_eq!(request.headers().get_all("x-session").iter().count(), 1, "the former is replaced");
        assert_eq!(request.headers().get(COOKIE), None);
        assert_eq!(sessions.start(request.headers()).await.unwrap().get::<u32>("n").unwrap(), Some(1));
    }

    #[tokio::test]
    #[should_panic(expected = "call `principal` or `set`")]
    async fn a_session_of_nothing_is_refused_with_advice() {
        let _ = TestSession::new(&sessions()).cookie().await;
    }
}
