//! The cookie that the tokens of forms are bound to while a visitor has no session.

use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use smallvec::SmallVec;

use super::Engine;
use super::ticket::Ticket;
use crate::cookie::{CookieConfig, CookieWriter, SameSite, each_token, no_store};

/// Bytes of a secret: twice the 128 bits that the OWASP cheat sheet on cross-site request forgery asks for.
pub(crate) const SECRET_LEN: usize = 32;

/// The secret behind the tokens of a visitor's forms.
pub(crate) type FormSecret = [u8; SECRET_LEN];

/// Cookies of the name that are looked at: after a change of the cookie's domain or path a browser sends two.
const MOST: usize = 4;

/// Reads and writes the cookie. It has the session cookie's name and a suffix, so that `__Host-` stays in front, and lasts
/// until the browser is closed.
#[derive(Debug)]
pub(super) struct FormCookie {
    name: Box<[u8]>,
    writer: CookieWriter,
}

impl FormCookie {
    pub(super) fn beside(session: &CookieConfig) -> Self {
        let name = format!("{}-csrf", session.name);
        let cookie = CookieConfig {
            name: name.as_str().into(),
            http_only: true,
            same_site: SameSite::Lax,
            lifetime: None,
            ..session.clone()
        };
        FormCookie { name: name.into_bytes().into(), writer: CookieWriter::new(&cookie) }
    }
}

#[allow(dead_code, reason = "the protection against forged requests calls these, and it is a feature")]
impl Engine {
    /// True if a visitor without a session can be told a secret in a cookie.
    pub(crate) fn keeps_form_secrets(&self) -> bool {
        self.sends_cookie()
    }

    /// The secrets that a request brings. Whatever is of another form is passed over.
    pub(crate) fn form_secrets(&self, ticket: &Ticket) -> SmallVec<[FormSecret; 1]> {
        let mut found = SmallVec::new();
        each_token(ticket.cookies(), &self.form_cookie.name, |text| {
            let mut secret = [0; SECRET_LEN];
            let whole = BASE64URL_NOPAD.decode_len(text.len()) == Ok(SECRET_LEN)
                && BASE64URL_NOPAD.decode_mut(text, &mut secret).is_ok();
            if whole && found.len() < MOST {
                found.push(secret);
            }
        });
        found
    }

    /// Hands the client `secret`.
    pub(crate) fn hand_out_form_secret(&self, headers: &mut HeaderMap, secret: &FormSecret) {
        let text = BASE64URL_NOPAD.encode(secret);
        self.form_cookie.writer.set(headers, text.as_bytes(), self.secure(), None);
        no_store(headers);
    }

    /// True if a request brings anything under the session's name, alive or not.
    pub(crate) fn names_a_session(&self, ticket: &Ticket) -> bool {
        let mut named = ticket.id().is_some();
        each_token(ticket.cookies(), self.config.cookie.name.as_bytes(), |_| named = true);
        named
    }
}
