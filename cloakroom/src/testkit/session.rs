//! `TestSession`: a stored session, and the headers of a request that carries it.

use std::fmt;

#[cfg(feature = "csrf")]
use http::HeaderName;
use http::Request;
use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use serde::Serialize;

use crate::error::Result;
use crate::manager::Manager;
#[cfg(feature = "csrf")]
use crate::middleware::csrf::CsrfToken;
use crate::principal::{Level, Principal};
use crate::record::Lifetime;
use crate::session::{Session, SessionData};

/// A session for the tests of an application. It stores the session and makes the headers of a request that carries it.
///
/// ```
/// use cloakroom::testkit::TestSession;
/// use cloakroom::{Manager, MemoryProvider};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let headers = TestSession::new(&sessions).principal("alice").set("cart", 3).headers().await;
///
/// // The application handles a request with these headers:
/// let session = sessions.start(&headers).await?;
/// assert_eq!(session.principal().unwrap().as_str(), "alice");
/// assert_eq!(session.get::<u32>("cart")?, Some(3));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// [`apply`](Self::apply) adds the headers to a request, and [`cookie`](Self::cookie) returns the value of the `Cookie` header alone.
///
/// A [`ManualClock`](crate::ManualClock) tests expiry:
///
/// ```
/// use cloakroom::testkit::TestSession;
/// use cloakroom::{Lifetime, ManualClock, Manager, MemoryProvider};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let time = ManualClock::default();
/// let provider = MemoryProvider::builder().clock(time.clock()).build();
/// let sessions = Manager::builder(provider).clock(time.clock()).build()?;
/// let kiosk = Lifetime::idle(Duration::from_secs(120));
/// let headers = TestSession::new(&sessions).principal("alice").lifetime(kiosk).headers().await;
///
/// time.advance(Duration::from_secs(100));
/// assert!(sessions.start(&headers).await?.principal().is_some());
/// time.advance(Duration::from_secs(200));
/// assert!(sessions.start(&headers).await?.principal().is_none());
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// # Panics
///
/// The methods that store the session panic if that fails. They also panic without a user and a value, since such a session is
/// never stored.
#[must_use = "nothing is stored before `headers`, `apply` or `cookie`"]
pub struct TestSession {
    manager: Manager,
    principal: Option<String>,
    level: Option<Level>,
    changes: Vec<Change>,
    #[cfg(feature = "csrf")]
    csrf: bool,
}

type Change = Box<dyn FnOnce(&Session) -> Result<()> + Send>;

impl TestSession {
    /// Begins a session of `manager`. Nothing is stored before [`headers`](Self::headers), [`apply`](Self::apply) or
    /// [`cookie`](Self::cookie).
    pub fn new(manager: &Manager) -> Self {
        TestSession {
            manager: manager.clone(),
            principal: None,
            level: None,
            changes: Vec::new(),
            #[cfg(feature = "csrf")]
            csrf: false,
        }
    }

