//! Stores that tell when a session changes, and those who listen.

use std::future::Future;
use std::sync::Weak;
use std::time::Instant;

use super::Provider;
use crate::error::Result;
use crate::id::StoreKey;

/// A store that tells of every change of a session, whoever makes it and in which process.
///
/// What `Cached::watching` asks of a provider.
pub trait Watched: Provider {
    /// Tells `watcher` of every change from now on, for as long as it lives.
    ///
    /// Where the store can no longer be heard, [`Watcher::deaf`] comes at once, and [`Watcher::listening`] once it can be again.
    /// The first [`Watcher::listening`] comes before this is done.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the store does not answer,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it cannot tell of changes.
    fn watch(&self, watcher: Weak<dyn Watcher>) -> impl Future<Output = Result<()>> + Send;
}

/// One who is told of changes. Calls must be quick: they hold up the next.
pub trait Watcher: Send + Sync + 'static {
    /// From here on every change is told.
    fn listening(&self);

    /// Every change so far has been told. From the first call on, the watcher relies on what it hears until `until` and no longer:
    /// a store that calls this has to call it again and again. So a watcher notices that the task which tells it has stopped.
    fn heard_until(&self, until: Instant);

    /// Drops the copy of `key`: its record has changed or is gone.
    fn changed(&self, key: &StoreKey);

    /// Changes may have been missed, and will be until [`listening`](Self::listening) comes again.
    fn deaf(&self);
}
