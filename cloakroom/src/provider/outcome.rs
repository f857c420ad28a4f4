//! The outcomes of a provider's methods, and the pages of its lists.

#[cfg(doc)]
use super::Provider;
use crate::id::StoreKey;
use crate::record::Meta;

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
    ///
    /// ```
    /// use cloakroom::providers::Cursor;
    ///
    /// // A store that walks its keys in order continues after the last key of a page.
    /// let keys = ["a1", "a2", "a3"];
    /// let next = Cursor::new(keys[1]);
    /// let rest: Vec<_> = keys.iter().filter(|key| **key > next.as_str()).collect();
    /// assert_eq!(rest, [&"a3"]);
    /// ```
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
