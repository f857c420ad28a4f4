//! The secret behind a visitor's CSRF tokens: in the session, or in a cookie of its own while there is no session.

use crate::codec::Codec;
use crate::engine::{FormSecret, SECRET_LEN, form_secret_from_text, form_secret_text};
use crate::error::{Error, ErrorKind, Result};
use crate::request::{CSRF, CookieSecret, Exchange, too_late};

/// The place of the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SecretPlace {
    /// The cookie only, while there is no session.
    Cookie,
    /// The session of an anonymous visitor, and the cookie too. So a form stays valid if the session ends while the visitor fills it in.
    Both,
    /// The session of a user.
    Session,
}

/// The secret of a request's forms.
pub(crate) struct FormSecrets<'a>(pub(crate) &'a Exchange);

#[allow(dead_code, reason = "the protection against forged requests calls these, and it is a feature")]
impl FormSecrets<'_> {
    /// Returns true if `matches` accepts the visitor's secret. If there is a session, only its secret counts.
    pub(crate) fn any(&self, matches: impl Fn(&FormSecret) -> bool) -> Result<bool> {
        if self.place() != SecretPlace::Cookie {
            return Ok(self.in_session()?.is_some_and(|secret| matches(&secret)));
        }
        let mut state = self.0.state();
        if state.hides_stored() {
            return Ok(false);
        }
        if let Some(sent) = state.form_secret() {
            return Ok(matches(&sent.secret));
        }
        let presented = self.0.engine.form_cookie.secrets(&self.0.presented);
        let Some(secret) = presented.into_iter().find(|secret| matches(secret)) else { return Ok(false) };
        state.rare().form_secret = Some(CookieSecret { secret, due: false });
        Ok(true)
    }

    /// Returns the visitor's secret, and makes one if there is none. Two requests that ask at the same time for the secret of one
    /// session both get the stored one.
    pub(crate) async fn get_or_make(&self) -> Result<FormSecret> {
        match self.place() {
            SecretPlace::Session => self.make_in_session(None).await,
            SecretPlace::Cookie => self.make_in_cookie(None),
            SecretPlace::Both => {
                let secret = self.make_in_session(self.presented()).await?;
                self.make_in_cookie(Some(secret))
            }
        }
    }

    /// Returns true if a visitor without a session must present a token: the visitor has a secret, and the request names no ended session
    /// that the page may belong to.
    pub(crate) fn expects_token(&self) -> bool {
        !self.0.engine.ids.are_presented(&self.0.presented) && self.presented().is_some()
    }

    fn presented(&self) -> Option<FormSecret> {
        self.0.engine.form_cookie.secrets(&self.0.presented).first().copied()
    }

    fn place(&self) -> SecretPlace {
        let state = self.0.state();
        if state.principal().is_some() || !self.0.engine.responses.sends_cookie() {
            SecretPlace::Session
        } else if state.has_session() {
            SecretPlace::Both
        } else {
            SecretPlace::Cookie
        }
    }

    fn in_session(&self) -> Result<Option<FormSecret>> {
        self.0.with_value(CSRF, |codec, stored| Ok(stored.and_then(|bytes| read(codec, bytes))))
    }

    /// Returns the session's secret. Stores `wanted`, or a fresh one, if there is none.
    async fn make_in_session(&self, wanted: Option<FormSecret>) -> Result<FormSecret> {
        if let Some(known) = self.in_session()? {
            return Ok(known);
        }
        let fresh = wanted.map_or_else(random, Ok)?;
        let mut secret = fresh;
        let encode = |codec: Codec, stored: Option<&[u8]>| {
            if let Some(known) = stored.and_then(|bytes| read(codec, bytes)) {
                secret = known;
                return Ok(None);
            }
            secret = fresh;
            codec.encode(CSRF, &form_secret_text(&fresh), self.0.limits()).map(Some)
        };
        self.0.update(CSRF, encode).await?;
        Ok(secret)
    }

    /// Returns the cookie's secret, which is `wanted` if that is given. If it changes, the response sets the cookie.
    fn make_in_cookie(&self, wanted: Option<FormSecret>) -> Result<FormSecret> {
        let mut state = self.0.state();
        if let Some(sent) = state.form_secret()
            && wanted.is_none_or(|wanted| wanted == sent.secret)
        {
            return Ok(sent.secret);
        }
        let presented = self.presented();
        let secret = match wanted.or(presented) {
            Some(known) => known,
            None => random()?,
        };
        let due = presented != Some(secret);
        if due && !state.is_open() {
            return Err(too_late("csrf_token"));
        }
        state.rare().form_secret = Some(CookieSecret { secret, due });
        Ok(secret)
    }
}

fn random() -> Result<FormSecret> {
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret).map_err(|error| Error::new(ErrorKind::Random, error))?;
    Ok(secret)
}

/// Reads a stored secret. Anything else counts as none, and is replaced.
fn read(codec: Codec, bytes: &[u8]) -> Option<FormSecret> {
    form_secret_from_text(&codec.decode::<String>(bytes).ok()?)
}