    /// Logs the user `name` in, at [`Level::default`] unless [`level`](Self::level) sets another.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let request = TestSession::new(&sessions).principal("alice").headers().await;
    /// let session = sessions.start(&request).await?;
    /// assert_eq!(session.principal().unwrap().as_str(), "alice");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        self.principal = Some(name.into());
        self
    }

    /// Sets the level of the login. Needs a [`principal`](Self::principal).
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Level, Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let headers = TestSession::new(&sessions).principal("alice").level(Level::new(2)).headers().await;
    /// sessions.start(&headers).await?.require_level(Level::new(2))?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Sets the session's own lifetime.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Lifetime, ManualClock, Manager, MemoryProvider};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let time = ManualClock::default();
    /// # let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// # let sessions = Manager::builder(provider).clock(time.clock()).build()?;
    /// let month = Lifetime::remembered(Duration::from_secs(30 * 24 * 60 * 60));
    /// let request = TestSession::new(&sessions).principal("alice").lifetime(month).headers().await;
    /// time.advance(Duration::from_secs(29 * 24 * 60 * 60));
    /// assert!(sessions.start(&request).await?.principal().is_some(), "remembered for 30 days");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        self.change(move |session| session.set_lifetime(lifetime))
    }

    /// Stores `value` under `key`, for a handler that calls [`Session::get`].
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// use cloakroom::testkit::TestSession;
    ///
    /// let headers = TestSession::new(&sessions).set("theme", "dark").set("visits", 3).headers().await;
    /// let session = sessions.start(&headers).await?;
    /// assert_eq!(session.get::<u32>("visits")?, Some(3));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// A struct that handlers take as [`Typed`](crate::Typed) needs [`data`](Self::data), which stores its version as well.
    pub fn set<T: Serialize + Send + 'static>(self, key: impl Into<String>, value: T) -> Self {
        let key = key.into();
        self.change(move |session| session.set(&key, value))
    }

    /// Stores a struct under its own key, for a handler that takes it as [`Typed`](crate::Typed).
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider, SessionData};
    /// #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// struct Cart {
    ///     items: Vec<u32>,
    /// }
    ///
    /// impl SessionData for Cart {
    ///     const KEY: &'static str = "cart";
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let headers = TestSession::new(&sessions).data(Cart { items: vec![7] }).headers().await;
    /// assert_eq!(sessions.start(&headers).await?.typed::<Cart>()?.items, [7]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn data<T: SessionData + Send + 'static>(self, value: T) -> Self {
        self.change(move |session| {
            let mut data = session.typed::<T>()?;
            *data = value;
            data.save()
        })
    }

    /// Adds the session's CSRF token to the request, in the header `X-CSRF-Token`.
    ///
    /// For a form, or a header with another name, use [`headers_and_token`](Self::headers_and_token).
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let mut request = http::Request::post("/address").body("Main Street")?;
    /// TestSession::new(&sessions).principal("alice").csrf_token().apply(&mut request).await;
    /// assert!(request.headers().contains_key("x-csrf-token"));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    #[cfg(feature = "csrf")]
    pub fn csrf_token(mut self) -> Self {
        self.csrf = true;
        self
    }

    fn change(mut self, change: impl FnOnce(&Session) -> Result<()> + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Stores the session and returns the headers of a request that carries it.
    ///
    /// The header is `Cookie`, or the header for ids if the manager sends no cookies.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let headers = TestSession::new(&sessions).principal("alice").headers().await;
    /// assert!(sessions.start(&headers).await?.principal().is_some());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn headers(self) -> HeaderMap {
        self.stored().await.headers
    }

    /// Stores the session and returns the headers of a request that carries it, and a CSRF token for the field of a form.
    ///
    /// ```
    /// # use cloakroom::testkit::TestSession;
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let (headers, token) = TestSession::new(&sessions).principal("alice").headers_and_token().await;
    /// let form = format!("csrf_token={token}&address=Main+Street");
    /// sessions.start(&headers).await?.verify_csrf_token(token.as_str())?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "csrf")]
    pub async fn headers_and_token(self) -> (HeaderMap, CsrfToken) {
        let stored = TestSession { csrf: true, ..self }.stored().await;
        let mut headers = stored.headers;
        headers.remove(TOKEN);
        (headers, stored.token.expect("a token was asked for"))
    }

    /// Stores the session and adds it to `request`, which keeps its other cookies.
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
        for (name, value) in self.stored().await.headers.iter() {
            let headers = request.headers_mut();
            let others = headers.get_all(name).iter().filter(|_| name == COOKIE).map(HeaderValue::as_bytes);
            let all = others.chain([value.as_bytes()]).collect::<Vec<_>>().join(&b"; "[..]);
            headers.insert(name.clone(), sensitive(&all));
        }
    }

    /// Stores the session and returns the value of a `Cookie` header that carries it: `name=id`.
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
        let mut headers = self.stored().await.headers;
        headers.remove(COOKIE).expect("this manager sends no cookies; use `headers` or `apply`")
    }

    /// Stores the session through the manager, and takes a browser's next headers from the response.
    async fn stored(self) -> StoredSession {
        let session =
            self.manager.start(&HeaderMap::new()).await.expect("a request without a cookie needs no store");
        match (self.principal, self.level) {
            (Some(name), level) => {
                let principal = Principal::new(name).expect("a user of 1 to 256 bytes");
                session.authenticate_at(principal, level.unwrap_or_default()).expect("nothing was released");
            }
            (None, Some(_)) => panic!("a level is that of a user: call `principal` too"),
            (None, None) => {}
        }
        for change in self.changes {
            change(&session).expect("values within the manager's limits");
        }
        #[cfg(feature = "csrf")]
        let token = if self.csrf {
            Some(session.csrf_token().await.expect("the session of a test is stored"))
        } else {
            None
        };
        let mut response = HeaderMap::new();
        let _ = session.release(&mut response).await.expect("the session of a test is stored");
        assert!(
            session.id().is_some(),
            "a session with neither user nor values is never stored: call `principal` or `set`"
        );
        let headers = next_headers(&self.manager, &response);
        #[cfg(feature = "csrf")]
        let headers = with_token(headers, token.as_ref());
        StoredSession {
            headers,
            #[cfg(feature = "csrf")]
            token,
        }
    }
}

