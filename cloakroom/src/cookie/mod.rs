//! The session cookie: its settings, reading it from a request, and writing it to a response.
//!
//! `read.rs` finds the cookie's values in any number of `Cookie` headers, and compares names byte for byte. `write.rs` makes
//! `Set-Cookie`, for a new token and for its removal, and adds `Vary` and `Cache-Control`. The settings are checked by the rules of
//! RFC 6265bis, so that browsers accept the cookie.

mod read;
mod write;

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use read::each_token;
pub(crate) use write::{CookieWriter, no_store, vary};

/// The settings of the cookie that carries the session id.
///
/// [`ManagerBuilder`](crate::ManagerBuilder) or the configuration string sets them. This type reads the effective values:
///
/// ```
/// use cloakroom::{Manager, MemoryProvider};
///
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let cookie = sessions.config().cookie();
/// assert_eq!((cookie.name(), cookie.path(), cookie.secure()), ("__Host-id", "/", true));
/// assert_eq!(cookie.lifetime(), None, "until the browser is closed");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieConfig {
    pub(crate) name: Box<str>,
    pub(crate) path: Box<str>,
    pub(crate) domain: Option<Box<str>>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) lifetime: Option<Duration>,
}

/// The `SameSite` attribute of a cookie: when the browser sends it with requests from other sites.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, config::SameSite};
///
/// let sessions = Manager::builder(MemoryProvider::new()).same_site(SameSite::Strict).build()?;
/// assert_eq!(sessions.config().cookie().same_site(), SameSite::Strict);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// The browser sends it from other sites only when the visitor follows a link. The default.
    Lax,
    /// The browser never sends it from other sites.
    Strict,
    /// The browser always sends it. It needs `Secure`.
    None,
    /// The attribute is omitted, so the browser decides.
    Unspecified,
}

impl CookieConfig {
    /// Returns the name: `__Host-id` by default.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the `Path`: `/` by default.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the `Domain`. With `None` the browser sends the cookie only to the host that set it.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert_eq!(sessions.config().cookie().domain(), None);
    ///
    /// // www.example.com and shop.example.com share the sessions.
    /// let builder = Manager::builder(MemoryProvider::new()).cookie_name("__Secure-id").cookie_domain("example.com");
    /// assert_eq!(builder.build()?.config().cookie().domain(), Some("example.com"));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Returns true if the cookie was configured `Secure`. [`Manager::set_secure`](crate::Manager::set_secure) does not change
    /// this value.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert!(sessions.config().cookie().secure());
    /// let development = Manager::builder(MemoryProvider::new()).plain_http_for_development().build()?;
    /// assert!(!development.config().cookie().secure());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Returns true if the cookie is `HttpOnly`, so that scripts cannot read it.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// assert!(sessions.config().cookie().http_only());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn http_only(&self) -> bool {
        self.http_only
    }

    /// Returns the `SameSite` attribute.
    pub fn same_site(&self) -> SameSite {
        self.same_site
    }

    /// Returns how long the browser keeps the cookie; `None` until the browser is closed.
    ///
    /// The session ends by its own [timeouts](crate::guide::lifetimes), which may be shorter.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// use std::time::Duration;
    ///
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let sessions = Manager::builder(MemoryProvider::new()).cookie_lifetime(week).build()?;
    /// assert_eq!(sessions.config().cookie().lifetime(), Some(week));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Changes the settings so that browsers accept the cookie over plain HTTP.
    pub(crate) fn allow_plain_http(&mut self) {
        self.secure = false;
        for prefix in ["__Host-", "__Secure-"] {
            let len = prefix.len();
            if self.name.len() > len
                && self.name.get(..len).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            {
                self.name = self.name[len..].into();
            }
        }
        if self.same_site == SameSite::None {
            self.same_site = SameSite::Lax;
        }
    }

    /// Checks that browsers accept this cookie with these attributes (RFC 6265bis, sections 4.1.1 and 4.1.3).
    pub(crate) fn check(&self) -> Result<()> {
        self.problem().map_or(Ok(()), |problem| Err(Error::new(ErrorKind::Config, problem)))
    }

    fn problem(&self) -> Option<CookieError> {
        let prefixed = |prefix: &str| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let (host, secure) = (prefixed("__Host-"), prefixed("__Secure-"));
        let domain_fits = |domain: &str| {
            let label = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            domain.len() <= 253 && domain.split('.').all(label)
        };
        // RFC 6265bis 5.6 ignores an attribute of more than 1,024 bytes.
        let path_fits = self.path.starts_with('/')
            && self.path.len() <= 1024
            && self.path.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b';');
        if self.name.is_empty() {
            Some(CookieError::NoName)
        } else if self.name.len() > 128 || !self.name.bytes().all(is_token_byte) {
            Some(CookieError::Name)
        } else if !path_fits {
            Some(CookieError::Path)
        } else if self.domain.as_deref().is_some_and(|domain| !domain_fits(domain)) {
            Some(CookieError::Domain)
        } else if host && (!self.secure || self.domain.is_some() || &*self.path != "/") {
            Some(CookieError::HostPrefix)
        } else if secure && !self.secure {
            Some(CookieError::SecurePrefix)
        } else if self.same_site == SameSite::None && !self.secure {
            Some(CookieError::SameSiteNone)
        } else {
            None
        }
    }
}

