//! The cookie with the secret behind a visitor's form tokens, while the visitor has no session.

#![allow(dead_code, reason = "the protection against forged requests uses this, and it is a feature")]

use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use smallvec::SmallVec;

use super::presented::Presented;
use crate::cookie::{CookieConfig, CookieWriter, SameSite, each_token, no_store};

/// Bytes of a secret: twice the 128 bits that the OWASP cheat sheet on cross-site request forgery asks for.
pub(crate) const SECRET_LEN: usize = 32;

/// The secret behind the tokens of a visitor's forms.
pub(crate) type FormSecret = [u8; SECRET_LEN];

/// Encodes `secret` as it is written to the cookie and to a session.
pub(crate) fn form_secret_text(secret: &FormSecret) -> String {
    BASE64URL_NOPAD.encode(secret)
}

/// Decodes the text of [`form_secret_text`]; `None` for any other text.
pub(crate) fn form_secret_from_text(text: &str) -> Option<FormSecret> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The number of cookies with this name that are read. After a change of the cookie's domain or path a browser sends two.
const MOST: usize = 4;

/// Reads and writes the cookie.
///
/// Its name is the session cookie's with a suffix, so `__Host-` stays in front. It ends with the browser.
#[derive(Debug)]
pub(crate) struct FormCookie {
    name: Box<[u8]>,
    writer: CookieWriter,
}

impl FormCookie {
    /// Returns the cookie beside the `session` cookie.
    pub(crate) fn beside(session: &CookieConfig) -> Self {
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

    /// Returns the secrets that a request presents. Values of another form are ignored.
    pub(crate) fn secrets(&self, presented: &Presented) -> SmallVec<[FormSecret; 1]> {
        let mut found = SmallVec::new();
        each_token(presented.cookies(), &self.name, |text| {
            let mut secret = [0; SECRET_LEN];
            let whole = BASE64URL_NOPAD.decode_len(text.len()) == Ok(SECRET_LEN)
                && BASE64URL_NOPAD.decode_mut(text, &mut secret).is_ok();
            if whole && found.len() < MOST {
                found.push(secret);
            }
        });
        found
    }

    /// Sets the cookie to `secret`.
    pub(crate) fn set(&self, headers: &mut HeaderMap, secret: &FormSecret, secure: bool) {
        let text = form_secret_text(secret);
        self.writer.set(headers, text.as_bytes(), secure, None);
        no_store(headers);
    }
}
