//! What a manager and its sessions share: the provider, the settings, the clock, and how a request's session is found.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::cookie::{CookieWriter, Tokens, each_token, no_store, vary};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{HashFunc, IdMaker, Keying, SessionId, StoreKey};
use crate::provider::{AnyProvider, Provider};
use crate::record::Record;

/// Commits of one session that lost a race wait here for one another, so that within a process they stop losing.
const QUEUES: usize = 64;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) provider: AnyProvider,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    touch_interval: Duration,
    keying: Keying,
    ids: RwLock<IdMaker>,
    cookie: CookieWriter,
    secure: AtomicBool,
    id_header: Option<(HeaderName, HeaderValue)>,
    queues: Box<[Mutex<()>]>,
    queue_of: RandomState,
}

/// A session as the store has it, and the id that the client presented for it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) id: SessionId,
    pub(crate) key: StoreKey,
    pub(crate) record: Record,
    /// Reached through an id that routine rotation has replaced: the client is never told the new one.
    pub(crate) in_grace: bool,
}

/// What a request brings that may name a session: kept as it came until somebody asks.
pub(crate) struct Ticket {
    cookies: Tokens,
    /// Boxed, since hardly anyone uses the header and every request carries a ticket.
    header: Option<Box<HeaderValue>>,
}

/// The ids that one request presents.
struct Candidates {
    first: SessionId,
    others: Vec<SessionId>,
}

impl Candidates {
    /// The most that are looked up.
    const MOST: usize = 4;

    fn add(&mut self, id: SessionId) {
        let known = id == self.first || self.others.contains(&id);
        // One too many is enough to know that there are too many.
        if !known && self.others.len() < Self::MOST {
            self.others.push(id);
        }
    }
}

impl Engine {
    pub(crate) fn new(provider: AnyProvider, config: Config, clock: Clock, ids: IdMaker) -> Self {
        let keying = match (provider.capabilities().persistent, config.hash_ids) {
            (true, true) => Keying::hashed(config.namespace()),
            (true, false) => Keying::Clear,
            (false, _) => Keying::tagged(config.namespace()),
        };
        let id_header = config.id_header.clone().map(|name| (name.clone(), HeaderValue::from(name)));
        Engine {
            touch_interval: config.touch_interval(),
            keying,
            ids: RwLock::new(ids),
            cookie: CookieWriter::new(&config.cookie),
            secure: AtomicBool::new(config.cookie.secure),
            id_header,
            queues: std::iter::repeat_with(Mutex::default).take(QUEUES).collect(),
            queue_of: RandomState::new(),
            provider,
            config,
            clock,
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.millis()
    }

    pub(crate) fn key(&self, id: &SessionId) -> StoreKey {
        self.keying.key(id)
    }

    /// A fresh id and its key.
    pub(crate) fn new_id(&self) -> Result<(SessionId, StoreKey)> {
        let id = self.ids.read().make()?;
        let key = self.key(&id);
        Ok((id, key))
    }

    pub(crate) fn switch_hash(&self, func: HashFunc, key: &[u8]) -> Result<()> {
        self.ids.write().switch(func, key)
    }

    pub(crate) fn secure(&self) -> bool {
        self.secure.load(Ordering::Relaxed)
    }

    pub(crate) fn set_secure(&self, secure: bool) {
        self.secure.store(secure, Ordering::Relaxed);
    }

    /// Whether a use at `now` is due to be noted, the last one having been noted at `last_active`.
    pub(crate) fn touch_due(&self, last_active: Millis, now: Millis) -> bool {
        now.since(last_active) >= self.touch_interval
    }

    pub(crate) fn ticket(&self, headers: &HeaderMap) -> Ticket {
        let header = self.id_header.as_ref().and_then(|(name, _)| headers.get(name));
        Ticket { cookies: Tokens::of(headers), header: header.map(|value| Box::new(value.clone())) }
    }

    /// The one live session that the request names.
    ///
    /// Tokens of another length or alphabet than this manager's ids are dropped before any I/O; of the rest at most four are
    /// looked up. Two live ones are as good as none: an attacker who can plant a cookie must not choose.
    pub(crate) async fn find(&self, ticket: &Ticket) -> Result<Option<Box<Stored>>> {
        let Some(Candidates { first, others }) = self.candidates(ticket) else { return Ok(None) };
        let mut found = self.look_up(first).await?;
        for id in others {
            let Some(other) = self.look_up(id).await? else { continue };
            found = match found {
                None => Some(other),
                // An id in its grace and its successor name the same session; the successor is the one to use.
                Some(one) if one.key == other.key => Some(if one.in_grace { other } else { one }),
                Some(_) => {
                    tracing::warn!("a request named several live sessions and is treated as anonymous");
                    return Ok(None);
                }
            };
        }
        Ok(found)
    }

    /// The distinct ids that a request presents; none, if there are too many to be true.
    fn candidates(&self, ticket: &Ticket) -> Option<Candidates> {
        let ids = self.ids.read();
        let mut cookies = 0;
        let mut found: Option<Candidates> = None;
        each_token(ticket.cookies.headers(), self.config.cookie.name.as_bytes(), |token| {
            cookies += 1;
            match (ids.recognise(token), &mut found) {
                (Some(id), None) => found = Some(Candidates { first: id, others: Vec::new() }),
                (Some(id), Some(found)) => found.add(id),
                (None, _) => tracing::debug!("a cookie of the session's name holds no session id"),
            }
        });
        if let (0, Some(header)) = (cookies, &ticket.header) {
            return ids.recognise(header.as_bytes()).map(|id| Candidates { first: id, others: Vec::new() });
        }
        let found = found?;
        if found.others.len() >= Candidates::MOST {
            tracing::warn!(
                "a request named more than {} sessions and is treated as anonymous",
                Candidates::MOST
            );
            return None;
        }
        Some(found)
    }

    /// The live session behind `id`, if there is one.
    pub(crate) async fn look_up(&self, id: SessionId) -> Result<Option<Box<Stored>>> {
        let key = self.key(&id);
        match self.provider.load(&key).await? {
            None => Ok(None),
            Some(record) if record.is_tombstone() => self.follow(id, record).await,
            Some(record) => Ok(Some(Box::new(Stored { id, key, record, in_grace: false }))),
        }
    }

    /// The session to which a tombstone leads while the grace of its rotation lasts.
    async fn follow(&self, id: SessionId, tombstone: Record) -> Result<Option<Box<Stored>>> {
        let Some(successor) = tombstone.successor() else { return Ok(None) };
        if self.now() >= successor.until {
            tracing::warn!("an id was used after it had been rotated away: it may have been stolen");
            return Ok(None);
        }
        let key = successor.key;
        let record = self.provider.load(&key).await?.filter(|record| !record.is_tombstone());
        Ok(record.map(|record| Box::new(Stored { id, key, record, in_grace: true })))
    }

    /// The newest record of a session that was found before; `None` if it is not alive any more.
    pub(crate) async fn renewed(&self, former: &Stored) -> Result<Option<Box<Stored>>> {
        match self.provider.load(&former.key).await? {
            None => Ok(None),
            Some(record) if record.is_tombstone() => self.follow(former.id.clone(), record).await,
            Some(record) => Ok(Some(Box::new(Stored { record, ..former.clone() }))),
        }
    }

    /// The queue of those who would change the session under `key` and have lost a race for it.
    pub(crate) async fn queue(&self, key: &StoreKey) -> MutexGuard<'_, ()> {
        let place = self.queue_of.hash_one(key.as_bytes()) as usize % QUEUES;
        self.queues[place].lock().await
    }

