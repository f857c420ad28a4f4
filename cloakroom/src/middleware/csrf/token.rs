//! What a form proves that its page came from this site: the session's secret under a mask.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

use crate::engine::{FormSecret, SECRET_LEN};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// Bytes of the mask over the secret.
const LEN: usize = SECRET_LEN;

/// Proves that a form is on a page of this site and was loaded by this visitor: from [`Session::csrf_token`], and, with the feature `axum`,
/// as an argument of handlers.
///
/// Put [`as_str`](Self::as_str) into a hidden field called `csrf_token`, or have the page's script send it in the header
/// `X-CSRF-Token`. 86 characters of `A-Z a-z 0-9 - _`. The secret behind it is the session's own and stays until the next login.
/// A visitor without a session has it in a cookie of its own, named like the session's with `-csrf` behind it. The mask over the secret
/// is another on every page, so that compression gives nothing away (BREACH). `Debug` hides the token.
#[derive(Clone)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// `secret` under a fresh mask.
    fn masking(secret: &FormSecret) -> Result<Self> {
        let mut bytes = [0; 2 * LEN];
        let (mask, masked) = bytes.split_at_mut(LEN);
        getrandom::fill(mask).map_err(|error| Error::new(ErrorKind::Random, error))?;
        for (place, byte) in masked.iter_mut().enumerate() {
            *byte = mask[place] ^ secret[place];
        }
        Ok(CsrfToken(BASE64URL_NOPAD.encode(&bytes)))
    }

    /// The token as it goes into a page.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfToken").finish_non_exhaustive()
    }
}

impl Session {
    /// The token for a form on the page that this response is.
    ///
    /// The first token of a session makes the session's secret and stores it at once. A visitor without a session gets no
    /// session for it, and nothing is stored: the secret is kept in a cookie of its own, which the release sets. A session that
    /// begins in a request that uses this secret takes it over, so that forms loaded before go on; after a login they do not.
    ///
    /// Where the manager sends no cookies, a session begins for the token.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let (session, mut response) = (sessions.start(&HeaderMap::new()).await?, HeaderMap::new());
    /// let token = session.csrf_token().await?;
    /// let _ = session.release(&mut response).await?;
    /// assert!(response["set-cookie"].to_str().unwrap().starts_with("__Host-id-csrf="));
    /// assert_eq!(sessions.active_sessions().await?, 0);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`update`](Session::update), and [`ErrorKind::Random`] if the generator fails.
    pub async fn csrf_token(&self) -> Result<CsrfToken> {
        CsrfToken::masking(&self.0.secret().await?)
    }

    /// Answers whether `token` is one of this visitor's: of the session, or of the visitor's own cookie where there is no session. [`CsrfLayer`](crate::CsrfLayer) does it for most requests; this is for
    /// those whose token it does not find, such as forms that upload files.
    ///
    /// # Errors
    /// [`ErrorKind::Forged`], which is answered with 403.
    pub fn verify_csrf_token(&self, token: &str) -> Result<()> {
        if self.0.knows_secret(|secret| unmasks_to(token.as_bytes(), secret))? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forged, WrongToken))
    }
}

/// Whether `token` is `secret` under some mask. Takes as long wherever the two differ.
fn unmasks_to(token: &[u8], secret: &FormSecret) -> bool {
    let mut bytes = [0; 2 * LEN];
    if BASE64URL_NOPAD.decode_len(token.len()) != Ok(bytes.len()) {
        return false;
    }
    if BASE64URL_NOPAD.decode_mut(token, &mut bytes).is_err() {
        return false;
    }
    let (mask, masked) = bytes.split_at_mut(LEN);
    for (place, byte) in masked.iter_mut().enumerate() {
        *byte ^= mask[place];
    }
    masked.ct_eq(secret).into()
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected a token of this visitor's, found another or an old one; load the page again and send its form"
)]
struct WrongToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_another_every_time_and_unmasks_to_its_own_secret_alone() {
        let (secret, other) = ([7; LEN], [8; LEN]);
        let tokens = [(); 3].map(|()| CsrfToken::masking(&secret).unwrap());
        for token in &tokens {
            assert_eq!(token.as_str().len(), 86);
            assert!(unmasks_to(token.as_str().as_bytes(), &secret));
            assert!(!unmasks_to(token.as_str().as_bytes(), &other));
            assert_eq!(format!("{token:?}"), "CsrfToken { .. }");
        }
        assert_ne!(tokens[0].as_str(), tokens[1].as_str());
        let half =
            |token: &CsrfToken| BASE64URL_NOPAD.decode(token.as_str().as_bytes()).unwrap()[LEN..].to_vec();
        assert_ne!(half(&tokens[0]), half(&tokens[1]), "the secret never shows twice as the same bytes");
    }

    #[test]
    fn every_bit_counts() {
        let secret: [u8; LEN] = std::array::from_fn(|place| place as u8);
        let token = CsrfToken::masking(&secret).unwrap();
        let bytes = BASE64URL_NOPAD.decode(token.as_str().as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!unmasks_to(BASE64URL_NOPAD.encode(&flipped).as_bytes(), &secret), "bit {bit}");
        }
        for wrong in ["", "x", &token.as_str()[..85], &format!("{token}A"), &"!".repeat(86)] {
            assert!(!unmasks_to(wrong.as_bytes(), &secret), "{wrong}");
        }
    }
}
