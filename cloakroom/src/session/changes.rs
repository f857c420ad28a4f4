//! What a request did to its session, apart from the record, so that it can be replayed on a newer one.

use smallvec::SmallVec;

use super::reserved::CSRF;
use crate::clock::Millis;
use crate::codec::Change;
use crate::engine::Login;
use crate::principal::{Level, Principal};
use crate::record::{Device, Lifetime, Meta};

/// The changes of one request, in an order that no longer matters: a flush comes before the keys, the end before all.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// The session that was there is to end; everything else here is of a new one.
    pub(super) end: bool,
    /// The data that was there goes.
    pub(super) flush: bool,
    /// A new id is due.
    pub(super) renew: bool,
    /// The user is to be bound, under a new id.
    pub(super) principal: Option<Principal>,
    /// What is to stand beside the data. Boxed, since few requests say anything of it.
    pub(super) beside: Option<Box<Beside>>,
    /// What happens to single keys, each named once.
    pub(super) keys: SmallVec<[Change; 2]>,
}

/// What a request says of its session, apart from its data; `None` where it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    pub(super) lifetime: Option<Lifetime>,
    pub(super) ends_by: Option<Millis>,
    pub(super) level: Option<Level>,
    pub(super) device: Option<Device>,
}

impl Beside {
    fn then(&mut self, newer: Beside) {
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
    pub(super) fn is_empty(&self) -> bool {
        !self.are_structural() && self.keys.is_empty()
    }

    /// Whether the data becomes another.
    pub(super) fn touch_data(&self) -> bool {
        self.flush || !self.keys.is_empty()
    }

    /// The bytes that the new values take at the most, their keys and headers too.
    pub(super) fn room(&self) -> usize {
        self.keys.iter().map(Change::room).sum()
    }

    /// Whether more than single keys changes.
    pub(super) fn are_structural(&self) -> bool {
        self.end || self.flush || self.renew || self.principal.is_some() || self.beside.is_some()
    }

    /// Whether more than the data becomes another.
    pub(super) fn touch_fields(&self) -> bool {
        self.principal.is_some() || self.beside.is_some()
    }

    /// Whether the user has just proved who they are, or more surely so: a new id is due, whatever the old one was.
    pub(super) fn prove_the_user(&self) -> bool {
        self.principal.is_some() || self.beside.as_ref().is_some_and(|beside| beside.level.is_some())
    }

    /// Whether the absolute timeout is another than it was, or counts from another time.
    pub(super) fn set_lifetime(&self) -> bool {
        self.principal.is_some() || self.beside.as_ref().is_some_and(|beside| beside.lifetime.is_some())
    }

    /// What is to stand beside the data, to add to it.
    pub(super) fn beside(&mut self) -> &mut Beside {
        self.beside.get_or_insert_default()
    }

    /// Whether nothing of the data that was stored remains.
    pub(super) fn hide_stored(&self) -> bool {
        self.end || self.flush
    }

    pub(super) fn set(&mut self, change: Change) {
        match self.keys.iter_mut().find(|earlier| earlier.key() == change.key()) {
            Some(earlier) => *earlier = change,
            None => self.keys.push(change),
        }
    }

    /// A login at `level`, whatever an earlier one in this request has said. What was proved to be of the former visitor's forms proves
    /// nothing any more.
    pub(super) fn bind(&mut self, principal: Principal, level: Level) {
        if self.principal.as_ref().is_some_and(|former| *former != principal) {
            // Changes that this request made for another user are not this one's.
            *self = Changes { end: self.end, flush: true, ..Changes::default() };
        }
        self.principal = Some(principal);
        // The default level has no field.
        let level = (level != Level::default()).then_some(level);
        if level.is_some() || self.beside.is_some() {
            self.beside().level = level;
        }
        self.set(Change::deletion(CSRF));
    }

    /// The login among the changes, as a join compares it.
    pub(super) fn login(&self) -> Option<Login<'_>> {
        let beside = self.beside.as_deref();
        Some(Login {
            principal: self.principal.as_ref()?,
            level: beside.and_then(|beside| beside.level).unwrap_or_default(),
            ends_by: beside.and_then(|beside| beside.ends_by),
        })
    }

    /// Leaves the changes that came with a login, which has joined another's session.
    pub(super) fn drop_login(&mut self) {
        self.principal = None;
        self.renew = false;
        if let Some(beside) = &mut self.beside {
            beside.level = None;
        }
        self.forget(CSRF);
    }

    /// True if an answer of success would acknowledge a change that is lost where nothing is stored.
    pub(super) fn would_be_lost(&self) -> bool {
        self.touch_data() || self.touch_fields() || self.renew
    }

    /// `newer` on top of these.
    pub(super) fn add(&mut self, newer: Changes) {
        *self = std::mem::take(self).then(newer);
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.keys.retain(|change| change.key() != key);
    }

    /// What happens to `key`: `None` where nothing does.
    pub(super) fn find(&self, key: &str) -> Option<Option<&[u8]>> {
        self.keys.iter().find(|change| change.key() == key).map(Change::value)
    }

    pub(super) fn flush(&mut self) {
        self.keys.clear();
        self.flush = true;
    }

    pub(super) fn end(&mut self) {
        *self = Changes { end: true, ..Changes::default() };
    }

    /// These changes and then `newer`, as one.
    pub(super) fn then(mut self, newer: Changes) -> Changes {
        if newer.end {
            return newer;
        }
        if newer.flush {
            self.flush();
        }
        if let (Some(user), Some(former)) = (&newer.principal, &self.principal) {
            if user != former {
                self = Changes { end: self.end, flush: true, ..Changes::default() };
            } else if let Some(beside) = &mut self.beside {
                beside.level = None;
            }
        }
        newer.keys.into_iter().for_each(|change| self.set(change));
        self.renew |= newer.renew;
        self.principal = newer.principal.or(self.principal);
        if let Some(newer) = newer.beside {
            self.beside().then(*newer);
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
    fn the_newer_change_of_a_key_stands() {
        let both = set("a", b"1").then(set("b", b"2")).then(set("a", b"3"));
        assert_eq!(both.find("a"), Some(Some(&b"3"[..])));
        assert_eq!(both.find("b"), Some(Some(&b"2"[..])));
        assert_eq!(both.find("c"), None);
    }

    #[test]
    fn a_flush_drops_what_came_before_and_an_end_drops_all() {
        let mut flush = Changes::default();
        flush.flush();
        let flushed = set("a", b"1").then(flush).then(set("b", b"2"));
        assert!(flushed.flush && flushed.find("a").is_none() && flushed.find("b").is_some());

        let mut end = Changes::default();
        end.end();
        let login = Changes { principal: Principal::new("alice").ok(), renew: true, ..set("a", b"1") };
        let ended = login.then(end);
        assert!(ended.end && ended.principal.is_none() && !ended.renew && ended.keys.is_empty());
    }
}
