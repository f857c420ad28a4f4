//! Random secrets of the library's own in a session.

use data_encoding::BASE64URL_NOPAD;

use super::reserved::CSRF;
use super::state::Shared;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};

/// What cannot be guessed: twice the 128 bits that the OWASP cheat sheet on cross-site request forgery asks for.
const LEN: usize = 32;

#[allow(dead_code, reason = "the protection against forged requests calls these, and it is a feature")]
impl Shared {
    /// The secret behind the session's tokens, as this request sees it; `None` while there is none.
    pub(crate) fn known_secret(&self) -> Result<Option<[u8; LEN]>> {
        self.with_value(CSRF, |codec, stored| Ok(stored.and_then(|bytes| read(codec, bytes))))
    }

    /// The secret behind the session's tokens, made and stored at once where there is none yet: of two requests that ask for it at
    /// the same time, both get the one that is stored.
    pub(crate) async fn secret(&self) -> Result<[u8; LEN]> {
        if let Some(known) = self.known_secret()? {
            return Ok(known);
        }
        let mut fresh = [0; LEN];
        getrandom::fill(&mut fresh).map_err(|error| Error::new(ErrorKind::Random, error))?;
        let mut secret = fresh;
        let encode = |codec: Codec, stored: Option<&[u8]>| {
            secret = stored.and_then(|bytes| read(codec, bytes)).unwrap_or(fresh);
            let known = secret != fresh;
            let change = || codec.encode(CSRF, &BASE64URL_NOPAD.encode(&fresh), self.limits());
            (!known).then(change).transpose()
        };
        self.update(CSRF, encode).await?;
        Ok(secret)
    }
}

/// The secret that `bytes` are; what is none counts as nothing, and is replaced.
fn read(codec: Codec, bytes: &[u8]) -> Option<[u8; LEN]> {
    let text: String = codec.decode(bytes).ok()?;
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}
