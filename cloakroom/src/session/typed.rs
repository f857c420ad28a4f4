//! A struct under one key, with a version: an application reads and writes it as a whole.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use crate::codec::{Buffer, Change, Codec, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::request::refuse_reserved;

/// The levels of nesting around the fields: the map with the version, and the struct's own map.
const AROUND: usize = 2;

/// A struct that an application keeps in a session: its key, its version, and the way from older versions to this one.
///
/// The fields are stored by name. While two versions of an application run side by side, each keeps the fields of the other that it
/// does not know. So a new version may add fields and leave fields out, without [`migrate`](Self::migrate). An added field needs
/// `#[serde(default)]`, since the old version does not write it. A field that changes its name or its meaning needs a new version.
///
/// ```
/// use cloakroom::{Manager, MemoryProvider, SessionData, session::Fields};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Cart {
///     items: Vec<String>,
///     #[serde(default)]
///     coupon: Option<String>,
/// }
///
/// impl SessionData for Cart {
///     const KEY: &'static str = "cart";
///     const VERSION: u32 = 2;
///
///     fn migrate(version: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
///         // Version 1 called them articles.
///         let articles = fields.get("articles")?.unwrap_or_default();
///         Ok(Cart { items: articles, coupon: fields.get("coupon")? })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// let mut cart = session.typed::<Cart>()?;
/// cart.items.push("tea".to_owned());
/// cart.save()?;
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
pub trait SessionData: Serialize + DeserializeOwned + Default {
    /// The key under which the session keeps the struct. Nothing else may use it.
    const KEY: &'static str;

    /// The version of this struct; 1 by default.
    ///
    /// A stored struct of a lower version goes through [`migrate`](Self::migrate). One that a higher version wrote is read as it
    /// is, and keeps that version.
    const VERSION: u32 = 1;

    /// Makes this version of the struct from the `fields` that the lower `version` has stored. By default the fields are read as
    /// they are.
    ///
    /// ```
    /// use cloakroom::{SessionData, session::Fields};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Settings {
    ///     dark: bool,
    /// }
    ///
    /// impl SessionData for Settings {
    ///     const KEY: &'static str = "settings";
    ///     const VERSION: u32 = 2;
    ///
    ///     fn migrate(_version: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
    ///         // Version 1 had the name of a theme.
    ///         let theme: Option<String> = fields.get("theme")?;
    ///         Ok(Settings { dark: theme.is_some_and(|theme| theme == "night") })
    ///     }
    /// }
    ///
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Old { theme: String }
    /// # impl SessionData for Old { const KEY: &'static str = "settings"; }
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # let mut old = session.typed::<Old>()?;
    /// # old.theme = "night".to_owned();
    /// # old.save()?;
    /// assert!(session.typed::<Settings>()?.dark);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The errors of [`Fields`], or the application's own as [`ErrorKind::Value`]. The session is then left as it was.
    fn migrate(version: u32, fields: &mut Fields<'_>) -> Result<Self> {
        let _ = version;
        fields.all()
    }
}

/// The fields that an older version of a [`SessionData`] has stored.
///
/// A field that is only [read](Self::get) is kept beside the new fields, for processes that still run the old version. A field that
/// is [taken](Self::take) is removed by the next write.
///
/// ```
/// # use cloakroom::{Manager, MemoryProvider, SessionData, session::Fields};
/// # use serde::{Deserialize, Serialize};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// #[derive(Default, Serialize, Deserialize)]
/// struct Profile {
///     name: String,
/// }
///
/// impl SessionData for Profile {
///     const KEY: &'static str = "profile";
///     const VERSION: u32 = 2;
///
///     fn migrate(version: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
///         // Version 1 had two names. No process of version 1 runs any more.
///         let first: String = fields.take("first")?.unwrap_or_default();
///         let last: String = fields.take("last")?.unwrap_or_default();
///         Ok(Profile { name: format!("{first} {last}") })
///     }
/// }
///
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Old { first: String, last: String }
/// # impl SessionData for Old { const KEY: &'static str = "profile"; }
/// # let mut old = session.typed::<Old>()?;
/// # (old.first, old.last) = ("Ada".into(), "Lovelace".into());
/// # old.save()?;
/// assert_eq!(session.typed::<Profile>()?.name, "Ada Lovelace");
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
pub struct Fields<'a> {
    codec: Codec,
    data: &'a [u8],
    taken: Vec<String>,
}

