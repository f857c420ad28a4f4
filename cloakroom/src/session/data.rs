//! The data of a session: its values by key, the messages for the next page, and the commit of both.

use std::convert::Infallible;
use std::sync::Arc;

use http::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Flash, Origin, Released, Session, SessionData, Typed, flash};
use crate::codec::{Change, Codec};
use crate::error::Result;
use crate::request::{Exchange, refuse_reserved, too_late};

/// # Data
impl Session {
    /// Returns the value under `key`, as this request sees it: its own change if there is one, otherwise the loaded value.
    ///
    /// The value is decoded at each call. Any type that implements `serde`'s `DeserializeOwned` will do. `None` means that the key
    /// has no value.
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

    /// Returns the struct `T` that is stored under its [`KEY`](SessionData::KEY), or its default if there is none.
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
    /// - [`ErrorKind::Value`](crate::ErrorKind::Value) if the stored value does not decode to a `T`
    /// - an error of its [`migrate`](SessionData::migrate)
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a store that keeps another library's format
    pub fn typed<T: SessionData>(&self) -> Result<Typed<T>> {
        Typed::read(self.same())
    }

    /// Sets the value under `key`. It is stored by [`release`](Self::release) or [`save`](Self::save), not before.
    ///
    /// Any type that implements `serde`'s `Serialize` will do. If two requests set the same key, the one that commits later wins.
    /// Use [`update`](Self::update) to lose neither.
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
    /// The session is left as it was.
    ///
    /// - [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if the session would exceed a limit: 64 KiB, 1,024 keys and 32 levels
    ///   of nesting by default
    /// - [`ErrorKind::Value`](crate::ErrorKind::Value) if `value` cannot be encoded, or if `key` begins with U+0001, which is
    ///   reserved for the library
    /// - [`ErrorKind::Released`](crate::ErrorKind::Released) after the release
    #[doc(alias = "Set")]
    #[doc(alias = "insert")]
    pub fn set<T: Serialize>(&self, key: &str, value: T) -> Result<()> {
        refuse_reserved(key)?;
        self.0.set(key, &value)
    }

    /// Removes the value under `key`. A key without a value is no error.
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
    /// - [`ErrorKind::Value`](crate::ErrorKind::Value) if `key` begins with U+0001, which is reserved for the library
    /// - [`ErrorKind::Released`](crate::ErrorKind::Released) after the release
    #[doc(alias = "Delete")]
    #[doc(alias = "remove")]
    pub fn delete(&self, key: &str) -> Result<()> {
        refuse_reserved(key)?;
        self.0.change(|changes| changes.set(Change::deletion(key)))
    }

    /// Returns true if there is a value under `key`. The value is not decoded.
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
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the stored data cannot be read.
    pub fn contains(&self, key: &str) -> Result<bool> {
        self.0.with_value(key, |_, value| Ok(value.is_some()))
    }

    /// Returns every key that has a value, as this request sees them, in no particular order.
    ///
    /// Keys that the library uses itself, such as that of the CSRF secret, are left out.
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
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the stored data cannot be read.
    pub fn keys(&self) -> Result<Vec<String>> {
        self.0.keys()
    }

    /// Returns the number of keys that have a value, as this request sees them.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// assert_eq!(session.len()?, 0);
    /// session.set("theme", "dark")?;
    /// session.set("theme", "light")?;
    /// assert_eq!(session.len()?, 1);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The error of [`keys`](Self::keys).
    pub fn len(&self) -> Result<usize> {
        Ok(self.keys()?.len())
    }

    /// Returns true if no key has a value. The session of a user who has logged in may be empty too.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, Principal};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.authenticate(Principal::new("alice")?)?;
    /// assert!(session.is_empty()?);
    /// session.set("theme", "dark")?;
    /// assert!(!session.is_empty()?);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The error of [`keys`](Self::keys).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Removes all data. The session goes on: it keeps its id, and **its user stays logged in**. To log out, call
    /// [`destroy`](Self::destroy).
    ///
    /// Beego calls this `Flush`. In tower-sessions, `flush` ends the session, which is `destroy` here.
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

    /// Does what [`clear`](Self::clear) does, under Beego's name. It does not log the user out.
    ///
    /// # Errors
    /// [`ErrorKind::Released`](crate::ErrorKind::Released) after the release.
    #[deprecated(
        note = "flush empties the data and leaves the user logged in: call clear for that, or destroy to log out"
    )]
    pub fn flush(&self) -> Result<()> {
        self.0.change(|changes| changes.clear())
    }

    /// Changes the value under `key` in one atomic step, at once, and returns the new value.
    ///
    /// `change` gets the newest stored value, or `None`. It runs again each time that another request was first, so it must not
    /// have side effects. A hundred concurrent increments add up to one hundred, on every provider with a store and across
    /// processes.
    ///
    /// Other changes of this request stay pending, with one exception: a pending [`clear`](Self::clear), new id, login or end is
    /// committed first.
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
    /// - [`ErrorKind::Gone`](crate::ErrorKind::Gone) if the session has ended
    /// - [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if other requests were first at every try
    /// - the errors of [`get`](Self::get), of [`set`](Self::set) and of the provider
    pub async fn update<T, F>(&self, key: &str, mut change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> T + Send,
    {
        let updated = self.try_update(key, |old| Ok::<T, Infallible>(change(old))).await?;
        Ok(updated.unwrap_or_else(|never| match never {}))
    }

    /// Does what [`update`](Self::update) does, with a `change` that may refuse.
    ///
    /// If `change` returns an error, nothing is written. The error is then the inner result, and the outer one is `Ok`.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// let take = |left: Option<u32>| left.unwrap_or(0).checked_sub(1).ok_or("none left");
    /// assert_eq!(session.try_update("vouchers", take).await?, Err("none left"));
    /// assert!(session.is_empty()?);
    ///
    /// session.set("vouchers", 2)?;
    /// assert_eq!(session.try_update("vouchers", take).await?, Ok(1));
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The errors of [`update`](Self::update).
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
}

