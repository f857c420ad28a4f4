//! The handle that every clone of a request's session shares: what was loaded, and what was changed since.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use serde::Serialize;

use super::Released;
use super::changes::Changes;
use super::reserved::is_reserved;
use super::undo::Undo;
use crate::clock::Millis;
use crate::codec::{Buffer, Change, Codec, Limits};
use crate::engine::{By, Engine, FormSecret, Former, Presented, Stored};
use crate::error::{Error, ErrorKind, Result};
use crate::id::StoreKey;
use crate::principal::{Level, Principal};
use crate::sync::{AtomicU8, Mutex, MutexGuard, Ordering, Semaphore};

pub(crate) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) presented: Presented,
    /// [`UNTOUCHED`], [`ASKED`] or [`OVER`]: most requests end with a look at this, without a lock.
    pub(super) touched: AtomicU8,
    /// Apart from any request: nothing follows that could fail.
    pub(super) detached: bool,
    state: Mutex<State>,
}

/// What is large is boxed: every request pays for this, and most never ask for their session.
///
/// Laid out as it stands here: what is small is together and `stored` comes after it. Elsewhere its many bytes, which
/// mean nothing before the load, would be copied along for every request.
#[derive(Default)]
#[repr(C)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Somebody has the turn to ask the provider, or it waits in the queue for the next: a request loads once, and commits one thing at
    /// a time.
    pub(super) turn_taken: bool,
    pub(super) cookie: Due,
    /// A Secure cookie would not be kept by the browser.
    pub(super) plain_http: bool,
    /// What is not committed yet.
    pub(super) changes: Option<Box<Changes>>,
    /// What a commit that is under way is about; older than `changes`.
    pub(super) in_flight: Option<Box<Changes>>,
    /// Boxed as one, since few requests have any of it.
    pub(super) rare: Option<Box<Rare>>,
    /// How long this request has waited for the provider so far.
    pub(super) waited: Duration,
    pub(super) stored: Option<Stored>,
}

/// The parts of a request's state that few requests have.
#[derive(Default)]
pub(super) struct Rare {
    /// The request's id named a session no more: nothing is loaded.
    pub(super) ended: Option<Former>,
    /// The sessions of a request that named several.
    pub(super) contested: Vec<StoreKey>,
    /// Puts back the flash messages that this request took and has not delivered yet.
    pub(super) undo: Option<Undo>,
    /// The secret of the visitor's forms that is kept in a cookie, once this request has used it.
    pub(super) form_secret: Option<CookieSecret>,
    /// The calls that wait for their turn.
    pub(super) queue: Queue,
}

/// The calls that wait for their turn.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: usize,
    /// Holds a permit while the turn is handed on; there once somebody has waited.
    pub(super) turns: Option<Arc<Semaphore>>,
}

/// A secret of the visitor's forms that is kept in a cookie.
pub(super) struct CookieSecret {
    pub(super) secret: FormSecret,
    /// Set while the client is still to be told.
    pub(super) due: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has asked.
    #[default]
    Untouched,
    /// Somebody has asked, and the provider failed or has not answered.
    Asked,
    Loaded,
    /// A release is under way: a change would come too late.
    Releasing,
    Released(Released),
    /// The response has left, and the session was never loaded: now it is too late.
    Closed,
}

/// Nobody has asked for the session.
const UNTOUCHED: u8 = 0;
/// The phase says how far the request is.
const ASKED: u8 = 1;
/// The response has left, and nobody had asked.
const OVER: u8 = 2;

/// What the client is to be told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Nothing,
    HandOut,
    TakeBack,
}

impl Shared {
    /// The session of a request that has brought `headers`: nothing is parsed or read yet.
    pub(crate) fn of_request(engine: Arc<Engine>, headers: &HeaderMap, extensions: &Extensions) -> Arc<Self> {
        // Not for a cycle: this way it is put together in its place on the heap, and not moved there.
        Arc::new_cyclic(|_| Shared {
            presented: engine.requests.read(headers, extensions),
            engine,
            touched: AtomicU8::new(UNTOUCHED),
            detached: false,
            state: Mutex::default(),
        })
    }

    /// A session apart from any request.
    pub(crate) fn detached(engine: Arc<Engine>, stored: Stored) -> Arc<Self> {
        Arc::new(Shared {
            presented: Presented::default(),
            engine,
            touched: AtomicU8::new(ASKED),
            detached: true,
            state: Mutex::new(State { phase: Phase::Loaded, stored: Some(stored), ..State::default() }),
        })
    }

    /// Ends a request that nobody has asked for its session: nothing is to be stored and nothing to be told. False if somebody has.
    #[allow(dead_code, reason = "the middleware calls this, and it is a feature")]
    pub(crate) fn close_untouched(&self) -> bool {
        self.touched.compare_exchange(UNTOUCHED, OVER, Ordering::AcqRel, Ordering::Acquire) != Err(ASKED)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.engine.config.limits
    }

