//! The contract between the manager and a store.

mod any;
#[cfg(feature = "cached")]
pub(crate) mod cached;
#[cfg(feature = "cookie")]
pub(crate) mod cookie;
#[cfg(all(feature = "file", unix))]
pub(crate) mod file;
#[cfg(all(feature = "beego", any(all(unix, any(feature = "file", feature = "redis")), feature = "mysql")))]
pub(crate) mod foreign;
#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(all(feature = "redis", unix))]
pub(crate) mod redis;
mod sealed;
#[cfg(feature = "mysql")]
pub(crate) mod sql;
mod tokens;
mod watch;

use std::any::TypeId;
use std::future::Future;
use std::time::SystemTime;

use crate::codec::Codec;
use crate::error::Result;
use crate::id::StoreKey;
use crate::principal::Principal;
use crate::record::{Meta, Record};

pub use any::AnyProvider;
pub use sealed::SealedProvider;
pub(crate) use tokens::SealedTokens;
pub use watch::{Watched, Watcher};

/// A store of sessions.
///
/// # Contract
///
/// It binds every provider, those in other crates too; `cloakroom::conformance!` tests it.
///
/// - **Each method is one atomic step.** Whatever runs beside it, in this process or (where
///   [`Capabilities::shared`] is true) in another, sees the store before it or after it.
/// - **A session that has ended stays ended.** Only [`create`](Self::create) and [`rename`](Self::rename) bring a key to life, and never one
///   that is there. No method is an upsert.
/// - **Expiry is by the record's own deadline** ([`Record::expires`]): from that instant on a record is not there for any method,
///   whether or not it was collected yet. `create` may take the place of an expired one.
/// - **Tombstones** ([`Record::is_tombstone`]) are loaded like any record. To `update`, `touch` and as the old side of `rename` they are gone;
///   `count`, `scan` and `of_principal` leave them out; `delete` says `false` and leaves them, so that whoever ends a session by its former id
///   can still be led to the present one.
/// - **An outcome is not an error.** A miss, a lost race or a taken key is told by the `#[must_use]` answer. An error means
///   that the store failed ([`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable)) or holds what cannot be read
///   ([`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt)), carries the cause as its source, and leaves the record as it was or as it should be, never in between.
/// - **Dropping a future** at any await leaves the store consistent and the provider usable. Whether the step happened is then unknown.
/// - **Providers know bytes and deadlines**, nothing of cookies and codecs.
///
/// `Clone`, where a provider has it, gives a handle on the same store. A wrapper forwards every method: there are no default methods
/// that could bypass it. What a provider cannot do stands in its [`Capabilities`], and the method answers
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// # Example
///
/// `examples/custom_provider` is a whole one, in a crate of its own. Implementations write plain `async fn`.
#[doc(alias = "SessionStore")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session provider",
    note = "use MemoryProvider or FileProvider, or implement `cloakroom::Provider`; examples/custom_provider shows how"
)]
pub trait Provider: Send + Sync + 'static {
    /// What this provider can do. The same answer every time, without I/O.
    fn capabilities(&self) -> Capabilities;

    /// Stores `record` under `key`, only if no live record or tombstone is there.
    #[doc(alias = "insert")]
    #[doc(alias = "SessionInit")]
    fn create(&self, key: &StoreKey, record: &Record) -> impl Future<Output = Result<Created>> + Send;

    /// The record under `key`; `None` if there is none or it has expired.
    #[doc(alias = "SessionRead")]
    #[doc(alias = "SessionExist")]
    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// Puts `record` in the place of the one under `key`, only if that is there and at version `expected`.
    ///
    /// `record` may be a tombstone: this is how a session ends while requests may be under way with it.
    #[doc(alias = "save")]
    fn update(
        &self,
        key: &StoreKey,
        record: &Record,
        expected: u64,
    ) -> impl Future<Output = Result<Updated>> + Send;

    /// Notes a use at `at` and moves the idle deadline to `deadline`, only if the record is there and at version `expected`: see
    /// [`Record::touch`]. Neither data nor version change, and the deadline never passes the absolute one.
    ///
    /// The version is compared because `deadline` was computed from the record as the caller had loaded it: a change that came
    /// in between may have given the session another lifetime.
    fn touch(
        &self,
        key: &StoreKey,
        at: SystemTime,
        deadline: SystemTime,
        expected: u64,
    ) -> impl Future<Output = Result<Touched>> + Send;

    /// Moves a session: `record` comes to life under `new`, and what is under `old`, if it is at version `expected`, is
    /// replaced by `tombstone` or goes.
    ///
    /// Where the store cannot do both at once, the new one is durable first, so that a crash between the two leaves the session
    /// reachable. `new` never takes the place of a record that is there.
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

    /// Removes the live record under `key`; true if there was one.
    #[doc(alias = "remove")]
    #[doc(alias = "SessionDestroy")]
    fn delete(&self, key: &StoreKey) -> impl Future<Output = Result<bool>> + Send;

    /// How many live records there are, exactly. A session that is being renamed at that moment may count under both keys or under
    /// neither, where the store looks at one key after the other.
    #[doc(alias = "SessionAll")]
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Removes at most `limit` expired records and tombstones, the oldest first where that is cheap.
    #[doc(alias = "SessionGC")]
    #[doc(alias = "purge")]
    fn delete_expired(&self, limit: usize) -> impl Future<Output = Result<Collected>> + Send;

    /// A page of at most `limit` live records, from the start or from where an earlier page ended.
    ///
    /// Walking all pages meets every record that is there throughout at least once, also when its deadline moves back meanwhile. It may
    /// be met more than once; a record that comes or goes meanwhile may be met or not. So nobody counts by a walk: that is what
    /// [`count`](Self::count) is for. A cursor may be used again.
    fn scan(&self, cursor: Option<Cursor>, limit: usize) -> impl Future<Output = Result<Page>> + Send;

    /// A page of at most `limit` live sessions of one user, in no particular order, from the start or from where an earlier page ended.
    ///
    /// A page is one bounded step, however many sessions the user has, and one consistent look: a session that is renamed beside it
    /// is found under its old key or its new one. Between two pages a rename may carry a session past the cursor, so a caller that
    /// needs every session walks again until two walks find the same.
    fn of_principal(
        &self,
        principal: &Principal,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page>> + Send;
}

