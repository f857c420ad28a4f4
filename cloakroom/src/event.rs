//! Events of sessions, for a listener and for `tracing`.
//!
//! A manager reports logins, ends, ids that were used after their replacement, and records that cannot be read.
//! [`ManagerBuilder::on_event`](crate::ManagerBuilder::on_event) registers an [`EventListener`], which may be a closure. Each event
//! is also a `tracing` event with the target `cloakroom::event`. The chapter [events](crate::guide::events) lists the kinds.

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

/// The target of every session event in `tracing`, for filters.
const TARGET: &str = "cloakroom::event";

/// An event of a session, or of a request that asked for one.
///
/// It names a session by a keyed hash of its id, which does not reveal the id. `Debug` and the `tracing` events show that hash,
/// the kind and the count, but no user.
///
/// ```
/// use cloakroom::event::{Event, EventKind};
/// use cloakroom::{Manager, MemoryProvider};
///
/// let sessions = Manager::builder(MemoryProvider::new())
///     .on_event(|event: &Event| {
///         if event.kind() == EventKind::Reuse {
///             println!("session {:?} may have been stolen", event.session());
///         }
///     })
///     .build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Event {
    kind: EventKind,
    session: Option<IdHash>,
    former: Option<IdHash>,
    principal: Option<Principal>,
    count: u64,
}

