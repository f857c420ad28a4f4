//! The contract between the manager and a store.
//!
//! [`Provider`] is the contract. [`Capabilities`] say what a store can do. Each method has an outcome type, such as [`Created`] or
//! [`Updated`], so that a conflict is never taken for a success.
//!
//! | module | provider |
//! |---|---|
//! | `memory` | in this process |
//! | `file` | in a folder |
//! | `redis` | in Redis or Valkey |
//! | `sql` | in a SQL database |
//! | `cookie` | in the visitor's cookie |
//! | `cached` | copies in front of another provider |
//! | `sealed` | another provider with encrypted data |
//! | `foreign` | records in another library's layout, such as Beego's |
//! | `any` | a provider of any type |
//!
//! The stores never import each other. `cached` and `sealed` wrap any provider, and know only the contract.

mod any;
#[cfg(feature = "cached")]
pub(crate) mod cached;
mod capabilities;
#[cfg(feature = "cookie")]
pub(crate) mod cookie;
#[cfg(all(any(feature = "file", feature = "sqlite"), unix))]
pub(crate) mod durability;
#[cfg(all(feature = "file", unix))]
pub(crate) mod file;
#[cfg(all(
    feature = "beego",
    any(all(unix, any(feature = "file", feature = "redis")), feature = "mysql", feature = "postgres")
))]
pub(crate) mod foreign;
#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(all(any(feature = "file", feature = "sqlite"), unix))]
pub(crate) mod private_folder;
#[cfg(all(feature = "redis", unix))]
pub(crate) mod redis;
mod sealed;
#[cfg(any(feature = "mysql", feature = "postgres", all(feature = "sqlite", unix)))]
pub(crate) mod sql;
mod tokens;
mod watch;

use std::future::Future;
use std::time::SystemTime;

use crate::error::Result;
use crate::id::StoreKey;
use crate::record::{IndexEntry, Meta, Record};

pub use any::AnyProvider;
pub use capabilities::Capabilities;
pub use sealed::SealedProvider;
pub use tokens::SealedTokens;
pub use watch::{Watched, Watcher};

