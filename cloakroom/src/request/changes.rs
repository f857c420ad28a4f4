//! The changes of one request, kept apart from the record so that they can be replayed on a newer one.

use smallvec::SmallVec;

use super::reserved::CSRF;
use crate::clock::Millis;
use crate::codec::Change;
use crate::engine::Login;
use crate::principal::{Level, Principal};
use crate::record::{Device, Lifetime, Meta};

/// The changes of one request. Their order no longer matters: an end comes before a clear, and a clear before the keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// The stored session ends; everything else here belongs to a new one.
    pub(crate) end: bool,
    /// The stored data is removed.
    pub(crate) clear: bool,
    /// The session gets a new id.
    pub(crate) new_id: bool,
    /// The user who logs in. A login gives the session a new id.
    pub(crate) principal: Option<Principal>,
    /// Changes to the record's fields. Boxed, since few requests have any.
    pub(crate) fields: Option<Box<FieldChanges>>,
    /// Changes to single keys, each key once.
    pub(crate) keys: SmallVec<[Change; 1]>,
}

/// Changes to the fields of a record; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldChanges {
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) ends_by: Option<Millis>,
    pub(crate) level: Option<Level>,
    pub(crate) device: Option<Device>,
}

impl FieldChanges {
    fn merge(&mut self, newer: FieldChanges) {
        self.lifetime = newer.lifetime.or(self.lifetime);
        // The earliest end counts, whoever has set it.
        self.ends_by = self.ends_by.into_iter().chain(newer.ends_by).min();
        self.level = newer.level.or(self.level);
        self.device = newer.device.or(self.device.take());
    }

