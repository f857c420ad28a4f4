//! `CsrfRules`: the rules against forged requests, without a framework.

use std::fmt;

use http::header::{CONTENT_TYPE, HeaderName};

use super::form::{FieldSearch, FormField};
use super::origin::{PageOrigin, Provenance, is_handshake, provenance};
use crate::error::{Error, ErrorKind, Result};
use crate::head::RequestHead;
use crate::session::{FormSecrets, Session, SessionHandle};

/// The most bytes of a form that are read for its token. A form with the token's field near its beginning needs far fewer.
const MAX_FORM: usize = 64 * 1024;

/// The rules of [`CsrfLayer`](crate::CsrfLayer) without a framework, for [adapters](crate::guide::your_own_framework).
///
/// ```
/// # use cloakroom::middleware::{CsrfRules, CsrfVerdict};
/// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
/// # use http::Request;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let rules = CsrfRules::new();
/// let page = Request::get("/").body(())?;
/// assert!(!rules.apply_to(&page));
///
/// let own = Request::post("/login").header("sec-fetch-site", "same-origin").body(())?;
/// let handle = sessions.handle(own.headers());
/// assert!(rules.apply_to(&own));
/// assert!(matches!(rules.check(&own, Some(&handle)).await?, CsrfVerdict::Pass)); // a visitor without a session
///
/// let foreign = Request::post("/login").header("sec-fetch-site", "cross-site").body(())?;
/// assert_eq!(rules.check(&foreign, Some(&handle)).await.unwrap_err().kind(), ErrorKind::Forged);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct CsrfRules {
    field: Box<str>,
    header: HeaderName,
    trusted: Vec<PageOrigin>,
    require_session: bool,
    origin_only: bool,
}

/// # Settings
impl CsrfRules {
    /// Returns rules that look for the token in the header `X-CSRF-Token` and in the form field `csrf_token`. They trust no other origin.
    pub fn new() -> Self {
        CsrfRules {
            field: "csrf_token".into(),
            header: HeaderName::from_static("x-csrf-token"),
            trusted: Vec::new(),
            require_session: false,
            origin_only: false,
        }
    }

    /// Sets the name of the form field that carries the token.
    #[must_use = "this gives the changed rules back"]
    pub fn field(mut self, name: impl Into<Box<str>>) -> Self {
        self.field = name.into();
        self
    }

    /// Sets the name of the header that carries the token.
    #[must_use = "this gives the changed rules back"]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Accepts requests from pages of `origin` too. They need a token all the same.
    #[must_use = "this gives the changed rules back"]
    pub fn trust_origin(mut self, origin: PageOrigin) -> Self {
        self.trusted.push(origin);
        self
    }

    /// Requires a token of requests without a live session, too.
    #[must_use = "this gives the changed rules back"]
    pub fn require_session(mut self) -> Self {
        self.require_session = true;
        self
    }

    /// Checks the origin only, and no token.
    #[must_use = "this gives the changed rules back"]
    pub fn origin_only(mut self) -> Self {
        self.origin_only = true;
        self
    }
}

impl Default for CsrfRules {
    fn default() -> Self {
        Self::new()
    }
}

/// # Checks
impl CsrfRules {
    /// Returns true if the request has to be checked. `GET`, `HEAD`, `OPTIONS` and `TRACE` need no check, except WebSocket handshakes.
    pub fn apply_to<H: RequestHead + ?Sized>(&self, head: &H) -> bool {
        let is_safe = matches!(head.method(), "GET" | "HEAD" | "OPTIONS" | "TRACE");
        !is_safe || is_handshake(head)
    }

    /// Checks the first rule alone: the browser must not say, in `Sec-Fetch-Site` or `Origin`, that another site's page has sent the
    /// request.
    ///
    /// ```
    /// # use cloakroom::middleware::CsrfRules;
    /// # use http::Request;
    /// let rules = CsrfRules::new();
    /// let request = Request::post("/order").header("host", "shop.example");
    /// let own = request.header("origin", "https://shop.example").body(())?;
    /// rules.check_origin(&own)?;
    ///
    /// let foreign = Request::post("/order").header("host", "shop.example");
    /// let foreign = foreign.header("origin", "https://evil.example").body(())?;
    /// assert!(rules.check_origin(&foreign).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Forged`] if it does. The status is 403.
    pub fn check_origin<H: RequestHead + ?Sized>(&self, head: &H) -> Result<()> {
        match provenance(head, &self.trusted) {
            Provenance::Foreign => Err(forged(CsrfError::Foreign)),
            Provenance::Own | Provenance::Unknown => Ok(()),
        }
    }

    /// Checks all rules, as far as the head of the request decides them. `handle` is the one that the adapter has put into the request.
    ///
    /// The session is loaded if a token may be needed. Call it only if the rules [apply](Self::apply_to).
    ///
    /// # Errors
    /// - [`ErrorKind::Forged`] if the request breaks a rule. The status is 403. The refusal is logged.
    /// - [`ErrorKind::NoLayer`] if there is no handle
    /// - the errors of [`SessionHandle::load`]
    pub async fn check<H>(&self, head: &H, handle: Option<&SessionHandle>) -> Result<CsrfVerdict>
    where
        H: RequestHead + ?Sized,
    {
        self.decide(head, handle).await.inspect_err(|error| error.log(REFUSED))
    }