impl Default for CookieConfig {
    /// Returns the defaults of the builder: `__Host-id`, Secure, HttpOnly, Lax, `/`, until the browser is closed.
    fn default() -> Self {
        CookieConfig {
            name: "__Host-id".into(),
            path: "/".into(),
            domain: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            lifetime: None,
        }
    }
}

/// Returns true for a character of a token, RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Debug, thiserror::Error)]
enum CookieError {
    #[error("cookieName is required; set it to the name of the session cookie, such as gosessionid")]
    NoName,
    #[error(
        "cookieName: expected 1 to 128 letters, digits and !#$%&'*+-.^_`|~, found more, or another character"
    )]
    Name,
    #[error(
        "the cookie's path: expected / and printable ASCII without a semicolon, at most 1,024 bytes, found other text"
    )]
    Path,
    #[error("domain: expected a host name such as example.com, found other text")]
    Domain,
    #[error("a cookie named __Host-… needs Secure, the path / and no domain; change these or the name")]
    HostPrefix,
    #[error("a cookie named __Secure-… needs Secure; enable it or change the name")]
    SecurePrefix,
    #[error("SameSite=None needs Secure; enable it or choose Lax")]
    SameSiteNone,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut CookieConfig)) -> Result<()> {
        let mut cookie = CookieConfig { name: "id".into(), ..CookieConfig::default() };
        change(&mut cookie);
        cookie.check()
    }

    #[test]
    fn a_cookie_that_browsers_refuse_is_an_error_at_build() {
        with(|_| ()).unwrap();
        type Change = fn(&mut CookieConfig);
        let bad: &[(&str, Change)] = &[
            ("cookieName is required", |cookie| cookie.name = "".into()),
            ("cookieName: expected", |cookie| cookie.name = "a=b".into()),
            ("cookieName: expected", |cookie| cookie.name = "a\r\nb".into()),
            ("cookieName: expected", |cookie| cookie.name = "ü".into()),
            ("the cookie's path", |cookie| cookie.path = "/;Domain=e".into()),
            ("the cookie's path", |cookie| cookie.path = "/\u{7f}".into()),
            ("the cookie's path", |cookie| cookie.path = "shop".into()),
            ("domain: expected", |cookie| cookie.domain = Some("a..b".into())),
            ("domain: expected", |cookie| cookie.domain = Some("a;b".into())),
            ("__Host-", |cookie| (cookie.name, cookie.secure) = ("__Host-id".into(), false)),
            ("__Host-", |cookie| (cookie.name, cookie.domain) = ("__host-id".into(), Some("a.b".into()))),
            ("__Host-", |cookie| (cookie.name, cookie.path) = ("__Host-id".into(), "/shop".into())),
            ("__Secure-", |cookie| (cookie.name, cookie.secure) = ("__Secure-id".into(), false)),
            ("SameSite=None", |cookie| (cookie.same_site, cookie.secure) = (SameSite::None, false)),
        ];
        for (expected, change) in bad {
            let error = with(change).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }
}
