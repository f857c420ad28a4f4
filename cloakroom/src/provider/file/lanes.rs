//! The threads on which a store waits for the disk, few enough that a disk which hangs leaves the application its own.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::error::FileError;
use crate::error::Result;

/// How many threads of tokio's 512 one store takes at the same time.
pub(super) struct Lanes {
    pub(super) reads: Lane,
    pub(super) changes: Lane,
    /// Counts, lists and collections: long steps, which must not keep requests waiting.
    pub(super) walks: Lane,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Lanes { reads: Lane::of(32), changes: Lane::of(32), walks: Lane::of(4) }
    }
}

#[derive(Clone)]
pub(super) struct Lane(Arc<Semaphore>);

impl Lane {
    fn of(threads: usize) -> Self {
        Lane(Arc::new(Semaphore::new(threads)))
    }

    /// Does `step` on a thread that may block. Whoever is dropped while it waits for a thread has done nothing; a step that has begun
    /// runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        // Other executors have no such threads: there the caller's own blocks for as long as the disk takes.
        let Ok(runtime) = Handle::try_current() else { return step() };
        // Nobody closes the semaphore.
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