impl<'a> Fields<'a> {
    fn new(codec: Codec, data: &'a [u8]) -> Self {
        Fields { codec, data, taken: Vec::new() }
    }

    /// Returns the field `name`, and keeps it for the processes that still run the old version.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if it does not decode to a `V`.
    pub fn get<V: DeserializeOwned>(&self, name: &str) -> Result<Option<V>> {
        let value = self.codec.find(self.data, name)?;
        value.map(|bytes| self.codec.decode(&bytes)).transpose()
    }

    /// Returns the field `name`, and removes it with the next write, since no process needs it any more.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub fn take<V: DeserializeOwned>(&mut self, name: &str) -> Result<Option<V>> {
        let value = self.get(name)?;
        self.taken.push(name.to_owned());
        Ok(value)
    }

    /// Returns all fields as one value.
    ///
    /// ```
    /// use cloakroom::{SessionData, session::Fields};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct CartV1 {
    ///     articles: Vec<u32>,
    /// }
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Cart {
    ///     items: Vec<(u32, u32)>,
    /// }
    ///
    /// impl SessionData for Cart {
    ///     const KEY: &'static str = "cart";
    ///     const VERSION: u32 = 2;
    ///
    ///     fn migrate(_version: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
    ///         let old: CartV1 = fields.all()?;
    ///         Ok(Cart { items: old.articles.into_iter().map(|article| (article, 1)).collect() })
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Value`] if they do not decode to a `V`.
    pub fn all<V: DeserializeOwned>(&self) -> Result<V> {
        self.codec.decode(self.data)
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").finish_non_exhaustive()
    }
}

/// A [`SessionData`] that was read from a session: a `T` to read and change, and [`save`](Self::save) to put it back.
///
/// It dereferences to `T`. A change that is not saved is lost without an error. With the feature `axum` it is also an argument of
/// handlers. `Debug` does not show the `T`.
///
/// ```
/// # use cloakroom::{Manager, MemoryProvider, SessionData};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Cart {
/// #     items: Vec<u32>,
/// # }
/// # impl SessionData for Cart {
/// #     const KEY: &'static str = "cart";
/// # }
/// let mut cart = session.typed::<Cart>()?;
/// cart.items.push(7);
/// assert!(session.typed::<Cart>()?.items.is_empty());     // not saved yet
/// cart.save()?;
/// assert_eq!(session.typed::<Cart>()?.items, [7]);
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
pub struct Typed<T> {
    session: Session,
    value: T,
}

impl<T: SessionData> Typed<T> {
    pub(super) fn read(session: Session) -> Result<Self> {
        let value = session.0.with_value(T::KEY, |codec, stored| Ok(read::<T>(codec, stored)?.value))?;
        Ok(Typed { session, value })
    }

    /// Puts the struct under its key, as [`Session::set`] does. If two requests do so at the same time, the one that commits later
    /// wins. [`update`](Self::update) loses nothing.
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
    /// let mut cart = session.typed::<Cart>()?;
    /// cart.items.push(7);
    /// cart.save()?;
    /// assert_eq!(session.typed::<Cart>()?.items, [7]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The errors of [`Session::set`], and [`ErrorKind::Value`] if `T` is no struct with named fields.
    pub fn save(&self) -> Result<()> {
        refuse_reserved(T::KEY)?;
        let exchange = &self.session.0;
        exchange.put("save", |codec| {
            exchange.with_value(T::KEY, |_, stored| change(codec, stored, &self.value, exchange.limits()))
        })
    }

    /// Changes the struct in one atomic step, at once, as [`Session::update`] does.
    ///
    /// `by` runs on the newest stored struct, and again each time that another request was first. Changes of this handle that were
    /// not saved are dropped.
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
    /// let mut cart = session.typed::<Cart>()?;
    /// cart.update(|cart| cart.items.push(7)).await?;
    /// assert_eq!(cart.items, [7]);
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The errors of [`Session::update`] and of [`save`](Self::save).
    pub async fn update(&mut self, mut by: impl FnMut(&mut T) + Send) -> Result<()>
    where
        T: Send,
    {
        refuse_reserved(T::KEY)?;
        let exchange = &self.session.0;
        let mut latest = None;
        let encode = |codec: Codec, stored: Option<&[u8]>| {
            let mut value = read::<T>(codec, stored)?.value;
            by(&mut value);
            let change = change(codec, stored, &value, exchange.limits())?;
            latest = Some(value);
            Ok(Some(change))
        };
        exchange.update(T::KEY, encode).await?;
        if let Some(value) = latest {
            self.value = value;
        }
        Ok(())
    }

    /// Returns the struct itself, and drops the handle on the session.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider, SessionData};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// # let session = sessions.start(&http::HeaderMap::new()).await?;
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// # struct Cart {
    /// #     items: Vec<u32>,
    /// # }
    /// # impl SessionData for Cart {
    /// #     const KEY: &'static str = "cart";
    /// # }
    /// let cart: Cart = session.typed::<Cart>()?.into_inner();
    /// assert!(cart.items.is_empty());
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Typed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Typed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

/// The name of the version in the stored map. `FIELDS` is that of the fields.
const VERSION: &str = "version";
const FIELDS: &str = "fields";

/// The stored value, read as a `T`.
struct Read<'a, T> {
    value: T,
    version: u32,
    fields: &'a [u8],
    taken: Vec<String>,
}

fn read<T: SessionData>(codec: Codec, stored: Option<&[u8]>) -> Result<Read<'_, T>> {
    if !codec.nests() {
        return Err(Error::new(ErrorKind::Unsupported, TypedError::Codec));
    }
    let Some(stored) = stored else {
        return Ok(Read { value: T::default(), version: 0, fields: b"", taken: Vec::new() });
    };
    let foreign = || Error::new(ErrorKind::Value, TypedError::Foreign);
    let version = codec.find(stored, VERSION).map_err(|_| foreign())?.ok_or_else(foreign)?;
    let fields = codec.member(stored, FIELDS).map_err(|_| foreign())?.ok_or_else(foreign)?;
    let version: u32 = codec.decode(&version)?;
    if version >= T::VERSION {
        return Ok(Read { value: codec.decode(fields)?, version, fields, taken: Vec::new() });
    }
    let mut old = Fields::new(codec, fields);
    let value = T::migrate(version, &mut old)?;
    Ok(Read { value, version, fields, taken: old.taken })
}