impl Event {
    /// Returns the kind of the event. New kinds may be added.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::event::{Event, EventKind};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// static LOGINS: AtomicU64 = AtomicU64::new(0);
    ///
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .on_event(|event: &Event| {
    ///         if event.kind() == EventKind::Authenticated {
    ///             LOGINS.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.save().await?;
    /// assert_eq!(LOGINS.load(Ordering::Relaxed), 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Returns the hash of the session's id.
    ///
    /// `None` for a [`Duplicate`](EventKind::Duplicate), which names several sessions, and for sessions that a garbage collection
    /// found [`Expired`](EventKind::Expired).
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::event::{Event, IdHash};
    /// use std::sync::Mutex;
    ///
    /// static CREATED: Mutex<Option<IdHash>> = Mutex::new(None);
    ///
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .on_event(|event: &Event| *CREATED.lock().unwrap() = event.session())
    ///     .build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// assert!(session.id_hash().is_some());
    /// assert_eq!(*CREATED.lock().unwrap(), session.id_hash());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn session(&self) -> Option<IdHash> {
        self.session
    }

    /// Returns the hash of the id that a [`Rotated`](EventKind::Rotated) or [`Moved`](EventKind::Moved) session had before.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::event::{Event, EventKind, IdHash};
    /// use std::sync::Mutex;
    ///
    /// static FORMER: Mutex<Option<IdHash>> = Mutex::new(None);
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .on_event(|event: &Event| {
    ///         if event.kind() == EventKind::Rotated {
    ///             *FORMER.lock().unwrap() = event.former();
    ///         }
    ///     })
    ///     .build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let before = session.id_hash();
    /// session.regenerate()?;
    /// session.save().await?;
    /// assert_ne!(session.id_hash(), before);
    /// assert_eq!(*FORMER.lock().unwrap(), before);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn former(&self) -> Option<IdHash> {
        self.former
    }

    /// Returns the user of the session, if known.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::event::{Event, EventKind};
    /// use std::sync::Mutex;
    ///
    /// static LOGINS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    ///
    /// let sessions = Manager::builder(MemoryProvider::new())
    ///     .on_event(|event: &Event| {
    ///         if let (EventKind::Authenticated, Some(user)) = (event.kind(), event.principal()) {
    ///             LOGINS.lock().unwrap().push(user.as_str().to_owned());
    ///         }
    ///     })
    ///     .build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.save().await?;
    /// assert_eq!(*LOGINS.lock().unwrap(), ["alice"]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Returns the number of sessions: one, except for a [`Duplicate`](EventKind::Duplicate) and a garbage collection.
    ///
    /// ```
    /// # use cloakroom::{Manager, ManualClock, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use cloakroom::event::{Event, EventKind};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// static EXPIRED: AtomicU64 = AtomicU64::new(0);
    ///
    /// # let time = ManualClock::default();
    /// # let provider = MemoryProvider::builder().clock(time.clock()).build();
    /// let sessions = Manager::builder(provider)
    /// #     .clock(time.clock())
    ///     .on_event(|event: &Event| {
    ///         if event.kind() == EventKind::Expired {
    ///             EXPIRED.fetch_add(event.count(), Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// # for n in 0..2 {
    /// #     let session = sessions.start(&http::HeaderMap::new()).await?;
    /// #     session.set("n", n)?;
    /// #     session.save().await?;
    /// # }
    /// # time.advance(std::time::Duration::from_secs(31 * 60));
    /// // Two sessions were left for over 30 minutes.
    /// sessions.collect_garbage().await?;
    /// assert_eq!(EXPIRED.load(Ordering::Relaxed), 2);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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

/// The kind of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A session was created.
    Created,
    /// A session got a new id: by a login, a change of privileges, or routine rotation.
    Rotated,
    /// A user was bound to a session.
    Authenticated,
    /// A session was moved here from another library's store. [`Event::former`] is its old id.
    Moved,
    /// A session was ended by its user or by the application.
    Destroyed,
    /// A session expired while a request or a detached handle used it, or a garbage collection removed a number of sessions.
    ///
    /// A store does not tell expired sessions from unknown ids, so a request that comes too late is an
    /// [`UnknownId`](Self::UnknownId). Sessions that a store removes on its own have no event.
    Expired,
    /// A request presented an id that the store does not know: expired, ended long ago, or invented.
    UnknownId,
    /// A request presented a value that does not have the form of this manager's ids.
    MalformedId,
    /// A request presented several live sessions, or more ids than are looked up. It is treated as anonymous.
    Duplicate,
    /// An id was used after its replacement. It may have been stolen.
    Reuse,
    /// A stored record is not readable.
    Corrupt,
    /// A commit failed, since other requests changed the session before every try.
    Conflict,
}

impl EventKind {
    /// Returns the kind as one word, as logs show it.
    ///
    /// ```
    /// assert_eq!(cloakroom::event::EventKind::UnknownId.as_str(), "unknown_id");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Created => "created",
            EventKind::Rotated => "rotated",
            EventKind::Authenticated => "authenticated",
            EventKind::Moved => "moved",
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

    /// Returns the log level. Events that any visitor can cause at will are not warnings.
    fn level(self) -> Level {
        match self {
            EventKind::Reuse | EventKind::Corrupt | EventKind::Conflict => Level::WARN,
            _ => Level::DEBUG,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            EventKind::Created => "a session was created",
            EventKind::Rotated => "a session got a new id",
            EventKind::Authenticated => "a user was bound to a session",
            EventKind::Moved => "a session was moved here from another library's store",
            EventKind::Destroyed => "a session was ended",
            EventKind::Expired => "a session expired",
            EventKind::UnknownId => "a request presented an id that the store does not know",
            EventKind::MalformedId => "a request presented a malformed session id",
            EventKind::Duplicate => "a request presented several sessions and is treated as anonymous",
            EventKind::Reuse => "an id was used after its replacement; it may have been stolen",
            EventKind::Corrupt => "a stored session cannot be read",
            EventKind::Conflict => {
                "a commit failed, since other requests changed the session before every try"
            }
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Eight bytes of a keyed hash of a session id, shown as 16 hex digits.
///
/// It is the same for one session of one manager, and does not reveal the id. The key is random for each process, unless
/// [`ManagerBuilder::event_key`](crate::ManagerBuilder::event_key) sets one that several processes share.
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

/// A listener for session events: any `Fn(&Event)`, set by [`ManagerBuilder::on_event`](crate::ManagerBuilder::on_event).
///
/// It is called in the task of the request, after the store has confirmed the change, and without a lock. It must not block:
/// send slow work to a channel.
#[doc(alias = "HttpSessionListener")]
#[doc(alias = "observer")]
#[doc(alias = "sink")]
pub trait EventListener: Send + Sync + 'static {
    /// Receives an event.
    ///
    /// ```
    /// use cloakroom::event::{Event, EventListener};
    /// use cloakroom::{Manager, MemoryProvider};
    /// use std::sync::mpsc::{Sender, channel};
    ///
    /// /// Hands events to a thread that writes them to a database.
    /// struct Audit(Sender<Event>);
    ///
    /// impl EventListener for Audit {
    ///     fn on_event(&self, event: &Event) {
    ///         let _ = self.0.send(event.clone());    // never blocks
    ///     }
    /// }
    ///
    /// let (sender, events) = channel();
    /// let sessions = Manager::builder(MemoryProvider::new()).on_event(Audit(sender)).build()?;
    /// assert!(events.try_recv().is_err(), "nothing has happened yet");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync + 'static> EventListener for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// The configured key of the hashes. If it is empty, each process uses a random one.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct EventKey(Box<[u8]>);

impl EventKey {
    /// The minimum length of a key in bytes: 128 bits, which nobody can guess.
    pub(crate) const MIN_LEN: usize = 16;

    pub(crate) fn new(key: &[u8]) -> Self {
        EventKey(key.into())
    }

    /// Returns the length of the key if it is too short.
    pub(crate) fn too_short(&self) -> Option<usize> {
        Some(self.0.len()).filter(|len| (1..Self::MIN_LEN).contains(len))
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "EventKey(random)" } else { "EventKey(given)" })
    }
}

/// The subject of an event, which becomes an [`Event`] only if somebody listens.
#[derive(Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) key: Option<&'a StoreKey>,
    pub(crate) former: Option<&'a StoreKey>,
    pub(crate) record: Option<&'a Record>,
    pub(crate) principal: Option<&'a Principal>,
    /// The hash of a presented value that has no store key.
    pub(crate) token: Option<IdHash>,
    /// The number of sessions; `None` for one.
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

/// The destination of events: the listener and `tracing`.
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
        let key: &[u8] = if key.0.is_empty() {
            random(&mut own).map_err(|error| Error::new(ErrorKind::Random, error))?;
            &own
        } else {
            &key.0
        };
        let hasher = Hmac::new_from_slice(key).map_err(|error| Error::new(ErrorKind::Config, error))?;
        Ok(Events { listener, hasher })
    }

    /// Returns true if anybody listens to events of this kind. Without listeners, events cost only this check.
    #[inline]
    pub(crate) fn wanted(&self, kind: EventKind) -> bool {
        self.listener.is_some() || kind.level() <= LevelFilter::current()
    }

    #[inline]
    pub(crate) fn report<'a>(&self, kind: EventKind, about: impl Into<About<'a>>) {
        if self.wanted(kind) {
            self.emit(kind, &about.into());
        }
    }

