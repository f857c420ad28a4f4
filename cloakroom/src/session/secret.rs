//! The secret behind the tokens of forms: in the session, or in a cookie of its own while there is none.

use data_encoding::BASE64URL_NOPAD;

use super::changes::Changes;
use super::reserved::CSRF;
use super::state::{CookieSecret, Shared, State, released};
use crate::codec::Codec;
use crate::engine::{FormSecret, SECRET_LEN};
use crate::error::{Error, ErrorKind, Result};

/// Where the secret of a request's forms is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// In the cookie: there is no session.
    Cookie,
    /// In the session of a visitor who has not logged in, and in the cookie too. The form still counts if that session ends while
    /// the visitor fills it in.
    Both,
    /// In the session of a user.
    Session,
}

#[allow(dead_code, reason = "the protection against forged requests calls these, and it is a feature")]
impl Shared {
    /// Whether `matches` holds for the secret of this visitor's forms. Once there is a session, its secret alone counts.
    pub(crate) fn knows_secret(&self, matches: impl Fn(&FormSecret) -> bool) -> Result<bool> {
        if self.keeper() != Keeper::Cookie {
            return Ok(self.session_secret()?.is_some_and(|secret| matches(&secret)));
        }
        let mut state = self.state();
        if state.hides_all() {
            return Ok(false);
        }
        if let Some(handed_out) = state.form_secret() {
            return Ok(matches(&handed_out.secret));
        }
        let brought = self.engine.form_cookie.secrets(&self.presented);
        let Some(secret) = brought.into_iter().find(|secret| matches(secret)) else { return Ok(false) };
        state.rare().form_secret = Some(CookieSecret { secret, due: false });
        Ok(true)
    }

    /// The secret behind the visitor's tokens, made where there is none yet. Of two requests that ask for that of one session at
    /// the same time, both get the one that is stored.
    pub(crate) async fn secret(&self) -> Result<FormSecret> {
        match self.keeper() {
            Keeper::Session => self.secret_in_session(None).await,
            Keeper::Cookie => self.secret_in_cookie(None),
            Keeper::Both => {
                let brought = self.engine.form_cookie.secrets(&self.presented).first().copied();
                let secret = self.secret_in_session(brought).await?;
                self.secret_in_cookie(Some(secret))
            }
        }
    }

    /// True if a visitor without a session has to bring a token: they were given a secret, and they have not just lost a session
    /// whose page may have been another.
    pub(crate) fn expects_token(&self) -> bool {
        let engine = &self.engine;
        !engine.ids.are_presented(&self.presented) && !engine.form_cookie.secrets(&self.presented).is_empty()
    }

    fn keeper(&self) -> Keeper {
        if self.principal().is_some() || !self.engine.responses.sends_cookie() {
            return Keeper::Session;
        }
        let state = self.state();
        if state.stored.is_some() && !state.ends() { Keeper::Both } else { Keeper::Cookie }
    }

    fn session_secret(&self) -> Result<Option<FormSecret>> {
        self.with_value(CSRF, |codec, stored| Ok(stored.and_then(|bytes| read(codec, bytes))))
    }

    async fn secret_in_session(&self, first: Option<FormSecret>) -> Result<FormSecret> {
        if let Some(known) = self.session_secret()? {
            return Ok(known);
        }
        let fresh = first.map_or_else(random, Ok)?;
        let (mut secret, mut known) = (fresh, false);
        let encode = |codec: Codec, stored: Option<&[u8]>| {
            let found = stored.and_then(|bytes| read(codec, bytes));
            (secret, known) = (found.unwrap_or(fresh), found.is_some());
            let change = || codec.encode(CSRF, &text(&fresh), self.limits());
            (!known).then(change).transpose()
        };
        self.update(CSRF, encode).await?;
        Ok(secret)
    }

    /// Has the cookie hold `wanted`, or whatever it holds already.
    fn secret_in_cookie(&self, wanted: Option<FormSecret>) -> Result<FormSecret> {
        let mut state = self.state();
        if let Some(handed_out) = state.form_secret()
            && wanted.is_none_or(|wanted| wanted == handed_out.secret)
        {
            return Ok(handed_out.secret);
        }
        let brought = self.engine.form_cookie.secrets(&self.presented).first().copied();
        let secret = match wanted.or(brought) {
            Some(known) => known,
            None => random()?,
        };
        let due = brought != Some(secret);
        if due && !state.is_open() {
            return Err(released("csrf_token"));
        }
        state.rare().form_secret = Some(CookieSecret { secret, due });
        Ok(secret)
    }

    /// Tells the client the secret that this request has made for its cookie.
    #[cold]
    pub(super) fn tell_form_secret(&self, kept: &CookieSecret, headers: &mut http::HeaderMap) {
        if kept.due {
            let secure = self.engine.responses.is_secure();
            self.engine.form_cookie.set(headers, &kept.secret, secure);
        }
    }

    /// `changes` and the visitor's secret, where they begin an anonymous session: forms that were loaded before it go on. After a
    /// login they do not.
    #[cold]
    pub(super) fn with_form_secret(&self, kept: &CookieSecret, changes: &Changes) -> Result<Option<Changes>> {
        if changes.principal.is_some() || changes.find(CSRF).is_some() {
            return Ok(None);
        }
        let mut changes = changes.clone();
        changes.set(self.engine.config.codec.encode(CSRF, &text(&kept.secret), self.limits())?);
        Ok(Some(changes))
    }
}

impl State {
    /// True if this request has asked for the end of its session.
    fn ends(&self) -> bool {
        self.layers().any(|changes| changes.end)
    }

    /// True if this request has emptied or ended whatever there was.
    fn hides_all(&self) -> bool {
        self.layers().any(Changes::hide_stored)
    }
}

fn random() -> Result<FormSecret> {
    let mut secret = [0; SECRET_LEN];
    getrandom::fill(&mut secret).map_err(|error| Error::new(ErrorKind::Random, error))?;
    Ok(secret)
}

fn text(secret: &FormSecret) -> String {
    BASE64URL_NOPAD.encode(secret)
}

/// The secret that `bytes` are; anything else counts as none, and is replaced.
fn read(codec: Codec, bytes: &[u8]) -> Option<FormSecret> {
    let text: String = codec.decode(bytes).ok()?;
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}