struct StoredSession {
    headers: HeaderMap,
    #[cfg(feature = "csrf")]
    token: Option<CsrfToken>,
}

#[cfg(feature = "csrf")]
fn with_token(mut headers: HeaderMap, token: Option<&CsrfToken>) -> HeaderMap {
    if let Some(token) = token {
        headers.insert(TOKEN, sensitive(token.as_str().as_bytes()));
    }
    headers
}

#[cfg(feature = "csrf")]
const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// Returns the headers that a client sends after `response`: its cookies or, without any, its id in the header for ids.
fn next_headers(manager: &Manager, response: &HeaderMap) -> HeaderMap {
    let pair = |cookie: &'_ HeaderValue| {
        let bytes = cookie.as_bytes();
        bytes.split(|byte| *byte == b';').next().unwrap_or_default().to_vec()
    };
    let cookies: Vec<_> = response.get_all(SET_COOKIE).iter().map(pair).collect();
    let mut headers = HeaderMap::new();
    if !cookies.is_empty() {
        headers.insert(COOKIE, sensitive(&cookies.join(&b"; "[..])));
    } else if let Some(name) = &manager.config().id_header
        && let Some(id) = response.get(name)
    {
        headers.insert(name.clone(), sensitive(id.as_bytes()));
    }
    headers
}

fn sensitive(bytes: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(bytes).expect("joined header values are a header value");
    value.set_sensitive(true);
    value
}

impl fmt::Debug for TestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSession").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "config-string", feature = "memory"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]
mod tests {
    use super::*;
    use crate::provider::memory::MemoryProvider;

    fn sessions() -> Manager {
        Manager::builder(MemoryProvider::new()).build().unwrap()
    }

    #[tokio::test]
    async fn a_session_is_stored_and_its_headers_reach_it() {
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
    async fn a_request_keeps_its_other_cookies() {
        let sessions = sessions();
        let mut request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        TestSession::new(&sessions).set("n", 1).apply(&mut request).await;
        let cookie = request.headers()[COOKIE].to_str().unwrap();
        assert!(cookie.starts_with("a=1; b=2; __Host-id="), "{}", cookie.len());
        assert_eq!(sessions.start(request.headers()).await.unwrap().get::<u32>("n").unwrap(), Some(1));
    }

    #[tokio::test]
    async fn without_cookies_the_id_is_in_its_header() {
        let config = r#"{"cookieName":"id","enableSetCookie":false,"EnableSidInHTTPHeader":true,
            "SessionNameInHTTPHeader":"x-session"}"#;
        let sessions = Manager::new("memory", config).await.unwrap();
        let mut request = Request::get("/").header("x-session", "former").body(()).unwrap();
        TestSession::new(&sessions).set("n", 1).apply(&mut request).await;
        assert_eq!(request.headers().get_all("x-session").iter().count(), 1, "the former value is replaced");
        assert_eq!(request.headers().get(COOKIE), None);
        assert_eq!(sessions.start(request.headers()).await.unwrap().get::<u32>("n").unwrap(), Some(1));
    }