/// Returns the change that replaces the `stored` struct by `value`, and keeps the fields that this version does not know.
fn change<T: SessionData>(codec: Codec, stored: Option<&[u8]>, value: &T, limits: &Limits) -> Result<Change> {
    let former = read::<T>(codec, stored)?;
    let mut changes = fields_of(codec, value, limits)?;
    // A field that this version knows and now leaves out, such as an empty option, is no unknown one.
    let known = fields_of(codec, &former.value, limits)?;
    let gone = known.iter().map(Change::key).chain(former.taken.iter().map(String::as_str));
    let gone: Vec<_> = gone.filter(|name| changes.iter().all(|change| change.key() != *name)).collect();
    let deletions: Vec<_> = gone.into_iter().map(Change::deletion).collect();
    changes.extend(deletions);
    let mut fields = Buffer::new();
    codec.merge(former.fields, &changes, limits, &mut fields)?;
    let members = [
        codec.encode(VERSION, &former.version.max(T::VERSION), limits)?,
        Change::new(FIELDS, |bytes| bytes.extend_from_slice(&fields)),
    ];
    let mut all = Buffer::new();
    codec.merge(stored.unwrap_or_default(), &members, limits, &mut all)?;
    Ok(Change::new(T::KEY, |bytes| bytes.extend_from_slice(&all)))
}

/// Returns the fields of `value`, each encoded.
fn fields_of<T: Serialize>(codec: Codec, value: &T, limits: &Limits) -> Result<Vec<Change>> {
    let limits = Limits { depth: limits.depth.saturating_sub(AROUND), ..*limits };
    let encoded = codec.encode("", value, &limits)?;
    let map = encoded.value().unwrap_or_default();
    let fields = codec.fields(map).map_err(|_| Error::new(ErrorKind::Value, TypedError::NoStruct))?;
    Ok(fields.into_iter().map(|(name, bytes)| Change::new(&name, |to| to.extend_from_slice(bytes))).collect())
}

#[derive(Debug, thiserror::Error)]
enum TypedError {
    #[error(
        "typed data is kept with its version, for which another library's format has no place; use get and set, or move to native records"
    )]
    Codec,
    #[error(
        "expected what SessionData has stored, a version and fields, found another value under its key; choose a key that nothing else uses"
    )]
    Foreign,
    #[error("expected a struct with named fields, found another type; wrap it in one")]
    NoStruct,
}