/// What a provider can do, so that callers get a clear error instead of a silent no.
///
/// ```
/// use cloakroom::{MemoryProvider, Provider};
///
/// assert!(!MemoryProvider::new().capabilities().persistent);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The provider's name, for logs and errors.
    pub name: &'static str,
    /// Sessions outlive the process. Ids are then hashed before they become keys, unless that is switched off.
    pub persistent: bool,
    /// A session can be ended from the server's side.
    pub revocable: bool,
    /// The store drops expired records by itself: garbage collection has nothing to do.
    pub native_expiry: bool,
    /// `count`, `scan` and `of_principal` work.
    pub lists: bool,
    /// Other processes may use the same store at the same time.
    pub shared: bool,
    /// The store holds tombstones, so that a request which is under way when its session ends is told so. Where it does not, such a
    /// request may begin a new session.
    pub tombstones: bool,
    /// The store knows whose a session is: it keeps the [`Principal`], and `of_principal` works where `lists` is true.
    pub users: bool,
    /// The one codec whose data the store can keep, in another library's layout and with nothing beside it; `None`: any.
    pub codec: Option<Codec>,
    /// The largest record in bytes, as [`Record::as_bytes`] counts; `None` where only the manager's limits bind.
    pub max_record: Option<usize>,
    /// The type whose futures are all done at their first poll. A type and no mere flag, since a wrapper may hand these
    /// capabilities on and wait nevertheless.
    at_once: Option<TypeId>,
    /// Where the token is the sealed record, and the provider stores none: what seals it.
    tokens: Option<SealedTokens>,
}

impl Capabilities {
    /// A provider called `name` that keeps sessions in this process, can end and list them, and does nothing else.
    /// Set the other fields from there.
    ///
    /// ```
    /// let mut capabilities = cloakroom::providers::Capabilities::new("own");
    /// capabilities.persistent = true;
    /// assert!(capabilities.revocable && capabilities.lists && !capabilities.shared);
    /// ```
    pub fn new(name: &'static str) -> Self {
        Capabilities {
            name,
            persistent: false,
            revocable: true,
            native_expiry: false,
            lists: true,
            shared: false,
            tombstones: true,
            users: true,
            codec: None,
            max_record: None,
            at_once: None,
            tokens: None,
        }
    }

    /// Whether the client carries the whole session, sealed, and nothing is stored: then the last of parallel responses wins, and a
    /// logout cannot end the copy of a cookie unless [`revocable`](Self::revocable) says so.
    pub fn token_is_record(&self) -> bool {
        self.tokens.is_some()
    }

    pub(crate) fn sealed_tokens(&self) -> Option<&SealedTokens> {
        self.tokens.as_ref()
    }

    #[cfg(feature = "cookie")]
    pub(crate) fn tokens(self, tokens: SealedTokens) -> Self {
        Capabilities { tokens: Some(tokens), ..self }
    }

    /// Those of `P`, which never waits: a request is then served without a future for every call.
    #[cfg(any(feature = "memory", feature = "cookie"))]
    pub(crate) fn at_once<P: Provider>(self) -> Self {
        Capabilities { at_once: Some(TypeId::of::<P>()), ..self }
    }
}

/// What [`Provider::create`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a taken key was not stored"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Created {
    /// The record is stored.
    Done,
    /// Something is there already; nothing was changed.
    Taken,
}

/// What [`Provider::update`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stale or missing record was not updated"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Updated {
    /// The record is stored.
    Done,
    /// Another change was first: the version is another one. Nothing was changed.
    Stale,
    /// There is no live record.
    Gone,
}

/// What [`Provider::touch`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a changed or missing record was not touched"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Touched {
    /// The times are stored.
    Done,
    /// Another change was first, and has moved the deadline by itself. Nothing was changed.
    Stale,
    /// There is no live record.
    Gone,
}

/// What [`Provider::rename`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a session that was not renamed still has its old id"]
#[allow(clippy::exhaustive_enums, reason = "a caller that does not handle an outcome must not compile")]
pub enum Renamed {
    /// The session lives under the new key alone.
    Done,
    /// Another change was first: the old record's version is another one. Nothing was changed.
    Stale,
    /// There is no live record under the old key. Nothing was changed.
    Gone,
    /// Something is under the new key already. Nothing was changed.
    Taken,
}

/// What [`Provider::delete_expired`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "there may be more to collect"]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Collected {
    /// Records and tombstones removed.
    pub removed: usize,
    /// Whether expired ones remain.
    pub more: bool,
}

/// Where a page of [`Provider::scan`] or [`Provider::of_principal`] ended: the provider's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// A cursor of the provider's own `text`.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Cursor(text.into())
    }

    /// The provider's own text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A page of [`Provider::scan`] or [`Provider::of_principal`].
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Page {
    /// At most as many as were asked for; fewer do not mean the end.
    pub entries: Vec<Listed>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// The page of `all` that begins after the key in `cursor`, in the order of the keys: for stores that have a user's sessions at hand.
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

/// One session in a list: its key, and what stands beside its data.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "providers build it")]
pub struct Listed {
    /// The key that reaches it.
    pub key: StoreKey,
    /// Times, version and user.
    pub meta: Meta,
}
