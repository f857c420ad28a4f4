//! The cookie: its settings, how it is read from a request and written to a response.

mod read;
mod write;

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use read::each_token;
pub(crate) use write::{CookieWriter, no_store, vary};

/// The settings of the cookie that carries the session id.
///
/// Made by a [`ManagerBuilder`](crate::ManagerBuilder) or by a configuration text; this is the view on what came of it.
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

/// What a cookie's `SameSite` says about requests that other sites cause.
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
    /// Sent from other sites only when a visitor follows a link. The default.
    Lax,
    /// Never sent from other sites.
    Strict,
    /// Always sent; needs Secure.
    None,
    /// The attribute is left out and the browser decides.
    Unspecified,
}

impl CookieConfig {
    /// The name, `__Host-id` with the builder's defaults.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `Path`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The `Domain`; `None` keeps the cookie on the host that set it.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Whether the cookie was configured `Secure`; [`Manager::set_secure`](crate::Manager::set_secure) may have changed it since.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Whether scripts are kept from the cookie.
    pub fn http_only(&self) -> bool {
        self.http_only
    }

    /// The `SameSite` attribute.
    pub fn same_site(&self) -> SameSite {
        self.same_site
    }

    /// How long the browser keeps the cookie; `None` until it is closed.
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Makes this a cookie that browsers keep over plain HTTP.
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

    /// Answers whether browsers would take this cookie, and take it as meant (RFC 6265bis, sections 4.1.1 and 4.1.3).
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
    /// The builder's: `__Host-id`, Secure, HttpOnly, Lax, `/`, for the browser's session.
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

/// The characters of a token, RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Debug, thiserror::Error)]
enum CookieError {
    #[error("cookieName is required; give the name of the cookie that carries the session id")]
    NoName,
    #[error(
        "cookieName: expected 1 to 128 letters, digits and !#$%&'*+-.^_`|~, found another character or more of them"
    )]
    Name,
    #[error("the cookie's path: expected / and printable ASCII without a semicolon, 1,024 bytes at most")]
    Path,
    #[error("domain: expected a host name such as example.com, found something else")]
    Domain,
    #[error("a cookie named __Host-… needs Secure, the path / and no domain; change these or the name")]
    HostPrefix,
    #[error("a cookie named __Secure-… needs Secure; switch it on or change the name")]
    SecurePrefix,
    #[error("SameSite=None needs Secure; switch it on or choose Lax")]
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
    fn what_a_browser_would_take_otherwise_is_refused_at_build() {
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
