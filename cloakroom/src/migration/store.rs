//! The old store: stored bytes by their key, whatever the old library put into them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::cookie::CookieWriter;
use crate::error::Result;

/// A store of another library, which holds bytes under keys. The readers of this crate take one.
///
/// [`OldRecords`] is one in a database that this crate has a provider for. Implement it for any other.
pub trait OldStore: Send + Sync + 'static {
    /// Returns the bytes under `key`; `None` if there are none or they have expired.
    ///
    /// # Errors
    /// Those of the store. An error fails the request, so that an outage logs nobody out.
    fn load(&self, key: &str) -> impl Future<Output = Result<Option<OldBytes>>> + Send;

    /// Deletes `key`. Returns true if it was there.
    ///
    /// # Errors
    /// Those of the store.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool>> + Send;
}

/// The bytes under one key of an [`OldStore`], and the time at which the store forgets them.
#[derive(Clone)]
pub struct OldBytes {
    bytes: Vec<u8>,
    expires: Option<SystemTime>,
}

impl OldBytes {
    /// Returns bytes that the store forgets at `expires`; `None` if the store does not say.
    pub fn new(bytes: impl Into<Vec<u8>>, expires: Option<SystemTime>) -> Self {
        OldBytes { bytes: bytes.into(), expires }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the time at which the store forgets them; `None` if it does not say.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Returns the time until which a session is accepted that holds no time of its own. If the store tells no end, it is as long as a
    /// browser keeps a cookie.
    #[allow(dead_code, reason = "not every reader needs it, and each is a feature")]
    pub(crate) fn accepted_until(&self) -> SystemTime {
        self.expires.unwrap_or_else(|| SystemTime::now() + CookieWriter::LONGEST)
    }
}

impl fmt::Debug for OldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldBytes").field("len", &self.bytes.len()).field("expires", &self.expires).finish()
    }
}

/// Another library's records in a database, opened by the builder of this crate's provider for that database: `connect_old`.
///
/// ```no_run
/// # #[cfg(all(feature = "redis", unix))]
/// # async fn show() -> cloakroom::Result<()> {
/// let old = cloakroom::RedisProvider::builder("redis://127.0.0.1/").connect_old().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct OldRecords(Arc<dyn ErasedOldStore>);

impl OldRecords {
    /// Returns `store` without its type.
    pub fn new(store: impl OldStore) -> Self {
        OldRecords(Arc::new(store))
    }
}

impl OldStore for OldRecords {
    async fn load(&self, key: &str) -> Result<Option<OldBytes>> {
        self.0.load(key).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.0.delete(key).await
    }
}

impl fmt::Debug for OldRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OldRecords")
    }
}

type StoreAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`OldStore`] with boxed futures, which make it fit for `dyn`.
trait ErasedOldStore: Send + Sync {
    fn load<'a>(&'a self, key: &'a str) -> StoreAnswer<'a, Option<OldBytes>>;
    fn delete<'a>(&'a self, key: &'a str) -> StoreAnswer<'a, bool>;
}

impl<S: OldStore> ErasedOldStore for S {
    fn load<'a>(&'a self, key: &'a str) -> StoreAnswer<'a, Option<OldBytes>> {
        Box::pin(OldStore::load(self, key))
    }

    fn delete<'a>(&'a self, key: &'a str) -> StoreAnswer<'a, bool> {
        Box::pin(OldStore::delete(self, key))
    }
}

/// The table of another library in a SQL database.
///
/// ```
/// use cloakroom::migration::OldTable;
///
/// let table = OldTable::tower_sessions().named("app.sessions");
/// assert_eq!(table.name(), "app.sessions");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldTable {
    name: Box<str>,
    columns: OldColumns,
}

/// The columns of an [`OldTable`], and what its times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldColumns {
    /// `id`, `data`, `expiry_date`: a time, and text in SQLite.
    Date,
    /// `id`, `session`, `expires`: seconds since 1970.
    Seconds,
}

impl OldTable {
    /// Returns the table of tower-sessions: `tower_sessions.session`, and `tower_sessions` in SQLite.
    pub fn tower_sessions() -> Self {
        OldTable { name: "".into(), columns: OldColumns::Date }
    }

    /// Returns the table of axum_session: `sessions`.
    pub fn axum_session() -> Self {
        OldTable { name: "sessions".into(), columns: OldColumns::Seconds }
    }

    /// Sets another name, with a schema or a database before a dot if need be.
    pub fn named(self, name: impl Into<Box<str>>) -> Self {
        OldTable { name: name.into(), ..self }
    }

    /// Returns the name; empty for the default of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the quoted name and the columns, or `None` if the name has other characters than `A-Z a-z 0-9 _ -` and one dot.
    /// `default` is the name if none is set.
    #[allow(dead_code, reason = "the SQL providers call this, and they are features")]
    pub(crate) fn quoted(&self, default: &str, quote: char) -> Option<String> {
        let name = if self.name.is_empty() { default } else { &*self.name };
        let parts: Vec<_> = name.split('.').collect();
        let is_plain = |part: &&str| {
            (1..=64).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if parts.len() > 2 || !parts.iter().all(is_plain) {
            return None;
        }
        Some(parts.iter().map(|part| format!("{quote}{part}{quote}")).collect::<Vec<_>>().join("."))
    }

    #[allow(dead_code, reason = "the SQL providers call this, and they are features")]
    pub(crate) fn columns(&self) -> OldColumns {
        self.columns
    }
}