    #[cold]
    pub(super) fn note_plain_http(&self) {
        self.state().plain_http = true;
    }

    /// Notes that somebody asks for the session; an error if the response has left before.
    pub(super) fn note_asked(&self, state: &mut State) -> Result<()> {
        let is_late = match state.phase {
            Phase::Untouched => {
                let former =
                    self.touched.compare_exchange(UNTOUCHED, ASKED, Ordering::AcqRel, Ordering::Acquire);
                former == Err(OVER)
            }
            phase => phase == Phase::Closed,
        };
        if is_late {
            return Err(released("load"));
        }
        state.phase = Phase::Asked;
        Ok(())
    }

    /// Hands `read` the encoded value under `key`, as this request sees it.
    pub(super) fn with_value<T>(
        &self,
        key: &str,
        read: impl FnOnce(Codec, Option<&[u8]>) -> Result<T>,
    ) -> Result<T> {
        let state = self.state();
        let codec = state.codec(&self.engine);
        // Decoding runs the application's code, which may use the session: not under the lock.
        if let Some(pending) = state.has_changes().then(|| state.pending(key)).flatten() {
            let value = pending.map(<[u8]>::to_vec);
            drop(state);
            return read(codec, value.as_deref());
        }
        let record = state.stored.as_ref().map(|stored| stored.record.clone());
        drop(state);
        match &record {
            Some(record) => match codec.find(record.data(), key) {
                Ok(value) => read(codec, value.as_deref()),
                Err(error) => Err(self.report_unreadable(error)),
            },
            None => read(codec, None),
        }
    }

    /// The key of the session as it is stored.
    pub(crate) fn key(&self) -> Option<StoreKey> {
        self.stored(|stored| stored.name.key().clone())
    }

    #[cold]
    fn report_unreadable(&self, error: Error) -> Error {
        match self.key() {
            Some(key) => self.engine.records.report_corrupt(error, &key),
            None => error,
        }
    }

