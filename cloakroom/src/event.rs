//! What happens to sessions, told as it happens: to a listener, and as `tracing` events.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{RandomSource, StoreKey};
use crate::principal::Principal;
use crate::record::Record;

/// The target of every `tracing` event of this kind, for filters.
const TARGET: &str = "cloakroom::event";

/// Something that happened to a session, or to a request that asked for one.
///
/// Names sessions by a keyed hash of their id, from which nobody comes back to the id. `Debug` and the `tracing` events show
/// that hash, the kind and the count, and no user.
#[derive(Clone)]
pub struct Event {
    kind: EventKind,
    session: Option<IdHash>,
    former: Option<IdHash>,
    principal: Option<Principal>,
    count: u64,
}

impl Event {
    /// What happened.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The session's id, hashed. `None` for a [`Duplicate`](EventKind::Duplicate), where nobody can tell which session was meant,
    /// and for what a garbage collection found [`Expired`](EventKind::Expired).
    pub fn session(&self) -> Option<IdHash> {
        self.session
    }

    /// The id that a [`Rotated`](EventKind::Rotated) session had before, hashed.
    pub fn former(&self) -> Option<IdHash> {
        self.former
    }

    /// The user the session belongs to, where it is known.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// How many sessions this is about: one, except for a [`Duplicate`](EventKind::Duplicate) and a garbage collection.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind)
            .field("session", &self.session)
            .field("former", &self.former)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A session came to be.
    Created,
    /// A session has a new id: after a login, a change of privileges, or in passing.
    Rotated,
    /// A user was bound to a session.
    Authenticated,
    /// A session was ended: by its user, or by whoever may end that user's sessions.
    Destroyed,
    /// A session's time was over. Told of a session that ran out while a request or a detached handle had it, and, as a count, of
    /// what a garbage collection removed. Stores say of an expired session what they say of one that never was, so a
    /// request that comes too late tells of an [`UnknownId`](Self::UnknownId); and what a store removes on its own nobody hears of.
    Expired,
    /// A request brought an id that the store does not know: expired, ended long ago, or made up.
    UnknownId,
    /// A request brought something that is no id of this manager's.
    MalformedId,
    /// A request named several live sessions, or more than are looked up, and is treated as anonymous.
    Duplicate,
    /// An id was used after it had been replaced: it may have been stolen.
    Reuse,
    /// A stored record cannot be read.
    Corrupt,
    /// A commit gave up: other requests were first at every try.
    Conflict,
}

impl EventKind {
    /// The kind as one word, as logs show it.
    ///
    /// ```
    /// assert_eq!(cloakroom::event::EventKind::UnknownId.as_str(), "unknown_id");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Rotated => "rotated",
            EventKind::Authenticated => "authenticated",
            EventKind::Destroyed => "destroyed",
            EventKind::Expired => "expired",
            EventKind::UnknownId => "unknown_id",
            EventKind::MalformedId => "malformed_id",
            EventKind::Duplicate => "duplicate",
            EventKind::Reuse => "reuse",
            EventKind::Corrupt => "corrupt",
            EventKind::Conflict => "conflict",
        }
    }

    /// The level at which it is logged. What any stranger can bring about as often as they like does not warn.
    fn level(self) -> Level {
        match self {
            EventKind::Reuse | EventKind::Corrupt | EventKind::Conflict => Level::WARN,
            _ => Level::DEBUG,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            EventKind::Created => "a session came to be",
            EventKind::Rotated => "a session has a new id",
            EventKind::Authenticated => "a user was bound to a session",
            EventKind::Destroyed => "a session was ended",
            EventKind::Expired => "a session's time was over",
            EventKind::UnknownId => "a request brought an id that the store does not know",
            EventKind::MalformedId => "a request brought what is no session id under the session's name",
            EventKind::Duplicate => "a request named several sessions and is treated as anonymous",
            EventKind::Reuse => "an id was used after it had been replaced: it may have been stolen",
            EventKind::Corrupt => "a stored session cannot be read",
            EventKind::Conflict => "a commit gave up, since other requests were first at every try",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Eight bytes of a keyed hash of a session id: the same for the same session of one manager, and no way back to the id.
///
/// Shown as 16 hex digits. The key is a random one of the process unless
/// [`ManagerBuilder::event_key`](crate::ManagerBuilder::event_key) gives one that several processes share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdHash([u8; 8]);

impl fmt::Display for IdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for IdHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdHash({self})")
    }
}

/// Hears of what happens to sessions: any `Fn(&Event)`, given to [`ManagerBuilder::on_event`](crate::ManagerBuilder::on_event).
///
/// Called in the request's own task, after the store has confirmed what the event tells and with no lock held. It must not block: hand
/// what takes long to a channel.
#[doc(alias = "HttpSessionListener")]
#[doc(alias = "observer")]
#[doc(alias = "sink")]
pub trait EventListener: Send + Sync + 'static {
    /// Something has happened.
    fn hear(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync + 'static> EventListener for F {
    fn hear(&self, event: &Event) {
        self(event);
    }
}

/// The configured key of the hashes; empty: a random one for the process.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct EventKey(Box<[u8]>);

impl EventKey {
    /// The fewest bytes of a key: 128 bits, the least that keeps a guess out of reach.
    pub(crate) const MIN_LEN: usize = 16;

    pub(crate) fn new(key: &[u8]) -> Self {
        EventKey(key.into())
    }

