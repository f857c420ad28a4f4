//! The headers of a response that tell the client its token, or to forget it.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::plain_http::PlainHttpWatch;
use super::stored::Stored;
use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::cookie::{CookieWriter, no_store, vary};
use crate::error::Result;
use crate::provider::SealedTokens;
use crate::record::Record;
use crate::sync::{AtomicBool, Ordering};

/// Writes the session's token into responses.
#[derive(Debug)]
pub(crate) struct Responses {
    cookie: CookieWriter,
    sends_cookie: bool,
    secure: AtomicBool,
    /// The header that carries the token besides the cookie, and its name as a value of `Vary`.
    id_header: Option<(HeaderName, HeaderValue)>,
    /// Set if a session's token is its sealed record instead of its id.
    tokens: Option<SealedTokens>,
    clock: Clock,
    pub(crate) plain_http: PlainHttpWatch,
}

impl Responses {
    pub(crate) fn new(config: &Config, tokens: Option<SealedTokens>, clock: Clock) -> Self {
        Responses {
            cookie: CookieWriter::new(&config.cookie),
            // `enableSetCookie` is about a cookie with an id. If the cookie is the session, there is no session without it.
            sends_cookie: config.send_cookie || (tokens.is_some() && config.id_header.is_none()),
            secure: AtomicBool::new(config.cookie.secure),
            id_header: config.id_header.clone().map(|name| (name.clone(), HeaderValue::from(name))),
            tokens,
            clock,
            plain_http: PlainHttpWatch::default(),
        }
    }

    /// Returns true if the session cookie is set with `Secure`.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure.load(Ordering::Relaxed)
    }

    /// Switches the session cookie's `Secure` for later responses.
    pub(crate) fn set_secure(&self, secure: bool) {
        self.secure.store(secure, Ordering::Relaxed);
    }

    /// Returns true if responses set a cookie at all.
    pub(crate) fn sends_cookie(&self) -> bool {
        self.sends_cookie
    }

    /// Adds `Vary`: the response depends on the headers that name the session.
    #[inline]
    pub(crate) fn set_vary(&self, headers: &mut HeaderMap) {
        const COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
        vary(headers, COOKIE);
        if let Some((_, name)) = &self.id_header {
            vary(headers, name.clone());
        }
    }

    /// Tells the client the token of `stored`. Only sealing a token can fail.
    pub(crate) fn set_token(&self, headers: &mut HeaderMap, stored: &Stored) -> Result<()> {
        let sealed = self.tokens.as_ref().map(|tokens| tokens.seal(&stored.name.id(), &stored.record));
        let sealed = sealed.transpose()?;
        let token = sealed.as_deref().unwrap_or(stored.name.id_bytes());
        if self.sends_cookie {
            self.cookie.set(headers, token, self.is_secure(), self.cookie_lifetime(&stored.record));
        }
        if let Some((name, _)) = &self.id_header
            && let Ok(mut value) = HeaderValue::from_bytes(token)
        {
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        no_store(headers);
        Ok(())
    }

    /// Tells the client to forget its token.
    pub(crate) fn remove_token(&self, headers: &mut HeaderMap) {
        if self.sends_cookie {
            self.cookie.remove(headers, self.is_secure());
        }
        no_store(headers);
    }

    /// Returns true if the client's cookie changes with every stored use: it has a lifetime that starts anew, or it is the session itself.
    pub(crate) fn renews_cookie(&self, record: &Record) -> bool {
        self.tokens.is_some()
            || record.lifetime().map_or(self.cookie.lifetime().is_some(), |own| own.is_persistent())
    }

    /// Returns the lifetime of the cookie of `record`, which never exceeds the session's; `None` for a cookie that ends with the
    /// browser.
    fn cookie_lifetime(&self, record: &Record) -> Option<Duration> {
        if let Some(own) = record.lifetime() {
            return own.is_persistent().then(|| record.deadline().since(self.clock.millis()));
        }
        let lifetime = self.cookie.lifetime()?;
        // The clock is read only for a cookie with a lifetime.
        match record.times().absolute_deadline {
            Millis::NEVER => Some(lifetime),
            absolute => Some(lifetime.min(absolute.since(self.clock.millis()))),
        }
    }

    /// Returns true if requests are still checked for plain HTTP, because a Secure cookie would be lost on it.
    #[inline]
    pub(crate) fn watches_for_plain_http(&self) -> bool {
        self.plain_http.is_open() && self.is_secure() && self.sends_cookie
    }

    /// Warns once that a Secure cookie was set over plain HTTP.
    #[cold]
    pub(crate) fn warn_of_plain_http(&self) {
        if self.watches_for_plain_http() {
            self.plain_http.warn();
        }
    }
}
