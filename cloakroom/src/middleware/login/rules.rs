//! `LoginRules`: the decision whether a request may reach a handler that needs a user, without a framework.

use std::str::FromStr;
use std::time::Duration;

use http::header::ACCEPT;

use super::denial::LoginDenial;
use super::next::{NextPath, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::head::RequestHead;
use crate::principal::{Level, Principal};
use crate::session::Session;

/// The rules of handlers that need a user: a login, perhaps at a level or not long ago, and the page where users log in.
///
/// A request that breaks them is denied. A visitor who asks for a page (a `GET` or `HEAD` that accepts `text/html`) is redirected to the
/// login page, if one is set. The address has the way back, as `?next=/orders`. Every other request gets 401.
///
/// [`LoginLayer`](crate::LoginLayer) keeps them in front of axum and tower services. An adapter for another framework calls
/// [`check`](Self::check).
///
/// ```
/// # use cloakroom::middleware::LoginRules;
/// # use cloakroom::{Manager, MemoryProvider, Principal};
/// # use http::Request;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let rules = LoginRules::new().page("/login".parse()?);
/// let request = Request::get("/orders?page=2").header("accept", "text/html").body(())?;
/// let session = sessions.handle(request.headers()).load().await?;
///
/// let denial = rules.check(&request, &session).unwrap_err();
/// assert_eq!(denial.status(), http::StatusCode::SEE_OTHER);
/// assert_eq!(denial.location(), Some("/login?next=/orders%3Fpage%3D2"));
///
/// session.authenticate(Principal::new("alice")?)?;
/// assert_eq!(rules.check(&request, &session).unwrap(), Principal::new("alice")?);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LoginRules {
    page: Option<LoginPage>,
    parameter: Box<str>,
    level: Option<Level>,
    recent: Option<Duration>,
}

/// # Settings
impl LoginRules {
    /// Returns rules that need a login at any level and of any age. Without a login page, every request that breaks them gets 401.
    pub fn new() -> Self {
        LoginRules { page: None, parameter: "next".into(), level: None, recent: None }
    }

    /// Redirects visitors who ask for a page to the login page `page`.
    ///
    /// The login page must not need a login itself.
    ///
    /// ```
    /// use cloakroom::middleware::LoginRules;
    ///
    /// let rules = LoginRules::new().page("/login".parse()?);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use = "this gives the changed rules back"]
    pub fn page(mut self, page: LoginPage) -> Self {
        self.page = Some(page);
        self
    }

    /// Sets the name of the query parameter with the way back, `next` by default.
    #[must_use = "this gives the changed rules back"]
    pub fn parameter(mut self, name: impl Into<Box<str>>) -> Self {
        self.parameter = name.into();
        self
    }

    /// Requires a proof at `level` or above, as [`Session::require_level`] does.
    #[must_use = "this gives the changed rules back"]
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Requires a login within the last `age`, as [`Session::require_recent`] does.
    #[must_use = "this gives the changed rules back"]
    pub fn recent(mut self, age: Duration) -> Self {
        self.recent = Some(age);
        self
    }

    /// Returns rules that require what these and `N` require: the higher level, and the more recent login.
    #[must_use = "these rules stay as they are"]
    pub fn with_need<N: LoginNeed>(&self) -> Self {
        let recent = match (self.recent, N::RECENT) {
            (Some(own), Some(further)) => Some(own.min(further)),
            (own, further) => own.or(further),
        };
        LoginRules { level: self.level.max(N::LEVEL), recent, ..self.clone() }
    }
}

impl Default for LoginRules {
    fn default() -> Self {
        Self::new()
    }
}

/// # Checks
impl LoginRules {
    /// Returns the user of `session`, if the session keeps the rules. Otherwise returns what to answer.
    pub fn check<H: RequestHead + ?Sized>(
        &self,
        head: &H,
        session: &Session,
    ) -> Result<Principal, LoginDenial> {
        self.user(session).map_err(|error| self.deny(head, head.path_and_query(), error))
    }

    /// Returns what to answer to a request whose user the application no longer knows.
    pub fn unknown_user<H: RequestHead + ?Sized>(&self, head: &H) -> LoginDenial {
        self.deny(head, head.path_and_query(), Self::unknown())
    }

