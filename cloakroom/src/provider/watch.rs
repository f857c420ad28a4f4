//! Stores that report changes of sessions, and the watchers that receive the reports.

use std::future::Future;
use std::sync::Weak;
use std::time::Instant;

use super::Provider;
use crate::error::Result;
use crate::id::StoreKey;

/// A store that reports every change of a session, whichever process makes it.
///
/// [`Cached`](crate::guide::near_cache) with `watching` needs such a store. Reports must be complete: a store that may have missed
/// one calls [`Watcher::deaf`].
pub trait Watched: Provider {
    /// Reports every change to `watcher` from now on, for as long as the watcher lives.
    ///
    /// The first [`Watcher::listening`] is called before this returns. If the store can no longer report changes, it calls
    /// [`Watcher::deaf`] at once, and [`Watcher::listening`] when it can again.
    ///
    /// ```no_run
    /// use cloakroom::providers::{StoreKey, Watched, Watcher};
    /// use std::sync::{Arc, Weak};
    /// use std::time::Instant;
    ///
    /// struct Printer;
    ///
    /// impl Watcher for Printer {
    ///     fn listening(&self) {}
    ///     fn heard_until(&self, _: Instant) {}
    ///     fn changed(&self, key: &StoreKey) {
    ///         println!("{} has changed", key.handle());
    ///     }
    ///     fn deaf(&self) {
    ///         println!("changes may be missed");
    ///     }
    /// }
    ///
    /// # async fn show(store: impl Watched) -> cloakroom::Result<()> {
    /// let printer: Arc<dyn Watcher> = Arc::new(Printer);
    /// store.watch(Arc::downgrade(&printer)).await?;    // reports end when the printer is dropped
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store does not answer
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it cannot report changes
    fn watch(&self, watcher: Weak<dyn Watcher>) -> impl Future<Output = Result<()>> + Send;
}

/// The receiver of reports. Its methods must return quickly, since they delay the next report.
///
/// A store calls them in this order:
///
/// 1. `listening`, before `watch` returns.
/// 2. `changed` for each change, and `heard_until` regularly if it can.
/// 3. `deaf` when it may miss changes, then `listening` again when it does not.
pub trait Watcher: Send + Sync + 'static {
    /// Begins a period in which every change is reported.
    fn listening(&self);

    /// Confirms that every change so far was reported, and that the reports may be relied on until `until`.
    ///
    /// After the first call, the watcher relies on reports only until the latest `until`. A store that calls this must therefore
    /// call it again and again. So a watcher notices that the reporting task has stopped.
    fn heard_until(&self, until: Instant);

    /// Reports that the record under `key` has changed or is gone. The watcher drops its copy.
    fn changed(&self, key: &StoreKey);

    /// Ends the period: changes may be missed until [`listening`](Self::listening) is called again.
    fn deaf(&self);
}
