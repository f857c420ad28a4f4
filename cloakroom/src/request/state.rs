//! The state of one request's session: the record as it was loaded, the changes since, and the news for the client.

use std::time::Duration;

use super::Released;
use super::changes::Changes;
use super::turn::Turns;
use super::undo::Undo;
use crate::clock::Millis;
use crate::engine::{By, FormSecret, Former, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::record::Record;

/// The state of one request's session.
///
/// The parts that few requests need are boxed in [`RareState`], since every request pays for the size of this type.
#[derive(Default)]
pub(crate) struct State {
    pub(super) phase: Phase,
    pub(super) cookie: CookieAction,
    /// The request came over plain HTTP, so the browser will drop a Secure cookie.
    pub(super) plain_http: bool,
    pub(super) turns: Turns,
    /// Changes that are not being committed yet.
    pub(super) changes: Option<Changes>,
    /// The changes of the commit that is under way; older than `changes`.
    pub(super) in_flight: Option<Box<Changes>>,
    pub(super) rare: Option<Box<RareState>>,
    /// The time that this request has waited for the provider so far.
    pub(super) waited: Duration,
    /// The session as it was last loaded or stored.
    pub(super) stored: Option<Stored>,
}

/// Parts of the state that few requests have.
#[derive(Default)]
pub(crate) struct RareState {
    /// The request's id had ended before the request came.
    pub(super) ended: Option<Former>,
    /// The sessions of a request whose ids lead to more than one.
    pub(super) contested: Vec<StoreKey>,
    /// Puts back the flash messages that this request took, if the request fails.
    pub(crate) undo: Option<Undo>,
    /// The CSRF secret that is kept in a cookie, once this request has used it.
    pub(crate) form_secret: Option<CookieSecret>,
}

/// A CSRF secret that is kept in a cookie.
pub(crate) struct CookieSecret {
    pub(crate) secret: FormSecret,
    /// True until the client has been sent the secret.
    pub(crate) due: bool,
}

/// The progress of a request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The session was not asked for.
    #[default]
    Untouched,
    /// The session is being loaded, or its load has failed.
    Asked,
    Loaded,
    /// The release is under way: further changes are refused.
    Releasing,
    Released(Released),
    /// The response has left without the session having been loaded.
    Closed,
}

/// The action on the client's cookie that the response is to carry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CookieAction {
    #[default]
    Keep,
    Set,
    Remove,
}

impl State {
    /// Returns the state of a session apart from any request.
    pub(super) fn loaded(stored: Stored) -> Self {
        State { phase: Phase::Loaded, stored: Some(stored), ..State::default() }
    }

    pub(super) fn is_loaded(&self) -> bool {
        !matches!(self.phase, Phase::Untouched | Phase::Asked | Phase::Closed)
    }

    /// Returns true if changes can still be committed.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Releasing | Phase::Released(_) | Phase::Closed)
    }

    /// Notes that a caller asks for the session. Fails if the response has left already.
    pub(super) fn note_asked(&mut self) -> Result<()> {
        if self.phase == Phase::Closed {
            return Err(too_late("load"));
        }
        self.phase = Phase::Asked;
        Ok(())
    }

    pub(crate) fn rare(&mut self) -> &mut RareState {
        self.rare.get_or_insert_default()
    }

    /// Returns the fate of the request's id, if it had ended before the request came.
    pub(super) fn ended(&self) -> Option<&Former> {
        self.rare.as_ref()?.ended.as_ref()
    }

    pub(crate) fn form_secret(&self) -> Option<&CookieSecret> {
        self.rare.as_ref()?.form_secret.as_ref()
    }

    pub(crate) fn pending_changes(&mut self) -> &mut Changes {
        self.changes.get_or_insert_default()
    }

    /// Takes over a live session that a lookup has found.
    pub(super) fn found(&mut self, found: Stored) {
        if found.by == By::Moved {
            self.cookie = CookieAction::Set;
        }
        self.stored = Some(found);
    }

    /// Takes over the `new` session, which was stored under a new id.
    #[inline]
    pub(super) fn created(&mut self, new: &mut Option<Stored>) {
        if let Some(rare) = &mut self.rare {
            rare.ended = None;
        }
        // A swap moves the large value once and drops nothing here.
        std::mem::swap(&mut self.stored, new);
        self.cookie = CookieAction::Set;
    }

    /// Takes over a record that was stored in the place of the present one. `renews_cookie` says of a record whether its cookie moves on with
    /// use.
    pub(super) fn updated(&mut self, record: Record, renews_cookie: impl Fn(&Record) -> bool) {
        let Some(stored) = &mut self.stored else { return };
        // The former record is asked too: a lasting cookie is replaced when the session is no longer remembered.
        let renewed = stored.by != By::Grace && (renews_cookie(&stored.record) || renews_cookie(&record));
        stored.record = record;
        self.renew_cookie(renewed);
    }

    /// Notes a use at `at`, which was stored.
    pub(super) fn touched(&mut self, at: Millis, renews_cookie: impl Fn(&Record) -> bool) {
        let Some(stored) = &mut self.stored else { return };
        stored.record.touch_at(at);
        let renewed = stored.by != By::Grace && renews_cookie(&stored.record);
        self.renew_cookie(renewed);
    }

    /// Has the response set the cookie anew, if it is `renewed` and no other action is due.
    #[inline]
    fn renew_cookie(&mut self, renewed: bool) {
        if renewed && self.cookie == CookieAction::Keep {
            self.cookie = CookieAction::Set;
        }
    }

    /// Forgets the session, which has ended in the store.
    pub(super) fn session_ended(&mut self) {
        self.stored = None;
        if let Some(rare) = &mut self.rare {
            rare.contested = Vec::new();
        }
        self.cookie = CookieAction::Remove;
        if let Some(changes) = &mut self.in_flight {
            changes.end = false;
        }
    }

    /// Takes over the session that this request's login joins.
    pub(super) fn joined(&mut self, session: Stored) {
        self.cookie = CookieAction::Set;
        self.rare().ended = None;
        self.stored = Some(session);
        if let Some(changes) = &mut self.in_flight {
            changes.drop_login();
        }
    }

    /// Puts the changes of a commit that did not happen back to the pending ones.
    pub(super) fn restore_changes(&mut self) {
        let Some(older) = self.in_flight.take() else { return };
        self.changes = Some(match self.changes.take() {
            None => *older,
            Some(newer) => older.then(newer),
        });
    }

    /// Drops the steps that a failure would have undone.
    #[inline]
    pub(super) fn succeeded(&mut self) {
        if let Some(undo) = self.rare.as_mut().and_then(|rare| rare.undo.take()) {
            undo.dismiss();
        }
    }
}

#[cold]
pub(crate) fn too_late(operation: &'static str) -> Error {
    Error::new(ErrorKind::Released, TooLate { operation })
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{operation} came after the response head had left, too late for its cookie and its status; change the session before \
     the handler returns, or use a detached handle, Manager::session, and save"
)]
struct TooLate {
    operation: &'static str,
}