    /// Returns the error of a user that the application no longer knows.
    pub(super) fn unknown() -> Error {
        Error::new(ErrorKind::Denied, UnknownUser)
    }

    pub(super) fn user(&self, session: &Session) -> Result<Principal> {
        if let Some(level) = self.level {
            session.require_level(level)?;
        }
        if let Some(age) = self.recent {
            session.require_recent(age)?;
        }
        session.user()
    }

    /// Returns the answer to a request for `target` that is denied because of `error`.
    pub(super) fn deny<H: RequestHead + ?Sized>(&self, head: &H, target: &str, error: Error) -> LoginDenial {
        let page = self.page.as_ref().filter(|page| {
            // A login page that needs a login would redirect to itself for ever.
            asks_for_page(head) && path_of(page.0.as_str()) != path_of(target)
        });
        LoginDenial::new(error, page.map(|page| self.address(page, target)))
    }

    /// Returns the address of the login page, with the way back to `target`.
    fn address(&self, page: &LoginPage, target: &str) -> String {
        let mut address = page.0.as_str().to_owned();
        address.push(if address.contains('?') { '&' } else { '?' });
        // RFC 3986, section 2.3, and the slash, which a query may have (section 3.4).
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        encode(&self.parameter, &mut address, is_plain);
        address.push('=');
        encode(NextPath::new(target).as_str(), &mut address, is_plain);
        address
    }
}

/// The page where users log in: a path of this site, such as `/login`. To log in at another site, redirect from this page.
///
/// ```
/// use cloakroom::ErrorKind;
/// use cloakroom::middleware::LoginPage;
///
/// let page: LoginPage = "/login".parse()?;
/// let error = "https://login.example".parse::<LoginPage>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPage(NextPath);

impl FromStr for LoginPage {
    type Err = Error;

    /// Parses a path, perhaps with a query.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless it could be a [`NextPath`] and has no fragment.
    fn from_str(path: &str) -> Result<Self> {
        let page = NextPath::parse(path).filter(|_| !path.contains('#'));
        page.map(LoginPage).ok_or_else(|| Error::new(ErrorKind::Config, LoginPageError))
    }
}

/// The further requirements of a handler, as a type. `LoggedIn` takes it as its second parameter.
///
/// ```
/// use cloakroom::Level;
/// use cloakroom::middleware::LoginNeed;
/// use std::time::Duration;
///
/// /// A second factor, within the last five minutes.
/// struct Confirmed;
///
/// impl LoginNeed for Confirmed {
///     const LEVEL: Option<Level> = Some(Level::new(2));
///     const RECENT: Option<Duration> = Some(Duration::from_secs(300));
/// }
/// ```
pub trait LoginNeed: 'static {
    /// The lowest level that is accepted; `None` for any.
    const LEVEL: Option<Level>;
    /// The greatest age of the login; `None` for any.
    const RECENT: Option<Duration>;
}

/// Requires no more than a login.
#[derive(Clone, Copy, Debug)]
pub struct AnyLogin;

impl LoginNeed for AnyLogin {
    const LEVEL: Option<Level> = None;
    const RECENT: Option<Duration> = None;
}

/// Returns true if a person waits for a page: browsers name `text/html` where they load one, and not for scripts, pictures and sockets.
fn asks_for_page<H: RequestHead + ?Sized>(head: &H) -> bool {
    let mut accepted = head.values(&ACCEPT).flat_map(|value| value.split(|byte| *byte == b','));
    matches!(head.method(), "GET" | "HEAD") && accepted.any(is_html)
}

/// Returns true if a member of `Accept` accepts HTML. A weight of 0 refuses it (RFC 9110, section 12.4.2).
fn is_html(accepted: &[u8]) -> bool {
    let mut parts = accepted.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
    let is_zero = |part: &[u8]| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000");
    is_html && !parts.any(|part| is_zero(&part.to_ascii_lowercase()))
}

fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or(target)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected the login page as a path of this site, such as /login, found another text; leave out scheme, host and fragment"
)]
struct LoginPageError;

#[derive(Debug, thiserror::Error)]
#[error("the application knows no user of this session's name; the account may have been deleted")]
struct UnknownUser;
