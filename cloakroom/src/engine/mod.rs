//! What a manager and its sessions share: the provider, the settings, the clock, and how a request's session is found.

mod admission;
#[cfg(feature = "beego")]
mod adopt;
mod collection;
mod forms;
mod fresh;
mod life;
mod plain;
mod plain_http;
mod succession;
mod ticket;
mod users;

use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::clock::{Clock, Millis};
use crate::config::Config;
use crate::cookie::{CookieWriter, each_token, no_store, vary};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{About, EventKind, Events, IdHash};
use crate::id::{HashFunc, IdMaker, Keying, MAX_ID_LEN, Named, SessionId, StoreKey};
use crate::provider::{AnyProvider, Provider, SealedTokens};
use crate::record::{Record, Times};
use crate::sync::{AtomicBool, AtomicUsize, Ordering, RandomState, RwLock, Timer, timer};

pub use admission::Visit;
pub(crate) use admission::{Admission, Guard};
pub(crate) use forms::{FormSecret, SECRET_LEN};
pub(crate) use fresh::{COLLISIONS, repeats_itself};
pub(crate) use life::Reached;
pub(crate) use plain_http::is_plain;
pub(crate) use succession::{Former, Login};
pub(crate) use ticket::Ticket;

/// Commits of one session that lost a race wait here for one another, so that within a process they stop losing.
const QUEUES: usize = 64;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) provider: AnyProvider,
    /// Where sessions lie that are to be moved to `provider`.
    pub(crate) former: Option<AnyProvider>,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    admission: Admission,
    /// True if more than the cookies of a request is kept until somebody asks for its session.
    keeps_more: bool,
    /// The interval at which a use is noted, in milliseconds, where a session has no lifetime of its own.
    touch_anonymous: u64,
    touch_users: u64,
    keying: Keying,
    /// The mark that keeps this manager's records apart from another namespace's, where keys are plain ids and do not.
    namespace: Option<[u8; 8]>,
    /// Where a session's token is its sealed record.
    tokens: Option<SealedTokens>,
    ids: RwLock<IdMaker>,
    cookie: CookieWriter,
    form_cookie: forms::FormCookie,
    collection: collection::Collection,
    /// Visitors who have come over HTTPS: see `plain_http.rs`.
    encrypted: AtomicUsize,
    secure: AtomicBool,
    id_header: Option<(HeaderName, HeaderValue)>,
    queues: Box<[Mutex<()>]>,
    logins: Box<[Mutex<()>]>,
    queue_of: RandomState,
}

/// A session as the store has it, and the id by which it was reached.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: Named,
    pub(crate) record: Record,
    pub(crate) by: By,
}

/// By which id a session was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Its own.
    Own,
    /// One that routine rotation has replaced: the client is never told the new one.
    Grace,
    /// The one that it had in the store that it was moved from: the client is told the new one until it comes with that.
    #[cfg(feature = "beego")]
    Moved,
    /// Its own in the store from which it could not be moved yet: this request reads it there.
    #[cfg(feature = "beego")]
    Unmoved,
}

/// The ids of a request that may be alive.
#[derive(Default)]
pub(crate) struct Candidates {
    pub(crate) first: Option<Named>,
    pub(crate) others: Vec<Named>,
    /// What stands under the session's name and is no id; kept where somebody wants to hear of it.
    pub(crate) malformed: Vec<IdHash>,
}

/// What a request's ids lead to.
pub(crate) enum Found {
    Nobody,
    /// Nobody any more: see [`Reached::Ended`].
    Ended(Former),
    One(Stored),
    /// Several, so that none counts, except that a logout ends them all.
    Contested(Vec<StoreKey>),
}

impl Candidates {
    /// The most that are looked up.
    pub(crate) const MOST: usize = 4;

    fn add(&mut self, name: Named) {
        let Some(first) = &self.first else {
            self.first = Some(name);
            return;
        };
        let known = first.key() == name.key() || self.others.iter().any(|other| other.key() == name.key());
        // One too many is enough to know that there are too many.
        if !known && self.others.len() < Self::MOST {
            self.others.push(name);
        }
    }

