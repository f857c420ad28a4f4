//! Limits on the blocking threads of a store, so that a disk that hangs leaves threads to the application.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::error::FileError;
use crate::error::Result;

/// The limits of one store. Together they allow 68 of tokio's 512 blocking threads.
pub(super) struct ThreadLimits {
    pub(super) reads: ThreadLimit,
    pub(super) changes: ThreadLimit,
    /// Counts, lists and collections. They are long, so requests must not wait behind them.
    pub(super) walks: ThreadLimit,
}

impl ThreadLimits {
    pub(super) fn new() -> Self {
        ThreadLimits { reads: ThreadLimit::of(32), changes: ThreadLimit::of(32), walks: ThreadLimit::of(4) }
    }
}

/// A limit on concurrent blocking steps of one kind.
#[derive(Clone)]
pub(super) struct ThreadLimit(Arc<Semaphore>);

impl ThreadLimit {
    fn of(threads: usize) -> Self {
        ThreadLimit(Arc::new(Semaphore::new(threads)))
    }

    /// Runs `step` on a blocking thread. A future that is dropped while it waits for a thread has done nothing. A step that has begun
    /// runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // Without tokio there are no blocking threads, so the step blocks the caller's thread.
        let Ok(runtime) = Handle::try_current() else { return step() };
        // The semaphore is never closed, so this does not fail.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        let done = runtime.spawn_blocking(move || {
            let answer = step();
            drop(permit);
            answer
        });
        match done.await {
            Ok(answer) => answer,
            Err(error) => Err(FileError::BrokenOff(error).into()),
        }
    }
}
