//! The public face of a request's session: what a handler reads and changes.

mod flash;
mod form_secret;
mod handle;
mod typed;
mod user;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Change, Codec};
use crate::engine::is_plain;
use crate::error::Result;
use crate::request::{Exchange, refuse_reserved, too_late};

pub use crate::request::Released;
pub use flash::Flash;
#[allow(unused_imports, reason = "the protection against forged requests uses it, and it is a feature")]
pub(crate) use form_secret::FormSecrets;
pub use handle::SessionHandle;
pub use typed::{Fields, SessionData, Typed};

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
///
/// # See also
///
/// - **Log out everywhere:** [`Manager::end_sessions`](crate::Manager::end_sessions) ends every session of a user, and
///   [`Manager::end_other_sessions`](crate::Manager::end_other_sessions) all but this one: [users](crate::guide::users#log-out).
/// - **WebSockets, streams and jobs:** [`Manager::session`](crate::Manager::session) gives a handle that outlives the request:
///   [sockets](crate::guide::sockets).
/// - **Structs and messages:** [data](crate::guide::data).
/// - **Timeouts, and requests that come too late:** [lifetimes](crate::guide::lifetimes).
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("theme", "dark")?;
    /// assert_eq!(session.get::<String>("theme")?.as_deref(), Some("dark"));
    /// assert_eq!(session.get::<u32>("visits")?, None);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if the value does not decode to a `T`.
    #[doc(alias = "Get")]
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.0.with_value(key, |codec, value| value.map(|bytes| codec.decode(bytes)).transpose())
    }

    /// The struct under its key; its default, if nothing is there.
    ///
    /// ```
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// # struct Cart {
    /// #     items: Vec<u32>,
    /// # }
    /// # impl SessionData for Cart {
    /// #     const KEY: &'static str = "cart";
    /// # }
    /// # use cloakroom::{Manager, MemoryProvider, SessionData};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let cart = session.typed::<Cart>()?;
    /// assert!(cart.items.is_empty());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if what is stored does not decode to a `T`, and those of its [`migrate`](SessionData::migrate).
    pub fn typed<T: SessionData>(&self) -> Result<Typed<T>> {
        Typed::read(self.same())
    }

    /// Puts `value` under `key`. Not stored before [`release`](Self::release) or [`save`](Self::save).
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("theme", "dark")?;
    /// session.set("recent", [7, 12, 30])?;
    /// assert_eq!(session.get::<Vec<u32>>("recent")?, Some(vec![7, 12, 30]));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("theme", "dark")?;
    /// session.delete("theme")?;
    /// assert!(!session.contains("theme")?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert!(!session.contains("theme")?);
    /// session.set("theme", "dark")?;
    /// assert!(session.contains("theme")?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn contains(&self, key: &str) -> Result<bool> {
        self.0.with_value(key, |_, value| Ok(value.is_some()))
    }

    /// Every key, as this request sees them.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("theme", "dark")?;
    /// session.set("language", "en")?;
    /// let mut keys = session.keys()?;
    /// keys.sort();
    /// assert_eq!(keys, ["language", "theme"]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// session.set("cart", [7])?;
    /// session.clear()?;
    /// assert!(session.is_empty()?);
    /// assert!(session.principal().is_some());      // still logged in
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("step", 1)?;
    /// session.save().await?;                       // stored now
    /// assert_eq!(sessions.active_sessions().await?, 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Released};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let mut response = http::HeaderMap::new();
    /// session.set("theme", "dark")?;
    /// assert_eq!(session.release(&mut response).await?, Released::Created);
    /// assert!(response.contains_key("set-cookie"));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.set("n", 1)?;
    /// session.save().await?;
    /// let id = session.id().expect("the session is stored");
    /// let socket = sessions.session(&id).await?.expect("the session is alive");
    /// session.set("n", 2)?;
    /// session.save().await?;
    /// assert!(socket.reload().await?);
    /// assert_eq!(socket.get::<u32>("n")?, Some(2));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn reload(&self) -> Result<bool> {
        self.0.reload().await
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
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.flash("error", "Too long.")?;
    /// assert_eq!(session.take_flashes_of::<String>("error").await?, ["Too long."]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub async fn take_flashes_of<T: DeserializeOwned + Send>(&self, name: &str) -> Result<Vec<T>> {
        let taken = flash::take(&self.0, |found| found == name).await?;
        Ok(taken.into_iter().map(|flash| flash.message).collect())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stored", &self.0.stored(|_| ()).is_some()).finish_non_exhaustive()
    }
}