    /// Whether one look-up at the most is all that this takes.
    pub(crate) fn are_plain(&self) -> bool {
        self.others.is_empty() && self.malformed.is_empty()
    }
}

impl Engine {
    pub(crate) fn new(
        provider: AnyProvider,
        former: Option<AnyProvider>,
        config: Config,
        clock: Clock,
        ids: IdMaker,
        events: Events,
        admission: Admission,
    ) -> Self {
        let capabilities = provider.capabilities();
        let keying = match (capabilities.persistent, config.hash_ids) {
            // The id leads to nothing that is stored.
            _ if capabilities.token_is_record() => Keying::Clear,
            (true, true) => Keying::hashed(config.namespace()),
            (true, false) => Keying::Clear,
            (false, _) => Keying::tagged(config.namespace()),
        };
        let in_clear = capabilities.persistent && !config.hash_ids && !capabilities.token_is_record();
        // Another library's layout has no place for a mark.
        let marks = in_clear && capabilities.codec.is_none();
        let tokens = capabilities.sealed_tokens().cloned();
        let touch = |idle| Engine::touch_interval(idle, config.cookie.lifetime, tokens.as_ref());
        let id_header = config.id_header.clone().map(|name| (name.clone(), HeaderValue::from(name)));
        Engine {
            keying,
            namespace: marks.then(|| Keying::mark(config.namespace())),
            keeps_more: id_header.is_some() || admission.has_guard(),
            touch_anonymous: touch(config.anonymous_timeout()),
            touch_users: touch(config.idle_timeout),
            tokens,
            ids: RwLock::new(ids),
            cookie: CookieWriter::new(&config.cookie),
            form_cookie: forms::FormCookie::beside(&config.cookie),
            collection: collection::Collection::new(clock.millis(), capabilities.native_expiry),
            encrypted: AtomicUsize::new(0),
            secure: AtomicBool::new(config.cookie.secure),
            id_header,
            queues: std::iter::repeat_with(Mutex::default).take(QUEUES).collect(),
            logins: std::iter::repeat_with(Mutex::default).take(QUEUES).collect(),
            queue_of: RandomState::default(),
            provider,
            former,
            config,
            clock,
            events,
            admission,
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.millis()
    }

    /// A fresh id and its key.
    pub(crate) fn new_name(&self) -> Result<Named> {
        let mut text = [0; MAX_ID_LEN];
        let id = self.ids.read().write(&mut text)?;
        Ok(self.keying.named(id))
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

    /// True if a use of `record` at `now` is due to be noted.
    pub(crate) fn touch_due(&self, record: &Record, times: &Times, now: Millis) -> bool {
        let unnoted = now.0.saturating_sub(times.last_active.0);
        unnoted
            >= match record.lifetime() {
                None if times.authenticated.is_none() => self.touch_anonymous,
                None => self.touch_users,
                Some(own) => Engine::touch_interval(own.idle, None, self.tokens.as_ref()),
            }
    }

    /// The interval at which a use is noted of a session that lives unused for `idle`, in a cookie that lives for `cookie`; in milliseconds.
    fn touch_interval(idle: Duration, cookie: Option<Duration>, tokens: Option<&SealedTokens>) -> u64 {
        let token = tokens.and_then(SealedTokens::max_age);
        let shortest = [cookie, token].into_iter().flatten().fold(idle, Duration::min);
        Millis::of(Config::touch_interval(shortest))
    }

    /// The id of a request whose one cookie is ours, as most are: a quicker way to what [`candidates`](Self::candidates) finds.
    pub(crate) fn only_candidate(&self, ticket: &Ticket) -> Option<Named> {
        let token = self.cookie.token_at_start(ticket.only_cookie()?.as_bytes())?;
        // A token that is recognised holds no semicolon: nothing else can be in the header.
        self.recognised(&self.ids.read(), token)
    }

    /// What the provider is to be asked for `token`, if that can be one of ours.
    #[inline]
    fn recognised(&self, ids: &IdMaker, token: &[u8]) -> Option<Named> {
        match &self.tokens {
            None => ids.recognises(token).then(|| self.keying.named(token)),
            Some(tokens) => Engine::recognised_whole(tokens, token),
        }
    }

    /// Apart from [`recognised`](Self::recognised), which is small without it.
    #[cold]
    fn recognised_whole(tokens: &SealedTokens, token: &[u8]) -> Option<Named> {
        tokens.recognises(token).then(|| Keying::Clear.named(token))
    }

    /// The session that `name` led to.
    #[inline]
    pub(crate) fn stored(&self, name: Named, record: Record) -> Stored {
        match &self.tokens {
            None => Stored { name, record, by: By::Own },
            Some(_) => self.stored_whole(name, record),
        }
    }

    /// Apart from [`stored`](Self::stored), which is small without it.
    #[cold]
    fn stored_whole(&self, name: Named, record: Record) -> Stored {
        let name = record.own_id().map_or(name, |id| self.keying.named(id.expose().as_bytes()));
        Stored { name, record, by: By::Own }
    }

    /// What leads to the newest state of a session: its name, or the token that it would be sent in.
    pub(crate) fn name_again(&self, stored: &Stored) -> Result<Named> {
        match &self.tokens {
            None => Ok(stored.name.clone()),
            Some(tokens) => Ok(Keying::Clear.named(&tokens.seal(&stored.name.id(), &stored.record)?)),
        }
    }

    /// The distinct ids that a request presents; no first one, if there are too many to be true.
    ///
    /// Tokens of another length or alphabet than this manager's ids are dropped here, before any I/O.
    pub(crate) fn candidates(&self, ticket: &Ticket) -> Candidates {
        let mut found = Candidates::default();
        if ticket.is_blank() {
            return found;
        }
        let ids = self.ids.read();
        let mut cookies = 0;
        each_token(ticket.cookies(), self.config.cookie.name.as_bytes(), |token| {
            cookies += 1;
            let unescaped = || ids.unescaped(token).map(|id| self.keying.named(&id));
            match self.recognised(&ids, token).or_else(unescaped) {
                Some(name) => found.add(name),
                None => self.note_malformed(&mut found, token),
            }
        });
        if let (0, Some(header)) = (cookies, ticket.id()) {
            match self.recognised(&ids, header.as_bytes()) {
                Some(name) => found.add(name),
                None => self.note_malformed(&mut found, header.as_bytes()),
            }
        }
        if found.others.len() >= Candidates::MOST {
            found.others.extend(found.first.take());
        }
        found
    }

    /// Kept and not reported yet: locks are held, and whoever listens may do anything.
    #[cold]
    fn note_malformed(&self, found: &mut Candidates, token: &[u8]) {
        if self.events.wanted(EventKind::MalformedId) && found.malformed.len() < Candidates::MOST {
            found.malformed.push(self.events.hash_of_token(token));
        }
    }

    pub(crate) fn name_of(&self, id: &SessionId) -> Named {
        self.keying.named(id.expose().as_bytes())
    }

    /// Reports that the store knows nothing by `name`, which is no error.
    #[cold]
    pub(crate) fn report_unknown(&self, name: &Named) -> Result<()> {
        self.events.report(EventKind::UnknownId, name.key());
        Ok(())
    }

    /// Reports `error`, which is handed back, if it says that the record under `key` cannot be read.
    #[cold]
    pub(crate) fn report_corrupt(&self, error: Error, key: &StoreKey) -> Error {
        if error.kind() == ErrorKind::Corrupt {
            self.events.report(EventKind::Corrupt, key);
        }
        error
    }

    /// The queue of those who would change the session under `key` and have lost a race for it.
    pub(crate) async fn queue(&self, key: &StoreKey) -> MutexGuard<'_, ()> {
        self.queues[self.place(key.as_bytes())].lock().await
    }

    /// The queue of those who log in as `user`. Others than those of sessions: one who stands in one of these may have to stand in one of those.
    async fn queue_for(&self, user: &[u8]) -> MutexGuard<'_, ()> {
        self.logins[self.place(user)].lock().await
    }