/// A store of sessions.
///
/// Implement this trait to keep sessions in a store of your own. Methods are plain `async fn`. The crate
/// `examples/custom_provider` is a complete implementation, and [`conformance!`](crate::conformance) tests one.
///
/// # Contract
///
/// The contract binds every provider, whether it is part of this crate or not.
///
/// - **Each method is one atomic step.** Other calls see the store before the step or after it. This holds for calls of this process
///   and, where [`Capabilities::shared`] is true, for calls of others.
/// - **An ended session stays ended.** Only [`create`](Self::create) and [`rename`](Self::rename) add a key, and only one that is free.
///   There is no upsert.
/// - **A record expires by its own deadline,** [`Record::expires`]. From that instant on it is absent for every method,
///   whether it was collected or not. `create` may take its place.
/// - **Tombstones** ([`Record::is_tombstone`]) are stored and loaded like any record. `update`, `touch` and `rename` treat them as absent.
///   `count`, `scan` and `indexed` leave them out. `delete` answers `false` and leaves them, so that a logout with a former id
///   still finds the session's present id.
/// - **An outcome is not an error.** An absent key, a conflict and a taken key are answers, and each answer is `#[must_use]`.
/// - **An error leaves the record either unchanged or fully updated.** [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) means that
///   the store failed. [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) means that the stored bytes cannot be read. The error
///   has its cause as its [source](std::error::Error::source).
/// - **A dropped future leaves the store consistent** and the provider usable. Whether the step happened is then unknown.
/// - **A provider knows records and deadlines,** and nothing of cookies and codecs.
///
/// A provider that cannot do something says so in its [`Capabilities`], and the method returns
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// # Wrappers
///
/// A wrapper forwards every method. The trait has no default methods, so none is bypassed by accident. A clone of a provider is a
/// handle on the same store.
#[doc(alias = "SessionStore")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session provider",
    note = "use MemoryProvider or FileProvider, or implement `cloakroom::Provider`; examples/custom_provider shows how"
)]
pub trait Provider: Send + Sync + 'static {
    /// Returns what this provider can do: the same answer every time, without I/O.
    fn capabilities(&self) -> Capabilities;

    /// Stores `record` under `key`, if the key is free.
    ///
    /// A key is free if nothing is under it or what is there has expired. Otherwise the answer is [`Created::Taken`] and nothing
    /// changes. A tombstone takes its key like a session.
    #[doc(alias = "insert")]
    #[doc(alias = "SessionInit")]
    fn create(&self, key: &StoreKey, record: &Record) -> impl Future<Output = Result<Created>> + Send;

    /// Returns the record under `key`, a tombstone too.
    ///
    /// The answer is `None` if nothing is under the key or what is there has expired.
    #[doc(alias = "SessionRead")]
    #[doc(alias = "SessionExist")]
    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// Replaces the record under `key` by `record`, if it is still at the version of `base`.
    ///
    /// `base` is the record that the change was made from, as the caller loaded or last stored it. Most stores compare
    /// [`Record::version`]. A store without a place for a number may compare [`Record::data`] instead. A [`touch`](Self::touch) that came
    /// in between changes neither, and so does not make an update stale.
    ///
    /// `record` may be a tombstone: this is how a session ends while requests with it may be running.
    ///
    /// The answer is [`Updated::Gone`] if no live session is under the key, and [`Updated::Stale`] if the session is at another version.
    /// In both cases nothing changes.
    #[doc(alias = "save")]
    fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        base: &Record,
    ) -> impl Future<Output = Result<Updated>> + Send;

    /// Records that the session under `key` was used at `at`.
    ///
    /// The *stored* record decides how long the session lives on, as [`Record::touch`] describes. Data and version do not change. So a
    /// touch and any other change give the same result in either order, and a touch is never stale.
    ///
    /// The answer is [`Touched::Gone`] if no live session is under the key. A touch never adds a record.
    fn touch(&self, key: &StoreKey, at: SystemTime) -> impl Future<Output = Result<Touched>> + Send;

    /// Moves the session under `old`, which is at version `expected`, to the free key `new`, and stores `record` there.
    ///
    /// `tombstone` then takes its place under `old`; without one the old key is free.
    ///
    /// A store that cannot do both at once makes the new record durable first. A crash between the two then leaves the session
    /// reachable.
    ///
    /// The answer is [`Renamed::Gone`] if no live session is under `old`, [`Renamed::Stale`] if it is at another version, and
    /// [`Renamed::Taken`] if `new` is not free. In each of these cases nothing changes.
    #[doc(alias = "cycle_id")]
    #[doc(alias = "SessionRegenerate")]
    fn rename(
        &self,
        old: &StoreKey,
        new: &StoreKey,
        record: &Record,
        expected: u64,
        tombstone: Option<&Record>,
    ) -> impl Future<Output = Result<Renamed>> + Send;

    /// Removes the live session under `key`.
    ///
    /// Returns true if there was one. An absent key, an expired record and a tombstone are `false`, which is no error.
    #[doc(alias = "remove")]
    #[doc(alias = "SessionDestroy")]
    fn delete(&self, key: &StoreKey) -> impl Future<Output = Result<bool>> + Send;

    /// Returns the number of live sessions, exactly.
    ///
    /// A store that looks at one key after the other may count a session that is being renamed twice or not at all.
    #[doc(alias = "SessionAll")]
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Removes at most `limit` expired records and tombstones, the oldest first where that is cheap.
    ///
    /// Nothing to remove is an answer of none, and no error.
    #[doc(alias = "SessionGC")]
    #[doc(alias = "purge")]
    fn delete_expired(&self, limit: usize) -> impl Future<Output = Result<Collected>> + Send;

    /// Returns a page of at most `limit` live sessions, from the start or from where an earlier page ended.
    ///
    /// A walk through all pages meets each session that is there throughout at least once, even if its deadline moves back
    /// meanwhile. It may meet a session more than once, and may miss one that comes or goes. So do not count by a walk: use
    /// [`count`](Self::count). A cursor may be used again. An empty store has one page, empty and without a next one.
    fn scan(&self, cursor: Option<Cursor>, limit: usize) -> impl Future<Output = Result<Page>> + Send;

    /// Returns a page of at most `limit` live sessions that have `entry` among their [index entries](Record::index_entries), in no
    /// particular order, from the start or from where an earlier page ended.
    ///
    /// Each page is one bounded step, however many sessions there are, and one consistent view: a session that is being renamed appears
    /// under its old key or under its new one. A rename between two pages may move a session past the cursor. So a caller that
    /// needs every session walks until two walks find the same.
    ///
    /// An entry that no session has gives an empty page without a next one.
    fn indexed(
        &self,
        entry: &IndexEntry,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page>> + Send;
}

