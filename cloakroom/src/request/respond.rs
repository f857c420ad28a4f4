//! The end of a request: what its response tells the client.

use http::HeaderMap;

use super::Released;
use super::state::{CookieAction, CookieSecret, Phase, State};
use crate::engine::Engine;
use crate::error::Result;

/// Ends the request with `outcome` and writes what the client has to know to `headers`. Fails only if the token has to be sealed and
/// cannot be.
#[inline]
pub(super) fn finish(
    engine: &Engine,
    state: &mut State,
    outcome: Released,
    headers: &mut HeaderMap,
) -> Result<()> {
    match outcome {
        // A cookie that was due earlier in the request belongs to a session that is gone as well.
        Released::Gone { .. } => engine.responses.set_vary(headers),
        _ => tell(engine, state, headers)?,
    }
    if let Some(kept) = state.form_secret() {
        send_form_secret(engine, kept, headers);
    }
    state.phase = Phase::Released(outcome);
    state.succeeded();
    Ok(())
}

/// Writes `Vary` and the cookie that is due to `headers`.
#[inline]
pub(super) fn tell(engine: &Engine, state: &State, headers: &mut HeaderMap) -> Result<()> {
    engine.responses.set_vary(headers);
    match (state.cookie, &state.stored) {
        (CookieAction::Set, Some(stored)) => {
            engine.collection.record_session();
            engine.responses.set_token(headers, stored)?;
            if state.plain_http {
                engine.responses.warn_of_plain_http();
            }
        }
        (CookieAction::Remove, _) => engine.responses.remove_token(headers),
        _ => {}
    }
    Ok(())
}

#[cold]
fn send_form_secret(engine: &Engine, kept: &CookieSecret, headers: &mut HeaderMap) {
    if kept.due {
        engine.form_cookie.set(headers, &kept.secret, engine.responses.is_secure());
    }
}
