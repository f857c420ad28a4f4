//! The handle that every clone of a request's session shares: what was loaded, and what was changed since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;

use super::Released;
use super::changes::Changes;
use crate::codec::{Change, Codec, Limits};
use crate::engine::{Engine, Stored, Ticket, within};
use crate::error::{Error, ErrorKind, Result};
use crate::principal::Principal;

pub(crate) struct Shared {
    pub(super) engine: Arc<Engine>,
    ticket: Ticket,
    state: Mutex<State>,
    /// Held while the provider is asked, so that a request loads once and commits one thing at a time.
    pub(super) gate: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) stored: Option<Stored>,
    /// What is not committed yet.
    pub(super) changes: Changes,
    /// What a commit that is under way is about; older than `changes`.
    pub(super) in_flight: Option<Box<Changes>>,
    pub(super) cookie: Due,
    /// How long this request has waited for the provider so far.
    pub(super) waited: Duration,
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
}

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
    pub(crate) fn of_request(engine: Arc<Engine>, headers: &HeaderMap) -> Arc<Self> {
        let ticket = engine.ticket(headers);
        Arc::new(Shared { engine, ticket, state: Mutex::default(), gate: tokio::sync::Mutex::const_new(()) })
    }

    /// A session apart from any request.
    pub(crate) fn detached(engine: Arc<Engine>, stored: Stored) -> Arc<Self> {
        let shared = Shared::of_request(engine, &HeaderMap::new());
        let state = State { phase: Phase::Loaded, stored: Some(stored), ..State::default() };
        *shared.state() = state;
        shared
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state as whole as it was: every change to it is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.engine.config.limits
    }

    pub(super) async fn load(&self) -> Result<()> {
        if self.state().is_loaded() {
            return Ok(());
        }
        let _gate = self.gate.lock().await;
        {
            let mut state = self.state();
            if state.is_loaded() {
                return Ok(());
            }
            state.phase = Phase::Asked;
        }
        let (found, waited) = within(self.engine.config.deadline, self.engine.find(&self.ticket)).await;
        let mut state = self.state();
        state.waited = waited;
        state.stored = found?;
        state.phase = Phase::Loaded;
        Ok(())
    }

    /// Reads the newest record in the place of the one that was loaded; false if there is none any more.
    pub(super) async fn reload(&self) -> Result<bool> {
        let _gate = self.gate.lock().await;
        self.refresh().await
    }

    /// [`reload`](Self::reload) for those who hold the gate.
    pub(super) async fn refresh(&self) -> Result<bool> {
        let Some(Stored { id, key, in_grace, .. }) = self.stored(Stored::clone) else { return Ok(false) };
        let load = async {
            let Some(record) = crate::provider::Provider::load(&self.engine.provider, &key).await? else {
                return Ok(None);
            };
            self.engine.follow(id, key, record).await
        };
        let newest = within(self.engine.config.deadline, load).await.0?;
        let Some(mut newest) = newest else { return Ok(false) };
        newest.in_grace |= in_grace;
        self.state().stored = Some(newest);
        Ok(true)
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
        let (owned, shared);
        let value = match state.pending(key) {
            Some(pending) => {
                owned = pending.map(<[u8]>::to_vec);
                drop(state);
                owned.as_deref()
            }
            None => {
                shared = state.stored.as_ref().map(|stored| Arc::clone(&stored.record.data));
                drop(state);
                shared.as_deref().map(|data| codec.find(data, key)).transpose()?.flatten()
            }
        };
        read(codec, value)
    }

    pub(super) fn keys(&self) -> Result<Vec<String>> {
        let state = self.state();
        let codec = state.codec(&self.engine);
        let mut keys = match state.layers().any(Changes::hide_stored) {
            true => Vec::new(),
            false => {
                state.stored.as_ref().map_or(Ok(Vec::new()), |stored| codec.keys(&stored.record.data))?
            }
        };
        let pending = state.in_flight_and_pending();
        keys.retain(|key| pending.find(key).is_none());
        let set = pending.keys.iter().filter(|change| change.value.is_some());
        keys.extend(set.map(|change| change.key.to_string()));
        Ok(keys)
    }

    pub(super) fn principal(&self) -> Option<Principal> {
        let state = self.state();
        let pending = state.layers().find_map(|changes| changes.principal.clone());
        let ended = state.layers().any(|changes| changes.end);
        let stored = || state.stored.as_ref().and_then(|stored| stored.record.meta.principal.clone());
        pending.or_else(|| if ended { None } else { stored() })
    }

    pub(super) fn stored<T>(&self, read: impl FnOnce(&Stored) -> T) -> Option<T> {
        self.state().stored.as_ref().map(read)
    }

    pub(super) fn set<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        let codec = self.open("set")?.codec(&self.engine);
        let value = codec.encode(value, self.limits())?;
        let mut state = self.open("set")?;
        let change = Change { key: key.into(), value: Some(value) };
        state.check_room(&change, codec, self.limits())?;
        state.changes.set(change);
        Ok(())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Changes)) -> Result<()> {
        change(&mut self.open("change")?.changes);
        Ok(())
    }

    /// The state, where changes to it can still be committed.
    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.phase {
            Phase::Releasing | Phase::Released(_) => Err(released(operation)),
            _ => Ok(state),
        }
    }
}

impl State {
    fn is_loaded(&self) -> bool {
        !matches!(self.phase, Phase::Untouched | Phase::Asked)
    }

    /// Changes not yet known to be stored, the newest first.
    fn layers(&self) -> impl Iterator<Item = &Changes> {
        std::iter::once(&self.changes).chain(self.in_flight.as_deref())
    }

    fn in_flight_and_pending(&self) -> Changes {
        let older = self.in_flight.as_deref().cloned().unwrap_or_default();
        older.then(self.changes.clone())
    }

    /// What this request has done to `key`: `None` where the stored value counts.
    pub(super) fn pending(&self, key: &str) -> Option<Option<&[u8]>> {
        for layer in self.layers() {
            match layer.find(key) {
                None if layer.hide_stored() => return Some(None),
                None => {}
                found => return found,
            }
        }
        None
    }

    /// The codec of the session that changes go to: a stored one keeps its own until it ends.
    pub(super) fn codec(&self, engine: &Engine) -> Codec {
        match &self.stored {
            Some(stored) if !self.layers().any(|changes| changes.end) => stored.record.codec,
            _ => engine.config.codec,
        }
    }

    /// Whether the session takes `change` within its limits. Counted exactly only where a rough sum says that it may not.
    fn check_room(&self, change: &Change, codec: Codec, limits: &Limits) -> Result<()> {
        // A key's header and a value's take less than this in either codec.
        const HEADERS: usize = 16;
        let size = |change: &Change| {
            change.key.len() + change.value.as_ref().map_or(0, |value| value.len()) + HEADERS
        };
        let base = self.stored.as_ref().map_or(&[][..], |stored| &stored.record.data);
        let pending = self.layers().flat_map(|changes| &changes.keys);
        let (keys, bytes) = pending
            .chain([change])
            .fold((0, base.len() + HEADERS), |(keys, bytes), change| (keys + 1, bytes + size(change)));
        if bytes <= limits.bytes && codec.count(base).unwrap_or(0) + keys <= limits.keys {
            return Ok(());
        }
        let mut changes = self.in_flight_and_pending();
        changes.set(change.clone());
        let base = if changes.hide_stored() { &[][..] } else { base };
        codec.merge(base, &changes.keys, limits).map(drop)
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