    #[derive(Default, serde::Serialize, serde::Deserialize)]
    struct Cart {
        items: u32,
    }

    impl SessionData for Cart {
        const KEY: &'static str = "cart";
    }

    #[tokio::test]
    async fn a_test_session_has_level_lifetime_and_data() {
        let time = crate::ManualClock::default();
        let provider = MemoryProvider::builder().clock(time.clock()).build();
        let sessions = Manager::builder(provider).clock(time.clock()).build().unwrap();
        let idle = std::time::Duration::from_secs(120);
        let test = TestSession::new(&sessions)
            .level(Level::new(2))
            .lifetime(Lifetime::idle(idle))
            .data(Cart { items: 3 })
            .principal("alice");
        let headers = test.headers().await;
        let session = sessions.start(&headers).await.unwrap();
        assert_eq!(session.level(), Some(Level::new(2)));
        assert_eq!(session.typed::<Cart>().unwrap().items, 3);
        drop(session);
        time.advance(idle);
        assert_eq!(sessions.start(&headers).await.unwrap().principal(), None);
    }

    #[cfg(feature = "csrf")]
    #[tokio::test]
    async fn a_request_can_carry_the_sessions_token() {
        for user in [Some("alice"), None] {
            let sessions = sessions();
            let test = || match user {
                Some(user) => TestSession::new(&sessions).principal(user),
                None => TestSession::new(&sessions).set("cart", 3),
            };
            let headers = test().csrf_token().headers().await;
            let session = sessions.start(&headers).await.unwrap();
            assert_eq!(session.principal().is_some(), user.is_some());
            session.verify_csrf_token(headers["x-csrf-token"].to_str().unwrap()).unwrap();
            let (headers, token) = test().headers_and_token().await;
            assert_eq!(headers.len(), 1);
            sessions.start(&headers).await.unwrap().verify_csrf_token(token.as_str()).unwrap();
            let mut request = Request::post("/").header("cookie", "a=1").body(()).unwrap();
            test().csrf_token().apply(&mut request).await;
            let session = sessions.start(request.headers()).await.unwrap();
            let token = request.headers()["x-csrf-token"].to_str().unwrap();
            session.verify_csrf_token(token).unwrap();
        }
    }

    #[cfg(feature = "cookie")]
    #[tokio::test]
    async fn a_session_in_a_cookie_is_carried_too() {
        let ring = crate::KeyRing::new(crate::seal::SealKey::generate().unwrap());
        let sessions = Manager::builder(crate::CookieProvider::new(ring)).build().unwrap();
        let headers = TestSession::new(&sessions).principal("alice").set("cart", 3).headers().await;
        let session = sessions.start(&headers).await.unwrap();
        assert_eq!(session.get::<u32>("cart").unwrap(), Some(3));
    }

    #[tokio::test]
    #[should_panic(expected = "call `principal` too")]
    async fn a_level_without_a_user_panics_with_advice() {
        let _ = TestSession::new(&sessions()).level(Level::new(2)).headers().await;
    }

    #[tokio::test]
    #[should_panic(expected = "call `principal` or `set`")]
    async fn an_empty_session_panics_with_advice() {
        let _ = TestSession::new(&sessions()).cookie().await;
    }
}