/// The outcome of [`Provider::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a taken key was not stored"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Created {
    /// The record is stored.
    Done,
    /// The key is not free. Nothing was changed.
    Taken,
}

/// The outcome of [`Provider::update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale or missing record was not updated"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Updated {
    /// The record is stored.
    Done,
    /// Another change came first: the session is at another version. Nothing was changed.
    Stale,
    /// No live session is under the key. Nothing was changed.
    Gone,
}

/// The outcome of [`Provider::touch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a missing record was not touched"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Touched {
    /// The time of last use is written.
    Done,
    /// No live session is under the key. Nothing was changed.
    Gone,
}

/// The outcome of [`Provider::rename`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a session that was not renamed still has its old id"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Renamed {
    /// The session lives under the new key alone.
    Done,
    /// Another change came first: the session is at another version. Nothing was changed.
    Stale,
    /// No live session is under the old key. Nothing was changed.
    Gone,
    /// The new key is not free. Nothing was changed.
    Taken,
}

/// The outcome of [`Provider::delete_expired`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "there may be more to collect"]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Collected {
    /// The number of records and tombstones removed.
    pub removed: usize,
    /// True if more expired records may remain.
    pub more: bool,
}

/// The end of a page of [`Provider::scan`] or [`Provider::indexed`], as a text of the provider's own. The next page begins there.
///
/// ```
/// # use cloakroom::{Manager, MemoryProvider, Provider};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let provider = MemoryProvider::new();
/// # let sessions = Manager::builder(provider.clone()).build()?;
/// # let session = sessions.start(&http::HeaderMap::new()).await?;
/// # session.set("n", 1)?;
/// # session.save().await?;
/// use cloakroom::providers::Cursor;
///
/// let mut cursor: Option<Cursor> = None;
/// let mut met = 0;
/// loop {
///     let page = provider.scan(cursor, 100).await?;
///     met += page.entries.len();
///     cursor = page.next;
///     if cursor.is_none() {
///         break;
///     }
/// }
/// assert_eq!(met, 1);
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// Returns a cursor of the provider's own `text`. It may hold anything that finds the next page again, such as the last key.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Cursor(text.into())
    }

    /// Returns the provider's own text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A page of [`Provider::scan`] or [`Provider::indexed`].
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Page {
    /// The sessions, at most as many as were asked for. A page may hold fewer before the end, or none.
    pub entries: Vec<Listed>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// Returns the page of `all` that begins after the key in `cursor`, in the order of the keys: for stores that have all sessions of an
    /// index entry at hand.
    #[doc(hidden)]
    pub fn slice(mut all: Vec<Listed>, cursor: Option<Cursor>, limit: usize) -> Page {
        all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let after = cursor.as_ref().map_or("", Cursor::as_str).as_bytes();
        let start = all.partition_point(|listed| listed.key.as_bytes() <= after);
        let mut entries = all.split_off(if cursor.is_some() { start } else { 0 });
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = match entries.last() {
            Some(last) if more => Some(Cursor::new(last.key.as_str())),
            None if more => Some(cursor.unwrap_or_else(|| Cursor::new(""))),
            _ => None,
        };
        Page { entries, next }
    }
}

/// One session in a list: its key, and everything that is stored with it except its data.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Listed {
    /// The key of the session.
    pub key: StoreKey,
    /// Times, version, user and labels.
    pub meta: Meta,
}
