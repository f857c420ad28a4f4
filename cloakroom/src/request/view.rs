//! A request's view of its session: its own changes first, then the stored record.

use super::changes::Changes;
use super::reserved::is_reserved;
use super::state::State;
use crate::clock::Millis;
use crate::codec::{Buffer, Change, Codec, Limits};
use crate::engine::Stored;
use crate::error::Result;
use crate::principal::{Level, Principal};

/// The user of a request's session, as far as its changes decide it.
enum PendingUser {
    /// The stored session's user counts.
    AsStored,
    LoggedIn,
    /// The request ended the session and nobody has logged in since.
    Nobody,
}

impl State {
    /// Changes that may not be stored yet, the newest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &Changes> {
        self.changes.iter().chain(self.in_flight.as_deref())
    }

    fn all_changes(&self) -> Changes {
        let older = self.in_flight.as_deref().cloned().unwrap_or_default();
        older.then(self.changes.clone().unwrap_or_default())
    }

    fn has_changes(&self) -> bool {
        self.changes.is_some() || self.in_flight.is_some()
    }

    /// Returns this request's change of `key`: `None` if the stored value counts.
    #[inline]
    pub(crate) fn pending(&self, key: &str) -> Option<Option<&[u8]>> {
        if self.has_changes() { self.pending_in_layers(key) } else { None }
    }

    fn pending_in_layers(&self, key: &str) -> Option<Option<&[u8]>> {
        for layer in self.layers() {
            match layer.find(key) {
                None if self.is_hidden_by(layer) => return Some(None),
                None => {}
                found => return found,
            }
        }
        None
    }

    /// Returns true if `changes` hide the stored data: they remove it, or log in another user than the stored one.
    fn is_hidden_by(&self, changes: &Changes) -> bool {
        let another = |user: &Principal| {
            let stored = self.stored.as_ref().and_then(|stored| stored.record.principal());
            stored.is_some_and(|former| former != *user)
        };
        changes.hides_stored() || changes.principal.as_ref().is_some_and(another)
    }

    /// Returns the codec for changes: a stored session keeps its codec until it ends.
    pub(crate) fn codec(&self, codec_of_new: Codec) -> Codec {
        match &self.stored {
            Some(stored) if !self.ends() => stored.record.codec(),
            _ => codec_of_new,
        }
    }

    /// Returns true if this request ends its session.
    pub(crate) fn ends(&self) -> bool {
        self.has_changes() && self.layers().any(|changes| changes.end)
    }

    /// Returns true if this request ends or clears its session.
    pub(crate) fn hides_stored(&self) -> bool {
        self.layers().any(Changes::hides_stored)
    }

    pub(crate) fn stored_session(&self) -> Option<Stored> {
        self.stored.clone()
    }

    /// Returns true if a session is stored and this request does not end it.
    pub(crate) fn has_session(&self) -> bool {
        self.stored.is_some() && !self.ends()
    }

    /// Returns every key, including those that the library reserves.
    pub(crate) fn every_key(&self, codec_of_new: Codec) -> Result<Vec<String>> {
        let stored = match &self.stored {
            Some(stored) if !self.layers().any(|changes| self.is_hidden_by(changes)) => {
                self.codec(codec_of_new).keys(stored.record.data())?
            }
            _ => Vec::new(),
        };
        let pending = self.all_changes();
        let mut keys = stored;
        keys.retain(|key| pending.find(key).is_none());
        let set = pending.keys.iter().filter(|change| change.value().is_some());
        keys.extend(set.map(|change| change.key().to_owned()));
        Ok(keys)
    }

    /// Returns the application's keys.
    pub(super) fn keys(&self, codec_of_new: Codec) -> Result<Vec<String>> {
        let mut keys = self.every_key(codec_of_new)?;
        keys.retain(|key| !is_reserved(key));
        Ok(keys)
    }

    fn pending_user(&self) -> PendingUser {
        if self.layers().any(|changes| changes.principal.is_some()) {
            PendingUser::LoggedIn
        } else if self.ends() {
            PendingUser::Nobody
        } else {
            PendingUser::AsStored
        }
    }

    pub(crate) fn principal(&self) -> Option<Principal> {
        match self.pending_user() {
            PendingUser::LoggedIn => self.layers().find_map(|changes| changes.principal.clone()),
            PendingUser::Nobody => None,
            PendingUser::AsStored => self.stored.as_ref()?.record.principal(),
        }
    }

    pub(crate) fn level(&self) -> Option<Level> {
        let pending = self.layers().find_map(|changes| changes.fields.as_ref()?.level);
        match self.pending_user() {
            PendingUser::LoggedIn => Some(pending.unwrap_or_default()),
            PendingUser::Nobody => None,
            PendingUser::AsStored => {
                let stored = self.stored.as_ref()?.record.meta().level()?;
                Some(pending.unwrap_or(stored))
            }
        }
    }

    /// Returns the time of the login: `now` for a login in this request.
    pub(crate) fn authenticated(&self, now: Millis) -> Option<Millis> {
        match self.pending_user() {
            PendingUser::LoggedIn => Some(now),
            PendingUser::Nobody => None,
            PendingUser::AsStored => self.stored.as_ref()?.record.times().authenticated,
        }
    }

    /// Checks that the session takes `change` within its limits. Counts exactly only if an upper bound exceeds them.
    pub(super) fn check_room(&self, change: &Change, codec: Codec, limits: &Limits) -> Result<()> {
        let base = self.stored.as_ref().map_or(&[][..], |stored| stored.record.data());
        let pending = self.layers().flat_map(|changes| &changes.keys);
        let (keys, bytes) = pending
            .chain([change])
            .fold((0, base.len()), |(keys, bytes), change| (keys + 1, bytes + change.room()));
        if bytes <= limits.bytes && codec.count(base).unwrap_or(0) + keys <= limits.keys {
            return Ok(());
        }
        let mut changes = self.all_changes();
        changes.set(change.clone());
        let base = if self.is_hidden_by(&changes) { &[][..] } else { base };
        codec.merge(base, &changes.keys, limits, &mut Buffer::new())
    }
}