    pub(super) fn apply(&self, meta: &mut Meta) {
        meta.lifetime = self.lifetime.or(meta.lifetime);
        meta.ends_by = meta.ends_by.into_iter().chain(self.ends_by).min();
        meta.level = self.level.or(meta.level);
        if self.device.is_some() {
            meta.device.clone_from(&self.device);
        }
    }
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_structural() && self.keys.is_empty()
    }

    /// Returns true if the data changes.
    pub(super) fn changes_data(&self) -> bool {
        self.clear || !self.keys.is_empty()
    }

    /// Returns true if a field beside the data changes.
    pub(super) fn changes_fields(&self) -> bool {
        self.principal.is_some() || self.fields.is_some()
    }

    /// Returns true if more than single keys changes.
    pub(super) fn is_structural(&self) -> bool {
        self.end || self.clear || self.new_id || self.changes_fields()
    }

    /// Returns true if the user logs in or reaches another level, so that the session needs a new id.
    pub(super) fn raises_trust(&self) -> bool {
        self.principal.is_some() || self.fields.as_ref().is_some_and(|fields| fields.level.is_some())
    }

    /// Returns true if the absolute deadline has to be computed anew.
    pub(super) fn sets_lifetime(&self) -> bool {
        self.principal.is_some() || self.fields.as_ref().is_some_and(|fields| fields.lifetime.is_some())
    }

    /// Returns true if a success would acknowledge a change that is lost where nothing is stored.
    pub(super) fn would_be_lost(&self) -> bool {
        self.changes_data() || self.changes_fields() || self.new_id
    }

    /// Returns true if none of the stored data is left.
    pub(super) fn hides_stored(&self) -> bool {
        self.end || self.clear
    }

    /// Returns an upper bound of the bytes of the new values, with their keys and headers.
    pub(super) fn room(&self) -> usize {
        self.keys.iter().map(Change::room).sum()
    }

    /// Returns the change of `key`: `None` if it does not change, `Some(None)` if it is deleted.
    pub(super) fn find(&self, key: &str) -> Option<Option<&[u8]>> {
        self.keys.iter().find(|change| change.key() == key).map(Change::value)
    }

    /// Returns the login among the changes, if it may join a session that another request has begun.
    pub(super) fn login_to_join(&self) -> Option<Login<'_>> {
        // A request that ends its session wants a new one of its own.
        let principal = self.principal.as_ref().filter(|_| !self.end)?;
        let fields = self.fields.as_deref();
        Some(Login {
            principal,
            level: fields.and_then(|fields| fields.level).unwrap_or_default(),
            ends_by: fields.and_then(|fields| fields.ends_by),
        })
    }

    pub(crate) fn fields_mut(&mut self) -> &mut FieldChanges {
        self.fields.get_or_insert_default()
    }

    pub(crate) fn set(&mut self, change: Change) {
        match self.keys.iter_mut().find(|earlier| earlier.key() == change.key()) {
            Some(earlier) => *earlier = change,
            None => self.keys.push(change),
        }
    }

    /// Binds the session to `principal` at `level`. Replaces an earlier login of this request, with its level.
    pub(crate) fn log_in(&mut self, principal: Principal, level: Level) {
        if self.principal.as_ref().is_some_and(|former| *former != principal) {
            // The changes that this request made for another user do not belong to this one.
            *self = Changes { end: self.end, clear: true, ..Changes::default() };
        }
        self.principal = Some(principal);
        // The default level has no field.
        let level = (level != Level::default()).then_some(level);
        if level.is_some() || self.fields.is_some() {
            self.fields_mut().level = level;
        }
        // A token from before the login must not be valid after it.
        self.set(Change::deletion(CSRF));
    }

    /// Removes the login after it has joined another request's session. The other changes stay.
    pub(super) fn drop_login(&mut self) {
        self.principal = None;
        self.new_id = false;
        if let Some(fields) = &mut self.fields {
            fields.level = None;
        }
        self.forget(CSRF);
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.keys.retain(|change| change.key() != key);
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.clear = true;
    }

    pub(crate) fn end(&mut self) {
        *self = Changes { end: true, ..Changes::default() };
    }

    /// Adds `newer` changes to these.
    pub(crate) fn add(&mut self, newer: Changes) {
        *self = std::mem::take(self).then(newer);
    }

    /// Returns these changes followed by `newer` ones, as one.
    pub(super) fn then(mut self, newer: Changes) -> Changes {
        if newer.end {
            return newer;
        }
        if newer.clear {
            self.clear();
        }
        if let (Some(user), Some(former)) = (&newer.principal, &self.principal) {
            if user != former {
                self = Changes { end: self.end, clear: true, ..Changes::default() };
            } else if let Some(fields) = &mut self.fields {
                fields.level = None;
            }
        }
        newer.keys.into_iter().for_each(|change| self.set(change));
        self.new_id |= newer.new_id;
        self.principal = newer.principal.or(self.principal);
        if let Some(newer) = newer.fields {
            self.fields_mut().merge(*newer);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &[u8]) -> Changes {
        let change = Change::new(key, |bytes| bytes.extend_from_slice(value));
        Changes { keys: [change].into_iter().collect(), ..Changes::default() }
    }

    #[test]
    fn the_newer_change_of_a_key_wins() {
        let both = set("a", b"1").then(set("b", b"2")).then(set("a", b"3"));
        assert_eq!(both.find("a"), Some(Some(&b"3"[..])));
        assert_eq!(both.find("b"), Some(Some(&b"2"[..])));
        assert_eq!(both.find("c"), None);
    }

    #[test]
    fn a_clear_drops_earlier_keys_and_an_end_drops_everything() {
        let mut clear = Changes::default();
        clear.clear();
        let cleared = set("a", b"1").then(clear).then(set("b", b"2"));
        assert!(cleared.clear && cleared.find("a").is_none() && cleared.find("b").is_some());

        let mut end = Changes::default();
        end.end();
        let login = Changes { principal: Principal::new("alice").ok(), new_id: true, ..set("a", b"1") };
        let ended = login.then(end);
        assert!(ended.end && ended.principal.is_none() && !ended.new_id && ended.keys.is_empty());
    }
}
