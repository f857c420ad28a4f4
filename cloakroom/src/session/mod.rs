//! The public face of a request's session: what a handler reads and changes.

mod flash;
mod form_secret;
mod handle;
mod typed;
mod user;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Millis;
use crate::codec::{Change, Codec};
use crate::engine::{Stored, is_plain, within};
use crate::error::Result;
use crate::event::IdHash;
use crate::id::SessionId;
use crate::record::Lifetime;
use crate::request::{Exchange, Reached, look_again, refuse_reserved, too_late};

pub use crate::request::Released;
pub use flash::Flash;
pub(crate) use form_secret::FormSecrets;
pub use handle::SessionHandle;
pub use typed::{Fields, SessionData, Typed};

/// The interval at which the store is asked about a watched session: short enough to learn of its end within a second.
const WATCH: Duration = Duration::from_millis(700);

/// A visitor's session in one request.
///
/// A cheap clone of one shared handle. Reading and changing are plain calls: the record was loaded when the session was
/// asked for, and the changes are kept apart from it until [`release`](Self::release), which the middleware calls before the response head
/// leaves, or [`save`](Self::save) commits them. If another request changed the session meanwhile, the changes are replayed on
/// the newest record, so that what two requests wrote under different keys both stands.
///
/// A visitor who brings no live session gets an empty one, and neither a record nor a cookie before the first change.
///
/// ```
/// # use cloakroom::{Manager, MemoryProvider, Released};
/// # use http::HeaderMap;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// let (request, mut response) = (HeaderMap::new(), HeaderMap::new());
///
/// let session = sessions.start(&request).await?;
/// let visits = session.get::<u64>("visits")?.unwrap_or(0) + 1;
/// session.set("visits", visits)?;
/// assert_eq!(session.release(&mut response).await?, Released::Created);
/// assert!(response["set-cookie"].to_str().unwrap().starts_with("__Host-id="));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
pub struct Session(pub(crate) Arc<Exchange>, Origin);

/// The source of a `Session`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Handed out to the code that asked for the session.
    Asked,
    /// Cloned from another one.
    Cloned,
}

impl Session {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Session(exchange, Origin::Asked)
    }

    /// Notes, for a warning, whether a cookie that is set for a request with these headers would be dropped by its browser.
    #[inline]
    pub(crate) fn look_for_plain_http<'a>(
        &self,
        headers: &HeaderMap,
        authority: impl FnOnce() -> Option<&'a str>,
    ) {
        if self.0.engine.responses.watches_for_plain_http() && self.0.stored(|_| ()).is_none() {
            if is_plain(headers, authority()) {
                self.0.note_plain_http();
            } else {
                self.0.engine.responses.plain_http.count_encrypted();
            }
        }
    }

    /// Another handle that is as much the handler's as this one.
    pub(crate) fn same(&self) -> Self {
        Session(Arc::clone(&self.0), self.1)
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Session(Arc::clone(&self.0), Origin::Cloned)
    }
}

impl Drop for Session {
    /// Drops what a panicking handler has changed: a layer inside the session layer may catch the panic and answer as if all
    /// went well. A clone may belong to a task of its own, whose panic is not the handler's.
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && self.1 == Origin::Asked {
            self.0.roll_back();
        }
    }
}