    /// The application's keys.
    pub(super) fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.every_key()?;
        keys.retain(|key| !is_reserved(key));
        Ok(keys)
    }

    pub(super) fn every_key(&self) -> Result<Vec<String>> {
        let state = self.state();
        let codec = state.codec(&self.engine);
        let mut keys = match state.layers().any(|changes| state.hides_stored(changes)) {
            true => Vec::new(),
            false => {
                state.stored.as_ref().map_or(Ok(Vec::new()), |stored| codec.keys(stored.record.data()))?
            }
        };
        let pending = state.in_flight_and_pending();
        keys.retain(|key| pending.find(key).is_none());
        let set = pending.keys.iter().filter(|change| change.value().is_some());
        keys.extend(set.map(|change| change.key().to_owned()));
        Ok(keys)
    }

    pub(super) fn principal(&self) -> Option<Principal> {
        let state = self.state();
        let pending = state.layers().find_map(|changes| changes.principal.clone());
        let ended = state.layers().any(|changes| changes.end);
        let stored = || state.stored.as_ref().and_then(|stored| stored.record.principal());
        pending.or_else(|| if ended { None } else { stored() })
    }

    /// Whether this request has bound a user or ended the session: what was stored of the user no longer counts.
    fn pending_user(state: &State) -> Option<bool> {
        let bound = state.layers().any(|changes| changes.principal.is_some());
        (bound || state.layers().any(|changes| changes.end)).then_some(bound)
    }

    pub(super) fn level(&self) -> Option<Level> {
        let state = self.state();
        let pending = state.layers().find_map(|changes| changes.beside.as_ref()?.level);
        match Shared::pending_user(&state) {
            Some(bound) => bound.then(|| pending.unwrap_or_default()),
            None => {
                let stored = state.stored.as_ref().and_then(|stored| stored.record.meta().level());
                stored.map(|stored| pending.unwrap_or(stored))
            }
        }
    }

    pub(super) fn authenticated(&self) -> Option<Millis> {
        let state = self.state();
        match Shared::pending_user(&state) {
            Some(bound) => bound.then(|| self.engine.now()),
            None => state.stored.as_ref().and_then(|stored| stored.record.times().authenticated),
        }
    }

    /// Takes note that the session has another id now, for one that watches it.
    pub(super) fn follow(&self, found: Stored) {
        let mut state = self.state();
        if let Some(stored) = state.stored.as_mut().filter(|_| found.by == By::Grace) {
            stored.name = found.name;
            stored.by = By::Grace;
        }
    }

    pub(super) fn stored<T>(&self, read: impl FnOnce(&Stored) -> T) -> Option<T> {
        self.state().stored.as_ref().map(read)
    }

    pub(super) fn set<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        self.put("set", |codec| codec.encode(key, value, self.limits()))
    }

    /// Adds the change that `encode` makes, which may look at the session.
    #[inline]
    pub(super) fn put(
        &self,
        operation: &'static str,
        encode: impl FnOnce(Codec) -> Result<Change>,
    ) -> Result<()> {
        let codec = self.open(operation)?.codec(&self.engine);
        let change = encode(codec)?;
        let mut state = self.open(operation)?;
        state.check_room(&change, codec, self.limits())?;
        state.pending_changes().set(change);
        Ok(())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Changes)) -> Result<()> {
        change(self.open("change")?.pending_changes());
        Ok(())
    }

    /// The state, where changes to it can still be committed.
    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_open() { Ok(state) } else { Err(released(operation)) }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl State {
    pub(super) fn is_loaded(&self) -> bool {
        !matches!(self.phase, Phase::Untouched | Phase::Asked | Phase::Closed)
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// What became of the request's id, where it named a session no more.
    pub(super) fn ended(&self) -> Option<&Former> {
        self.rare.as_ref()?.ended.as_ref()
    }

    /// The secret of the visitor's forms that is kept in a cookie, once this request has used it.
    pub(super) fn form_secret(&self) -> Option<&CookieSecret> {
        self.rare.as_ref()?.form_secret.as_ref()
    }

    /// True if changes can still be committed.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Releasing | Phase::Released(_) | Phase::Closed)
    }

    /// A live session was found.
    pub(super) fn reached(&mut self, found: Stored) {
        #[cfg(feature = "beego")]
        if found.by == By::Moved {
            self.cookie = Due::HandOut;
        }
        self.stored = Some(found);
    }

    /// A new session stands in the store, and its client is to be told.
    pub(super) fn stands(&mut self, new: Stored) {
        if let Some(rare) = &mut self.rare {
            rare.ended = None;
        }
        self.stored = Some(new);
        self.cookie = Due::HandOut;
    }

    /// What the request took from its session is taken for good.
    #[inline]
    pub(super) fn delivered(&mut self) {
        if let Some(undo) = self.rare.as_mut().and_then(|rare| rare.undo.take()) {
            undo.dismiss();
        }
    }

    /// The changes that are not committed yet, to add to them.
    pub(super) fn pending_changes(&mut self) -> &mut Changes {
        self.changes.get_or_insert_default()
    }

    /// Changes not yet known to be stored, the newest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Changes> {
        self.changes.iter().chain(&self.in_flight).map(|changes| &**changes)
    }

    fn in_flight_and_pending(&self) -> Changes {
        let older = self.in_flight.as_deref().cloned().unwrap_or_default();
        older.then(self.changes.as_deref().cloned().unwrap_or_default())
    }

    fn has_changes(&self) -> bool {
        self.changes.is_some() || self.in_flight.is_some()
    }

    /// What this request has done to `key`: `None` where the stored value counts.
    pub(super) fn pending(&self, key: &str) -> Option<Option<&[u8]>> {
        for layer in self.layers() {
            match layer.find(key) {
                None if self.hides_stored(layer) => return Some(None),
                None => {}
                found => return found,
            }
        }
        None
    }

    /// Whether the answer to "what is under this key" no longer depends on what was stored: it was emptied, or belongs to
    /// another user than the one who has just logged in.
    fn hides_stored(&self, changes: &Changes) -> bool {
        let another = |user: &Principal| {
            let stored = self.stored.as_ref().and_then(|stored| stored.record.principal());
            stored.is_some_and(|former| former != *user)
        };
        changes.hide_stored() || changes.principal.as_ref().is_some_and(another)
    }

    /// The codec of the session that changes go to: a stored one keeps its own until it ends.
    pub(super) fn codec(&self, engine: &Engine) -> Codec {
        match &self.stored {
            Some(stored) if !self.has_changes() || !self.layers().any(|changes| changes.end) => {
                stored.record.codec()
            }
            _ => engine.config.codec,
        }
    }

    /// Whether the session takes `change` within its limits. Counted exactly only where a rough sum says that it may not.
    fn check_room(&self, change: &Change, codec: Codec, limits: &Limits) -> Result<()> {
        let base = self.stored.as_ref().map_or(&[][..], |stored| stored.record.data());
        let pending = self.layers().flat_map(|changes| &changes.keys);
        let (keys, bytes) = pending
            .chain([change])
            .fold((0, base.len()), |(keys, bytes), change| (keys + 1, bytes + change.room()));
        if bytes <= limits.bytes && codec.count(base).unwrap_or(0) + keys <= limits.keys {
            return Ok(());
        }
        let mut changes = self.in_flight_and_pending();
        changes.set(change.clone());
        let base = if self.hides_stored(&changes) { &[][..] } else { base };
        codec.merge(base, &changes.keys, limits, &mut Buffer::new())
    }
}

#[cold]
pub(super) fn released(operation: &'static str) -> Error {
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
