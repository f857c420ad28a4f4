//! What a manager and its sessions share: the provider, the settings, the clock, and how a request's session is found.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::cookie::{CookieWriter, Tokens, no_store, tokens, vary};
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
    header: Option<HeaderValue>,
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
        let id = self.ids.read().unwrap_or_else(PoisonError::into_inner).make()?;
        let key = self.key(&id);
        Ok((id, key))
    }

    pub(crate) fn switch_hash(&self, func: HashFunc, key: &[u8]) -> Result<()> {
        self.ids.write().unwrap_or_else(PoisonError::into_inner).switch(func, key)
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
        let header = self.id_header.as_ref().and_then(|(name, _)| headers.get(name)).cloned();
        Ticket { cookies: Tokens::of(headers), header }
    }

    /// The one live session that the request names.
    ///
    /// Tokens of another length or alphabet than this manager's ids are dropped before any I/O; of the rest at most four are
    /// looked up. Two live ones are as good as none: an attacker who can plant a cookie must not choose.
    pub(crate) async fn find(&self, ticket: &Ticket) -> Result<Option<Stored>> {
        let Some((first, others)) = self.candidates(ticket) else { return Ok(None) };
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

    /// The distinct ids that a request presents, the first apart: most requests have no other.
    fn candidates(&self, ticket: &Ticket) -> Option<(SessionId, Vec<SessionId>)> {
        const MOST: usize = 4;
        let ids = self.ids.read().unwrap_or_else(PoisonError::into_inner);
        let mut named = tokens(ticket.cookies.headers(), self.config.cookie.name.as_bytes()).peekable();
        if named.peek().is_none() {
            let header = ticket.header.as_ref()?;
            return ids.recognise(header.as_bytes()).map(|id| (id, Vec::new()));
        }
        let mut malformed = 0;
        let mut known = named.filter_map(|token| {
            let id = ids.recognise(token);
            malformed += usize::from(id.is_none());
            id
        });
        let first = known.next();
        let mut others: Vec<SessionId> = Vec::new();
        if let Some(first) = &first {
            for id in known {
                if id != *first && !others.contains(&id) {
                    others.push(id);
                    if others.len() == MOST {
                        tracing::warn!(
                            "a request named more than {MOST} sessions and is treated as anonymous"
                        );
                        return None;
                    }
                }
            }
        }
        if malformed > 0 {
            tracing::debug!(malformed, "a cookie of the session's name holds no session id");
        }
        Some((first?, others))
    }

    /// The live session behind `id`, if there is one.
    pub(crate) async fn look_up(&self, id: SessionId) -> Result<Option<Stored>> {
        let key = self.key(&id);
        let Some(record) = self.provider.load(&key).await? else { return Ok(None) };
        self.follow(id, key, record).await
    }

    /// The session that `record` is, or leads to while the grace of a rotation lasts.
    pub(crate) async fn follow(
        &self,
        id: SessionId,
        key: StoreKey,
        record: Record,
    ) -> Result<Option<Stored>> {
        let now = self.now();
        if record.meta.expired_at(now) {
            return Ok(None);
        }
        let Some(successor) = record.successor else {
            return Ok(Some(Stored { id, key, record, in_grace: false }));
        };
        if now >= successor.until {
            tracing::warn!("an id was used after it had been rotated away: it may have been stolen");
            return Ok(None);
        }
        let Some(record) = self.provider.load(&successor.key).await? else { return Ok(None) };
        let alive = record.successor.is_none() && !record.meta.expired_at(now);
        Ok(alive.then_some(Stored { id, key: successor.key, record, in_grace: true }))
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
        let absolute = stored.record.meta.absolute_deadline;
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
    let answer = tokio::time::timeout(limit, future).await;
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