    /// How many bytes there are, if they are too few.
    pub(crate) fn too_short(&self) -> Option<usize> {
        Some(self.0.len()).filter(|len| (1..Self::MIN_LEN).contains(len))
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "EventKey(random)" } else { "EventKey(given)" })
    }
}

/// What an event is about, before anybody is known to want to hear it.
#[derive(Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) key: Option<&'a StoreKey>,
    pub(crate) former: Option<&'a StoreKey>,
    pub(crate) record: Option<&'a Record>,
    pub(crate) principal: Option<&'a Principal>,
    /// What a request brought that has no store key.
    pub(crate) token: Option<IdHash>,
    /// How many sessions, where it is not one.
    pub(crate) count: Option<u64>,
}

impl<'a> From<&'a StoreKey> for About<'a> {
    fn from(key: &'a StoreKey) -> Self {
        About { key: Some(key), ..About::default() }
    }
}

impl From<u64> for About<'_> {
    fn from(count: u64) -> Self {
        About { count: Some(count), ..About::default() }
    }
}

impl From<IdHash> for About<'_> {
    fn from(token: IdHash) -> Self {
        About { token: Some(token), ..About::default() }
    }
}

/// Where events go.
pub(crate) struct Events {
    listener: Option<Arc<dyn EventListener>>,
    hasher: Hmac<Sha256>,
}

impl Events {
    pub(crate) fn new(
        listener: Option<Arc<dyn EventListener>>,
        key: &EventKey,
        random: RandomSource,
    ) -> Result<Self> {
        let mut own = [0; 32];
        let key: &[u8] = match key.0.is_empty() {
            true => {
                random(&mut own).map_err(|error| Error::new(ErrorKind::Random, error))?;
                &own
            }
            false => &key.0,
        };
        let hasher = Hmac::new_from_slice(key).map_err(|error| Error::new(ErrorKind::Config, error))?;
        Ok(Events { listener, hasher })
    }

    /// Whether anybody hears of such an event. All that events cost where nobody does.
    #[inline]
    pub(crate) fn wanted(&self, kind: EventKind) -> bool {
        self.listener.is_some() || kind.level() <= LevelFilter::current()
    }

    #[inline]
    pub(crate) fn report<'a>(&self, kind: EventKind, about: impl Into<About<'a>>) {
        if self.wanted(kind) {
            self.tell(kind, &about.into());
        }
    }

    /// The hash of a session, by the key that its id leads to: whoever ends another's session knows no more.
    pub(crate) fn hash(&self, key: &StoreKey) -> IdHash {
        self.keyed_hash(b"key\0", key.as_bytes())
    }

    /// The hash of what is no id.
    pub(crate) fn hash_of_token(&self, token: &[u8]) -> IdHash {
        self.keyed_hash(b"token\0", token)
    }

    fn keyed_hash(&self, domain: &[u8], bytes: &[u8]) -> IdHash {
        let digest = self.hasher.clone().chain_update(domain).chain_update(bytes).finalize().into_bytes();
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        IdHash(hash)
    }

    #[cold]
    fn tell(&self, kind: EventKind, about: &About<'_>) {
        let event = Event {
            kind,
            session: about.key.map(|key| self.hash(key)).or(about.token),
            former: about.former.map(|key| self.hash(key)),
            principal: about.principal.cloned().or_else(|| about.record.and_then(Record::principal)),
            count: about.count.unwrap_or(1),
        };
        event.log();
        if let Some(listener) = &self.listener {
            listener.hear(&event);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("listener", &self.listener.is_some()).finish_non_exhaustive()
    }
}

impl Event {
    fn log(&self) {
        let (event, sentence) = (self.kind.as_str(), self.kind.sentence());
        let session = self.session.map(tracing::field::display);
        let former = self.former.map(tracing::field::display);
        let count = (self.count != 1).then_some(self.count);
        // A level is part of the place that logs, so each has its own.
        match self.kind.level() {
            Level::WARN => tracing::warn!(target: TARGET, event, session, former, count, "{sentence}"),
            _ => tracing::debug!(target: TARGET, event, session, former, count, "{sentence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::system_random;

    fn events(key: &str) -> Events {
        Events::new(None, &EventKey::new(key.as_bytes()), system_random).unwrap()
    }

    #[test]
    fn a_hash_is_the_documented_hmac_of_the_key() {
        // printf 'key\0ab12' | openssl dgst -sha256 -hmac 0123456789abcdef
        let hash = events("0123456789abcdef").hash(&"ab12".parse().unwrap());
        assert_eq!(hash.to_string(), "0f3339ddc45b7cc7");
        assert_eq!(format!("{hash:?}"), format!("IdHash({hash})"));
    }

    #[test]
    fn processes_agree_on_a_hash_where_they_share_a_key_and_not_otherwise() {
        let key: StoreKey = "ab12".parse().unwrap();
        assert_eq!(events("0123456789abcdef").hash(&key), events("0123456789abcdef").hash(&key));
        assert_ne!(events("0123456789abcdef").hash(&key), events("0123456789abcdeg").hash(&key));
        assert_ne!(events("").hash(&key), events("").hash(&key), "two processes without a key");
        let one = events("0123456789abcdef");
        assert_ne!(
            one.hash(&key),
            one.hash_of_token(key.as_bytes()),
            "a token that looks like a key is none"
        );
    }

    #[test]
    fn a_generator_that_fails_is_told() {
        let broken: RandomSource = |_| Err(std::io::Error::other("no entropy"));
        let error = Events::new(None, &EventKey::default(), broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Random);
    }
}