impl Session {
    /// The value under `key`, as this request sees it: its own changes first, then what was loaded.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if the value does not decode to a `T`.
    #[doc(alias = "Get")]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.0.with_value(key, |codec, value| value.map(|bytes| codec.decode(bytes)).transpose())
    }

    /// The struct under its key; its default, if nothing is there.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if what is stored does not decode to a `T`, and those of its [`migrate`](SessionData::migrate).
    pub fn typed<T: SessionData>(&self) -> Result<Typed<T>> {
        Typed::read(self.same())
    }

    /// Puts `value` under `key`. Not stored before [`release`](Self::release) or [`save`](Self::save).
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if the session would be over a limit,
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if `value` cannot be encoded or `key` begins with U+0001, which the library
    /// keeps for itself,
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release. Nothing is changed then.
    #[doc(alias = "Set")]
    #[doc(alias = "insert")]
    pub fn set<T: Serialize>(&self, key: &str, value: T) -> Result<()> {
        refuse_reserved(key)?;
        self.0.set(key, &value)
    }

    /// Removes what is under `key`; not an error if nothing is.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if `key` begins with U+0001, which the library keeps for itself,
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[doc(alias = "Delete")]
    #[doc(alias = "remove")]
    pub fn delete(&self, key: &str) -> Result<()> {
        refuse_reserved(key)?;
        self.0.change(|changes| changes.set(Change::deletion(key)))
    }

    /// Returns true if there is a value under `key`.
    pub fn contains(&self, key: &str) -> Result<bool> {
        self.0.with_value(key, |_, value| Ok(value.is_some()))
    }

    /// Every key, as this request sees them.
    pub fn keys(&self) -> Result<Vec<String>> {
        self.0.keys()
    }

    /// Returns the number of keys.
    pub fn len(&self) -> Result<usize> {
        Ok(self.keys()?.len())
    }

    /// Returns true if there is no key.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Empties the data. The session goes on: it keeps its id, and **its user stays logged in**. To log out, call
    /// [`destroy`](Self::destroy).
    ///
    /// Beego calls this `Flush`. In tower-sessions `flush` ends the session, which is `destroy` here.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[doc(alias = "Flush")]
    pub fn clear(&self) -> Result<()> {
        self.0.change(|changes| changes.clear())
    }

    /// [`clear`](Self::clear) under Beego's name. It does not log the user out.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[deprecated(
        note = "flush empties the data and leaves the user logged in: call clear for that, or destroy to log out"
    )]
    pub fn flush(&self) -> Result<()> {
        self.0.change(|changes| changes.clear())
    }

    /// Ends the session: the logout. What is set afterwards in the same request begins a new one under a new id.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[doc(alias = "SessionDestroy")]
    #[doc(alias = "logout")]
    #[doc(alias = "invalidate")]
    #[doc(alias = "purge")]
    pub fn destroy(&self) -> Result<()> {
        self.0.change(|changes| changes.end())
    }

    /// Gives the session a new id. The data stays; the old id is dead at once.
    ///
    /// For a change of privileges that is no login, such as a new role. Nothing happens for a visitor without a session.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[doc(alias = "SessionRegenerateId")]
    #[doc(alias = "cycle_id")]
    #[doc(alias = "renew")]
    pub fn regenerate(&self) -> Result<()> {
        self.0.change(|changes| changes.new_id = true)
    }

    /// Changes the value under `key` in one atomic step, at once, and gives what it became.
    ///
    /// `change` gets the newest value and may be called several times, whenever another request was first: a hundred
    /// concurrent increments make one hundred, on every provider and across processes. Other changes of this request stay pending, except
    /// that a clear, a new id, a login or an end which are pending are committed first.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let hits = session.update("hits", |hits: Option<u64>| hits.unwrap_or(0) + 1).await?;
    /// assert_eq!(hits, 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Gone`](crate::ErrorKind::Gone) if the session has ended, [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if
    /// others were first at every try, and those of [`get`](Self::get), [`set`](Self::set) and the provider.
    pub async fn update<T, F>(&self, key: &str, mut change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> T + Send,
    {
        let updated = self.try_update(key, |old| Ok::<T, Infallible>(change(old))).await?;
        Ok(updated.unwrap_or_else(|never| match never {}))
    }

    /// [`update`](Self::update) by a `change` that may refuse: then nothing is written, and its reason comes back.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let take = |left: Option<u32>| left.unwrap_or(0).checked_sub(1).ok_or("none left");
    /// assert_eq!(session.try_update("vouchers", take).await?, Err("none left"));
    /// assert!(session.is_empty()?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`update`](Self::update).
    pub async fn try_update<T, E, F>(&self, key: &str, mut change: F) -> Result<Result<T, E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Send,
        F: FnMut(Option<T>) -> Result<T, E> + Send,
    {
        refuse_reserved(key)?;
        let mut result = None;
        let encode = |codec: Codec, old: Option<&[u8]>| {
            let changed = change(old.map(|bytes| codec.decode(bytes)).transpose()?);
            let encoded = changed.as_ref().ok().map(|value| codec.encode(key, value, self.0.limits()));
            result = Some(changed);
            encoded.transpose()
        };
        self.0.update(key, encode).await?;
        result.ok_or_else(|| too_late("update"))
    }

    /// Commits the changes now, ahead of the response: for streams and long work. The cookie, if one is due, still
    /// goes with the [`release`](Self::release).
    ///
    /// # Errors
    /// [`ErrorKind::Gone`](crate::ErrorKind::Gone) if the session has ended and changes are lost by it; otherwise as
    /// [`release`](Self::release).
    pub async fn save(&self) -> Result<()> {
        self.0.save().await
    }

    /// Commits the changes and writes what the client must be told to `headers`. Once is enough: a second call repeats
    /// the first one's answer and does nothing.
    ///
    /// The middleware calls this. Without one, call it before the response head leaves, and answer with an error if it fails.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) of the provider,
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict), [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) once merged with what others
    /// wrote, [`ErrorKind::Random`](crate::ErrorKind::Random). The changes are kept and may be released again.
    #[doc(alias = "SessionRelease")]
    pub async fn release(&self, headers: &mut HeaderMap) -> Result<Released> {
        self.0.release(headers).await
    }

    /// Reads the newest record, keeping this request's changes; false if the session has ended meanwhile.
    /// For handles that live longer than a request, such as a WebSocket's.
    pub async fn reload(&self) -> Result<bool> {
        self.0.reload().await
    }

    /// Gives the session a lifetime of its own, in the place of the manager's policy: "remember me", a kiosk, an agent on the phone.
    ///
    /// An absolute timeout counts from the login, or from the beginning of an anonymous session, and a later call does not move
    /// that. Without data or a user no session begins for it. The login of another user ends it.
    ///
    /// ```
    /// # use cloakroom::{Lifetime, Manager, MemoryProvider, Principal};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set_lifetime(Lifetime::remembered(Duration::from_secs(30 * 24 * 60 * 60)))?;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a time under a second or over a hundred years, [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<()> {
        lifetime.check()?;
        self.0.change(|changes| changes.fields_mut().lifetime = Some(lifetime))
    }

    /// Has the session end at `time` at the latest, whatever its policy: the end of a federated login, as the identity provider
    /// gives it. The earliest time that was set counts, until the user logs in again.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    pub fn end_by(&self, time: SystemTime) -> Result<()> {
        let time = Millis::from(time);
        self.0.change(|changes| {
            let fields = changes.fields_mut();
            fields.ends_by = Some(fields.ends_by.map_or(time, |earlier| earlier.min(time)));
        })
    }

    /// The time at which the session began; `None` while nothing is stored.
    pub fn created(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().created.into())
    }

    /// When the session was last used before this request, to within the touch interval; `None` while nothing is stored.
    pub fn last_active(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.times().last_active.into())
    }

    /// The time at which the session ends if nobody uses it again; `None` while nothing is stored.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.stored(|stored| stored.record.expires())
    }

    /// Ends when the session has ended: by a logout on whatever device, process or node, by expiry, or because a login or a change
    /// of privileges has given it another id. For WebSockets and streams, which would go on otherwise.
    ///
    /// The store is asked every 0.7 s, so that the answer is at most a second late; a store that fails is asked again. A session that
    /// routine rotation gives another id is followed there. For a session that is not stored it is over at once.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # async fn next_message() -> Option<String> { None }
    /// let socket = async {
    ///     loop {
    ///         tokio::select! {
    ///             _ = session.revoked() => break "the session has ended",
    ///             message = next_message() => if message.is_none() { break "the client has gone" },
    ///         }
    ///     }
    /// };
    /// # socket.await;
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn revoked(&self) {
        let engine = &self.0.engine;
        loop {
            let Some(former) = self.0.stored(Stored::clone) else { return };
            let found = within(engine.config.deadline.min(WATCH), look_again(engine, &former)).await.0;
            match found {
                Ok(Reached::Session(found)) => self.0.follow(found),
                Ok(Reached::Nobody | Reached::Ended(_)) => return,
                Err(error) => {
                    tracing::debug!(%error, "a watched session could not be looked up; trying again")
                }
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Leaves a message for the next page, as before a redirect: kept in the session until a request
    /// [takes](Self::take_flashes) it. `name` says what kind it is, such as `"success"` or `"error"`.
    ///
    /// Each message is kept apart, so that those of requests at the same time all stand. At most 32 wait; the oldest gives way
    /// to one more.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # use http::HeaderMap;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&HeaderMap::new()).await?;
    /// session.flash("success", "The address is changed.")?;
    /// # session.save().await?;
    ///
    /// // On the page that the redirect leads to:
    /// for flash in session.take_flashes::<String>().await? {
    ///     println!("{}: {}", flash.name, flash.message);
    /// }
    /// assert!(session.take_flashes::<String>().await?.is_empty());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`set`](Self::set), and [`ErrorKind::Random`](crate::ErrorKind::Random) if the generator fails.
    #[doc(alias = "messages")]
    pub fn flash<T: Serialize>(&self, name: &str, message: T) -> Result<()> {
        flash::leave(&self.0, name, &message)
    }

    /// Takes the messages that wait, the oldest first: out of the store at once, so that of several requests one alone gets each.
    /// A message that does not decode to a `T` stays for whoever asks for its type. Without a message there is no I/O.
    ///
    /// If the request comes to nothing, because its handler answers 5xx, panics or is cancelled, or because its commit fails, the messages are put
    /// back in the background. What a [`release`](Self::release) or a [`save`](Self::save) has followed is taken for good, and so is what
    /// a detached handle takes.
    ///
    /// # Errors
    /// Those of [`update`](Self::update). Nothing is taken then, unless the store did so and its answer was lost.
    pub async fn take_flashes<T: DeserializeOwned + Send>(&self) -> Result<Vec<Flash<T>>> {
        flash::take(&self.0, |_| true).await
    }

    /// [`take_flashes`](Self::take_flashes) of one kind.
    pub async fn take_flashes_of<T: DeserializeOwned + Send>(&self, name: &str) -> Result<Vec<T>> {
        let taken = flash::take(&self.0, |found| found == name).await?;
        Ok(taken.into_iter().map(|flash| flash.message).collect())
    }

    /// The id by which the client reached this session; `None` while nothing is stored. A secret: not for logs.
    #[doc(alias = "SessionID")]
    pub fn id(&self) -> Option<SessionId> {
        self.0.stored(|stored| stored.name.id())
    }

    /// The hash by which [events](crate::event::Event) name this session, for logs of the application's own; `None` while nothing
    /// is stored.
    pub fn id_hash(&self) -> Option<IdHash> {
        self.0.stored(|stored| self.0.engine.events.hash(stored.name.key()))
    }

    /// A name of this session that may be shown to its user; `None` while nothing is stored.
    pub fn handle(&self) -> Option<String> {
        self.0.stored(|stored| stored.name.key().handle())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stored", &self.0.stored(|_| ()).is_some()).finish_non_exhaustive()
    }
}