    /// Returns the hash of a session, computed from its store key, since ending another user's session has no id.
    pub(crate) fn hash(&self, key: &StoreKey) -> IdHash {
        self.keyed_hash(b"key\0", key.as_bytes())
    }

    /// Returns the hash of a value that is not an id.
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
    fn emit(&self, kind: EventKind, about: &About<'_>) {
        let event = Event {
            kind,
            session: about.key.map(|key| self.hash(key)).or(about.token),
            former: about.former.map(|key| self.hash(key)),
            principal: about.principal.cloned().or_else(|| about.record.and_then(Record::principal)),
            count: about.count.unwrap_or(1),
        };
        event.log();
        if let Some(listener) = &self.listener {
            listener.on_event(&event);
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
        // `tracing` fixes the level per call site, so each level has its own.
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
    fn processes_have_equal_hashes_only_with_a_shared_key() {
        let key: StoreKey = "ab12".parse().unwrap();
        assert_eq!(events("0123456789abcdef").hash(&key), events("0123456789abcdef").hash(&key));
        assert_ne!(events("0123456789abcdef").hash(&key), events("0123456789abcdeg").hash(&key));
        assert_ne!(events("").hash(&key), events("").hash(&key), "two processes without a key");
        let one = events("0123456789abcdef");
        assert_ne!(
            one.hash(&key),
            one.hash_of_token(key.as_bytes()),
            "a token that looks like a key has another hash"
        );
    }

    #[test]
    fn a_failing_generator_is_an_error() {
        let broken: RandomSource = |_| Err(std::io::Error::other("no entropy"));
        let error = Events::new(None, &EventKey::default(), broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Random);
    }
}