    fn place(&self, of: &[u8]) -> usize {
        self.queue_of.hash_one(of) as usize % QUEUES
    }

    /// Says in a response that it depends on what names the session.
    #[inline]
    pub(crate) fn note_access(&self, headers: &mut HeaderMap) {
        vary(headers, HeaderValue::from_static("Cookie"));
        if let Some((_, name)) = &self.id_header {
            vary(headers, name.clone());
        }
    }

    /// Hands the client its token.
    pub(crate) fn hand_out(&self, headers: &mut HeaderMap, stored: &Stored) -> Result<()> {
        self.look_for_collection();
        let sealed = self.tokens.as_ref().map(|tokens| tokens.seal(&stored.name.id(), &stored.record));
        let sealed = sealed.transpose()?;
        let token = sealed.as_deref().unwrap_or(stored.name.id_bytes());
        if self.sends_cookie() {
            self.cookie.set(headers, token, self.secure(), self.cookie_lifetime(&stored.record));
        }
        if let Some((name, _)) = &self.id_header
            && let Ok(mut value) = HeaderValue::from_bytes(token)
        {
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        no_store(headers);
        Ok(())
    }

    /// Has the client forget its id.
    pub(crate) fn take_back(&self, headers: &mut HeaderMap) {
        if self.sends_cookie() {
            self.cookie.remove(headers, self.secure());
        }
        no_store(headers);
    }

    /// The seed's `enableSetCookie` is about the cookie of the id. Where the cookie is the session, there is none without it.
    fn sends_cookie(&self) -> bool {
        self.config.send_cookie || (self.tokens.is_some() && self.id_header.is_none())
    }

    /// How long the client is to keep the cookie of `record`: never longer than the session lasts. `None`: until the browser is closed.
    fn cookie_lifetime(&self, record: &Record) -> Option<Duration> {
        if let Some(own) = record.lifetime() {
            return own.is_persistent().then(|| record.deadline().since(self.now()));
        }
        let lifetime = self.cookie.lifetime()?;
        // Only a cookie that lasts asks for the time.
        match record.times().absolute_deadline {
            Millis::NEVER => Some(lifetime),
            absolute => Some(lifetime.min(absolute.since(self.now()))),
        }
    }

    /// Whether the client's cookie changes with use: it has a lifetime that moves on, or is the session itself.
    pub(crate) fn renews_cookie(&self, record: &Record) -> bool {
        self.tokens.is_some()
            || record.lifetime().map_or(self.cookie.lifetime().is_some(), |own| own.is_persistent())
    }
}

impl<'a> From<&'a Stored> for About<'a> {
    fn from(stored: &'a Stored) -> Self {
        About { record: Some(&stored.record), ..About::from(stored.name.key()) }
    }
}

pin_project! {
    /// Waits for a future at most `limit`. Says, too, how long it had to wait: nothing where the answer was there at once,
    /// in which case no timer was made either.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        // Boxed, since a timer is large and this is moved about.
        timer: Option<(Pin<Box<Timer>>, Instant)>,
    }
}

pub(crate) fn within<F>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, timer: None }
}

impl<T, F: Future<Output = Result<T>>> Future for Within<F> {
    type Output = (Result<T>, Duration);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let waited = |timer: &Option<(_, Instant)>| {
            timer.as_ref().map_or(Duration::ZERO, |(_, start)| start.elapsed())
        };
        if let Poll::Ready(answer) = this.future.poll(context) {
            return Poll::Ready((answer, waited(this.timer)));
        }
        let limit = *this.limit;
        let (sleep, _) = this.timer.get_or_insert_with(|| (Box::pin(timer(limit)), Instant::now()));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready((Err(Error::new(ErrorKind::Timeout, Late { limit })), waited(this.timer)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "expected an answer within {limit:?}, found none; see whether the store is up, or raise the deadline"
)]
struct Late {
    limit: Duration,
}