    /// Says in a response that it depends on what names the session.
    pub(crate) fn note_access(&self, headers: &mut HeaderMap) {
        vary(headers, &HeaderValue::from_static("Cookie"));
        if let Some((_, name)) = &self.id_header {
            vary(headers, name);
        }
    }

    /// Hands the client its id.
    pub(crate) fn hand_out(&self, headers: &mut HeaderMap, stored: &Stored) {
        let absolute = stored.record.times().absolute_deadline;
        let remaining = (absolute != Millis::NEVER).then(|| absolute.since(self.now()));
        if self.config.send_cookie {
            self.cookie.set(headers, stored.id.expose(), self.secure(), remaining);
        }
        if let Some((name, _)) = &self.id_header {
            if let Ok(mut value) = HeaderValue::try_from(stored.id.expose()) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        no_store(headers);
    }

    /// Has the client forget its id.
    pub(crate) fn take_back(&self, headers: &mut HeaderMap) {
        if self.config.send_cookie {
            self.cookie.remove(headers, self.secure());
        }
        no_store(headers);
    }

    /// Whether the client's cookie has a lifetime that moves on with use.
    pub(crate) fn renews_cookie(&self) -> bool {
        self.cookie.lifetime().is_some()
    }
}

/// Waits for `future` at most `limit`. Says, too, how long it had to wait: nothing where the answer was there at once,
/// in which case no timer was made either.
pub(crate) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T>>,
) -> (Result<T>, Duration) {
    let mut future = pin!(future);
    if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return (answer, Duration::ZERO);
    }
    let start = Instant::now();
    // Boxed, since a timer is large and the futures around this one are moved about.
    let answer = Box::pin(tokio::time::timeout(limit, future)).await;
    let answer = answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, Late { limit })));
    (answer, start.elapsed())
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected an answer within {limit:?}, found none; see whether the store is up, or raise the deadline"
)]
struct Late {
    limit: Duration,
}