    async fn decide<H>(&self, head: &H, handle: Option<&SessionHandle>) -> Result<CsrfVerdict>
    where
        H: RequestHead + ?Sized,
    {
        self.check_origin(head)?;
        if self.origin_only || is_handshake(head) {
            return Ok(CsrfVerdict::Pass);
        }
        let handle = handle.ok_or_else(|| Error::new(ErrorKind::NoLayer, CsrfError::NoLayer))?;
        let session = handle.load().await?;
        if session.id().is_none() && !self.require_session && !FormSecrets(&session.0).expects_token() {
            return Ok(CsrfVerdict::Pass);
        }
        if let Some(token) = head.values(&self.header).next() {
            let token = std::str::from_utf8(token).map_err(|_| forged(CsrfError::NoToken))?;
            session.verify_csrf_token(token)?;
            return Ok(CsrfVerdict::Pass);
        }
        if !is_form(head) {
            return Err(forged(CsrfError::NoToken));
        }
        Ok(CsrfVerdict::ReadForm(CsrfForm::new(&self.field, session)))
    }
}

/// The answer to a request whose head breaks no rule.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "an adapter that does not handle a verdict must not compile")]
#[must_use = "a form has to be read for its token"]
pub enum CsrfVerdict {
    /// The request may reach its handler.
    Pass,
    /// The token has to be in the body, which is a URL-encoded form.
    ReadForm(CsrfForm),
}

/// A form that has to carry the visitor's token.
///
/// Give it the bytes of the body as they arrive, until [`read`](Self::read) returns true or the body ends. Then
/// [`verify`](Self::verify). The handler needs these bytes too, so keep them. A body that breaks meanwhile is [`broken`](Self::broken):
/// the handler must not take a part of a form for the whole.
///
/// ```
/// # use cloakroom::middleware::{CsrfRules, CsrfVerdict};
/// # use cloakroom::{ErrorKind, Manager, MemoryProvider};
/// # use http::Request;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// # let kind = "application/x-www-form-urlencoded";
/// # let request = Request::post("/").header("content-type", kind).body("csrf_token=planted&n=1")?;
/// # let handle = sessions.handle(request.headers());
/// # let rules = CsrfRules::new().require_session();
/// let CsrfVerdict::ReadForm(mut form) = rules.check(&request, Some(&handle)).await? else { return Ok(()) };
/// for piece in request.body().as_bytes().chunks(8) {
///     if form.read(piece) {
///         break;
///     }
/// }
/// assert_eq!(form.verify().unwrap_err().kind(), ErrorKind::Forged);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "the request may be forged until `verify` has succeeded"]
pub struct CsrfForm {
    search: FieldSearch,
    found: Option<FormField>,
    session: Session,
}

impl CsrfForm {
    fn new(field: &str, session: Session) -> Self {
        CsrfForm { search: FieldSearch::new(field.into(), MAX_FORM), found: None, session }
    }

    /// Reads the next bytes of the body. Returns true if no more are needed.
    pub fn read(&mut self, data: &[u8]) -> bool {
        if self.found.is_none() {
            self.found = self.search.read(data);
        }
        self.found.is_some()
    }

    /// Returns the error with which to refuse a request whose body broke before its token was found. The status is 403. The refusal is
    /// logged.
    pub fn broken(self) -> Error {
        let error = forged(CsrfError::Broken);
        error.log(REFUSED);
        error
    }

    /// Checks the token in the bytes that were read.
    ///
    /// # Errors
    /// [`ErrorKind::Forged`] if there is none in the first 64 KiB, or if it is not this visitor's. The status is 403. The refusal is
    /// logged.
    pub fn verify(self) -> Result<()> {
        let verified = match self.found.unwrap_or_else(|| self.search.end()) {
            FormField::Found(token) => self.session.verify_csrf_token(&token),
            FormField::Absent => Err(forged(CsrfError::NoToken)),
            FormField::TooFar => Err(forged(CsrfError::TooFar)),
        };
        verified.inspect_err(|error| error.log(REFUSED))
    }
}

impl fmt::Debug for CsrfForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfForm").field("found", &self.found.is_some()).finish_non_exhaustive()
    }
}

fn is_form<H: RequestHead + ?Sized>(head: &H) -> bool {
    let kind = head.values(&CONTENT_TYPE).next().unwrap_or_default();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The log's words for every refusal.
const REFUSED: &str = "a request was refused";

fn forged(reason: CsrfError) -> Error {
    Error::new(ErrorKind::Forged, reason)
}

#[derive(Debug, thiserror::Error)]
enum CsrfError {
    #[error(
        "the browser named another site as the origin of this request; if that site is yours, call CsrfLayer::trust_origin"
    )]
    Foreign,
    #[error("the request carried no CSRF token; put one into the form's hidden field or into the header")]
    NoToken,
    #[error(
        "the body of the request broke off before its CSRF token was found; the visitor may send it again"
    )]
    Broken,
    #[error("the first {MAX_FORM} bytes of the form held no CSRF token; put its hidden field first")]
    TooFar,
    #[error(
        "expected a SessionLayer around the CsrfLayer, found none; add .layer(SessionLayer::new(manager)) after it"
    )]
    NoLayer,
}
