//! The CSRF token of a form: the session's secret under a random mask.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

use crate::engine::{FormSecret, SECRET_LEN};
use crate::error::{Error, ErrorKind, Result};
use crate::session::{FormSecrets, Session};

/// The number of bytes of the mask, and of the secret.
const LEN: usize = SECRET_LEN;

/// A token that proves that a form was loaded from this site by this visitor. [`CsrfLayer`](crate::CsrfLayer) checks it.
///
/// It comes from [`Session::csrf_token`] or, with the feature `axum`, as an argument of a handler. Put it into a hidden field
/// `csrf_token`, or have the page's script send it in the header `X-CSRF-Token`. It has 86 characters of `A-Z a-z 0-9 - _`.
///
/// The token is a secret under a mask. The secret belongs to the session and stays until the next login. A visitor without a
/// session has the secret in a cookie, named like the session's with `-csrf` at the end. Each page has another mask, so the
/// compression of a response reveals nothing (BREACH). `Debug` hides the token.
///
/// **A token on a page protects nothing by itself.** The route that receives the form needs a [`CsrfLayer`](crate::CsrfLayer) inside
/// the session layer, or its handler calls [`Session::verify_csrf_token`]. Nothing fails without either: the form is accepted, and so
/// is a forged one. A test that sends the form with the page's cookies and without its token shows that the layer is in place; its answer
/// must be 403.
///
/// As an argument of a handler it needs a [`SessionLayer`](crate::SessionLayer) around the route. Without one the response is 500,
/// and the log names the cure (kind [`NoLayer`](ErrorKind::NoLayer)).
///
/// ```
/// use axum::response::Html;
/// use cloakroom::CsrfToken;
///
/// async fn form(token: CsrfToken) -> Html<String> {
///     Html(format!(r#"<form method="post"><input type="hidden" name="csrf_token" value="{token}"></form>"#))
/// }
/// ```
#[derive(Clone)]
pub struct CsrfToken(String);

impl CsrfToken {
    /// Puts a new mask over `secret`.
    fn masking(secret: &FormSecret) -> Result<Self> {
        let mut bytes = [0; 2 * LEN];
        let (mask, masked) = bytes.split_at_mut(LEN);
        getrandom::fill(mask).map_err(|error| Error::new(ErrorKind::Random, error))?;
        for (place, byte) in masked.iter_mut().enumerate() {
            *byte = mask[place] ^ secret[place];
        }
        Ok(CsrfToken(BASE64URL_NOPAD.encode(&bytes)))
    }

    /// Returns the text of the token. It needs no escaping in HTML.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let token = session.csrf_token().await?;
    /// let field = format!("<input type=hidden name=csrf_token value={}>", token.as_str());
    /// # assert!(field.len() > 86);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// Returns a token for a form on the response's page.
    ///
    /// The first token of a session creates the session's secret and stores it at once. A visitor without a session gets no
    /// session: the release sets a cookie with the secret, and nothing is stored. A session that begins later in such a visitor's
    /// request takes the secret over, so forms that were loaded before stay valid. After a login they are invalid.
    ///
    /// If the manager sends no cookies, the token begins a session.
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
        CsrfToken::masking(&FormSecrets(&self.0).get_or_make().await?)
    }

    /// Checks that `token` belongs to this visitor: to the session or, without a session, to the visitor's cookie.
    ///
    /// [`CsrfLayer`](crate::CsrfLayer) calls it for most requests. Call it yourself where the layer cannot find the token, such
    /// as in a form that uploads files.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&HeaderMap::new()).await?;
    /// let token = session.csrf_token().await?;
    /// session.verify_csrf_token(token.as_str())?;
    /// let forged = session.verify_csrf_token("another").unwrap_err();
    /// assert_eq!(forged.kind(), cloakroom::ErrorKind::Forged);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Forged`] if it does not. Its status is 403.
    pub fn verify_csrf_token(&self, token: &str) -> Result<()> {
        if FormSecrets(&self.0).any(|secret| unmasks_to(token.as_bytes(), secret))? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forged, WrongToken))
    }
}

/// Returns true if `token` is `secret` under some mask. The comparison takes constant time.
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
    "the request's CSRF token is not this visitor's or is outdated; load the page again and send its form"
)]
struct WrongToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_new_mask_and_unmasks_to_its_secret() {
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
        assert_ne!(half(&tokens[0]), half(&tokens[1]), "each token hides the secret under another mask");
    }

    #[test]
    fn a_token_with_one_wrong_bit_is_refused() {
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