/// # Messages
impl Session {
    /// Leaves a message for the next page, as before a redirect. The session keeps it until a request [takes](Self::take_flashes)
    /// it.
    ///
    /// `name` is the kind of the message, such as `"success"` or `"error"`. Messages are kept apart, so concurrent requests lose
    /// none of them. At most 32 messages wait; a further one replaces the oldest.
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
    /// The errors of [`set`](Self::set), and [`ErrorKind::Random`](crate::ErrorKind::Random) if the system gives no random bytes.
    #[doc(alias = "messages")]
    pub fn flash<T: Serialize>(&self, name: &str, message: T) -> Result<()> {
        flash::leave(&self.0, name, &message)
    }

    /// Takes the messages that wait, the oldest first. They are removed from the store at once, so only one request gets each
    /// message.
    ///
    /// A message that does not decode to a `T` stays, for a call with its type. If no message waits, there is no I/O.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// session.flash("success", "The address is changed.")?;
    /// session.flash("info", "A mail is on its way.")?;
    /// let flashes = session.take_flashes::<String>().await?;
    /// let names: Vec<_> = flashes.iter().map(|flash| &*flash.name).collect();
    /// assert_eq!(names, ["success", "info"]);
    /// assert_eq!(flashes[0].message, "The address is changed.");
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// If the request fails, the messages are put back in the background. It fails if its handler answers 5xx, panics or is
    /// cancelled, or if its commit fails. A [`release`](Self::release) or a [`save`](Self::save) makes the removal final. A
    /// detached handle removes messages for good.
    ///
    /// # Errors
    /// The errors of [`update`](Self::update). Then nothing is taken, unless the store removed the messages and its answer was
    /// lost.
    pub async fn take_flashes<T: DeserializeOwned + Send>(&self) -> Result<Vec<Flash<T>>> {
        flash::take(&self.0, |_| true).await
    }

    /// Takes the messages of one kind, as [`take_flashes`](Self::take_flashes) does. Messages of other kinds stay.
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
    ///
    /// # Errors
    /// The errors of [`take_flashes`](Self::take_flashes).
    pub async fn take_flashes_of<T: DeserializeOwned + Send>(&self, name: &str) -> Result<Vec<T>> {
        let taken = flash::take(&self.0, |found| found == name).await?;
        Ok(taken.into_iter().map(|flash| flash.message).collect())
    }
}

/// # Commit
impl Session {
    /// Commits the changes now, before the response: for streams, and for work that takes long after a change.
    ///
    /// A new cookie, if one is due, is still sent by the [`release`](Self::release). Further changes may follow and are committed
    /// by the next `save` or by the release.
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
    /// - [`ErrorKind::Gone`](crate::ErrorKind::Gone) if the session has ended and changes are lost
    /// - the errors of [`release`](Self::release)
    pub async fn save(&self) -> Result<()> {
        self.0.save().await
    }

    /// Commits the changes, and writes `Set-Cookie`, `Vary` and `Cache-Control` to `headers` where they are due.
    ///
    /// The middleware calls this. Without one, call it before the response head leaves, and answer with an error if it fails. A
    /// second call returns the answer of the first and does nothing.
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
    /// [`Released::Gone`] is an answer and no error: the session ended while the request was running. If changes were lost, answer
    /// with [409](crate::guide::lifetimes).
    ///
    /// # Errors
    /// The changes are kept, and `release` may be called again.
    ///
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the
    ///   store fails or does not answer in time
    /// - [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if other requests were first at every try
    /// - [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) if the session exceeds a limit together with what other requests wrote
    /// - [`ErrorKind::Random`](crate::ErrorKind::Random) if the system gives no random bytes for an id
    #[doc(alias = "SessionRelease")]
    pub async fn release(&self, headers: &mut HeaderMap) -> Result<Released> {
        self.0.release(headers).await
    }

    /// Loads the newest record and keeps this request's changes. Returns false if the session has ended meanwhile.
    ///
    /// Call it from handles that outlive a request, such as that of a WebSocket.
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
    ///
    /// # Errors
    /// Those of the provider. [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) after the [deadline](crate::ManagerBuilder::deadline).
    pub async fn reload(&self) -> Result<bool> {
        self.0.reload().await
    }
}

impl Session {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Session(exchange, Origin::Asked)
    }

    /// Returns a handle of the same origin: if the handler owns this one, it owns the other one too.
    pub(crate) fn same(&self) -> Self {
        Session(Arc::clone(&self.0), self.1)
    }
}
