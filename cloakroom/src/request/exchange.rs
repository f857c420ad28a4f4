//! The exchange of one request and its response: the handle that every clone of a request's session shares.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName};
use serde::Serialize;

use super::Released;
use super::changes::Changes;
use super::respond::finish;
use super::state::{Phase, State, too_late};
use crate::codec::{Change, Codec, Limits};
use crate::engine::{By, Engine, Presented, Stored, is_plain};
use crate::error::{Error, Result};
use crate::id::StoreKey;
use crate::sync::{Mutex, MutexGuard};

/// One request and its response. Every clone of the request's [`Session`](crate::Session) shares it.
///
/// The lock of the state is never held across an `await`, nor while the application's code runs, such as a `Deserialize` or an event
/// listener: that code may use the session. A call that waits for the provider holds the [turn](super::turn) instead.
pub(crate) struct Exchange {
    pub(crate) engine: Arc<Engine>,
    pub(crate) presented: Presented,
    /// True for a session apart from any request: no response follows that could fail.
    pub(crate) detached: bool,
    state: Mutex<State>,
}

impl Exchange {
    /// Returns the exchange of a request with these `headers`. Nothing is parsed or loaded yet.
    pub(crate) fn of_request(engine: Arc<Engine>, headers: &HeaderMap, extensions: &Extensions) -> Arc<Self> {
        // Builds the exchange in its place on the heap. `Arc::new` would build it on the stack and copy it: 60 instructions, a tenth of
        // what a request costs that does not ask for its session.
        Arc::new_cyclic(|_| Exchange {
            presented: engine.requests.read(headers, extensions),
            engine,
            detached: false,
            state: Mutex::default(),
        })
    }

    /// Returns the exchange of a request that presents this.
    pub(crate) fn presenting(engine: Arc<Engine>, presented: Presented) -> Arc<Self> {
        Arc::new(Exchange { presented, engine, detached: false, state: Mutex::default() })
    }

    /// Returns a session apart from any request.
    pub(crate) fn detached(engine: Arc<Engine>, stored: Stored) -> Arc<Self> {
        Arc::new(Exchange {
            presented: Presented::default(),
            engine,
            detached: true,
            state: Mutex::new(State::loaded(stored)),
        })
    }

    #[inline]
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.engine.config.limits
    }

    /// Notes, for a warning, whether a cookie that is set for this request would be dropped by its browser. The request has no session.
    /// `value` returns the first value of a header of it.
    #[inline]
    pub(crate) fn look_for_plain_http<'a>(
        &self,
        value: impl Fn(&'static str) -> Option<&'a [u8]>,
        authority: impl FnOnce() -> Option<&'a str>,
    ) {
        let responses = &self.engine.responses;
        if responses.watches_for_plain_http() {
            if is_plain(value, authority()) {
                self.state().plain_http = true;
            } else {
                responses.plain_http.count_encrypted();
            }
        }
    }

    pub(crate) fn stored<T>(&self, read: impl FnOnce(&Stored) -> T) -> Option<T> {
        self.state().stored.as_ref().map(read)
    }

    pub(crate) fn key(&self) -> Option<StoreKey> {
        self.stored(|stored| stored.name.key().clone())
    }

    /// Returns the application's keys.
    pub(crate) fn keys(&self) -> Result<Vec<String>> {
        self.state().keys(self.engine.config.codec)
    }

    /// Calls `read` with the encoded value under `key`, as this request sees it.
    pub(crate) fn with_value<T>(
        &self,
        key: &str,
        read: impl FnOnce(Codec, Option<&[u8]>) -> Result<T>,
    ) -> Result<T> {
        let state = self.state();
        let codec = state.codec(self.engine.config.codec);
        // Decoding runs the application's code, which may use the session, so the lock is released first.
        if let Some(pending) = state.pending(key) {
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

    #[cold]
    fn report_unreadable(&self, error: Error) -> Error {
        match self.key() {
            Some(key) => self.engine.records.report_corrupt(error, &key),
            None => error,
        }
    }

    pub(crate) fn set<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        self.put("set", |codec| codec.encode(key, value, self.limits()))
    }

    /// Adds the change that `encode` makes. It may look at the session.
    #[inline]
    pub(crate) fn put(
        &self,
        operation: &'static str,
        encode: impl FnOnce(Codec) -> Result<Change>,
    ) -> Result<()> {
        let codec = self.open(operation)?.codec(self.engine.config.codec);
        let change = encode(codec)?;
        let mut state = self.open(operation)?;
        state.check_room(&change, codec, self.limits())?;
        state.pending_changes().set(change);
        Ok(())
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Changes)) -> Result<()> {
        change(self.open("change")?.pending_changes());
        Ok(())
    }

    /// Returns the state, if changes to it can still be committed.
    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_open() { Ok(state) } else { Err(too_late(operation)) }
    }

    /// Takes over the key that routine rotation has given the session, for a holder that watches it.
    pub(crate) fn follow(&self, found: Stored) {
        let mut state = self.state();
        if let Some(stored) = state.stored.as_mut().filter(|_| found.by == By::Grace) {
            stored.name = found.name;
            stored.by = By::Grace;
        }
    }

    /// Drops the changes that are not committed yet.
    #[cold]
    pub(crate) fn roll_back(&self) {
        let mut state = self.state();
        state.changes = None;
        if let Some(rare) = &mut state.rare {
            rare.undo = None;
        }
    }
}

/// # The response
impl Exchange {
    /// Returns true if `other` belongs to the same manager.
    pub(crate) fn has_manager_of(&self, other: &Exchange) -> bool {
        Arc::ptr_eq(&self.engine, &other.engine)
    }

    /// Ends a request whose session nobody has asked for; false if somebody has.
    pub(crate) fn close_untouched(&self) -> bool {
        let mut state = self.state();
        let is_untouched = state.phase == Phase::Untouched;
        if is_untouched {
            state.phase = Phase::Closed;
        }
        is_untouched
    }

    pub(crate) fn commits_on_server_error(&self) -> bool {
        self.engine.config.commit_on_server_error
    }

    /// Ends the request without committing its pending changes. The client still learns of changes that were saved before.
    pub(crate) fn abandon(&self, headers: &mut HeaderMap) {
        let mut state = self.state();
        if state.phase == Phase::Asked {
            self.engine.responses.set_vary(headers);
            state.phase = Phase::Closed;
        } else if state.is_open() {
            if let Some(rare) = &mut state.rare {
                rare.undo = None;
            }
            if let Err(error) = finish(&self.engine, &mut state, Released::Unchanged, headers) {
                tracing::error!(%error, "a session's cookie could not be made");
            }
        }
    }

    /// Returns the name of the header that carries the token besides the cookie.
    pub(crate) fn id_header(&self) -> Option<&HeaderName> {
        self.engine.config.id_header.as_ref()
    }

    /// Marks a response that replaces a handler's as private to one visitor.
    pub(crate) fn note_failure(&self, headers: &mut HeaderMap) {
        self.engine.responses.set_vary(headers);
        crate::cookie::no_store(headers);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}
