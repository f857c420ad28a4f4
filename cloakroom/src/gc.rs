//! Garbage collection in the background.
//!
//! A round removes expired records and tombstones in bounded steps, so that the store serves requests in between. The task ends
//! when its guard is dropped. A failed round is logged, and the next one runs as usual.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::manager::Manager;

/// A guard that is dropped within this time was most likely never kept.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs garbage collection in the background until it is dropped.
///
/// Give it a name: `let _collecting = sessions.spawn_gc();` keeps it. `let _ = sessions.spawn_gc();` drops it at once, which is logged
/// as a warning.
#[must_use = "garbage collection stops when its guard is dropped"]
pub struct GcGuard {
    task: JoinHandle<()>,
    engine: Arc<Engine>,
    begun: Instant,
}

impl Drop for GcGuard {
    fn drop(&mut self) {
        self.task.abort();
        self.engine.collection.record_stop();
        if self.begun.elapsed() < AT_ONCE {
            tracing::warn!(
                "garbage collection stopped right after its start, because its guard was dropped: keep the guard that \
                 Manager::spawn_gc returns, as in `let _collecting = sessions.spawn_gc();`"
            );
        } else {
            tracing::debug!("garbage collection stopped: its guard was dropped");
        }
    }
}

impl fmt::Debug for GcGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcGuard").field("task", &self.task).finish_non_exhaustive()
    }
}

impl Manager {
    /// Collects garbage every [`Config::gc_interval`](crate::config::Config::gc_interval) until the guard is dropped.
    ///
    /// The interval varies by up to a fifth, so that several processes on one store do not collect at the same time. A round that fails
    /// is logged, and the next one runs anyway.
    ///
    /// ```
    /// # use cloakroom::{Manager, MemoryProvider};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let sessions = Manager::builder(MemoryProvider::new()).build()?;
    /// let _collecting = sessions.spawn_gc();
    /// # Ok::<(), cloakroom::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Panics
    /// If it is called outside a Tokio runtime.
    #[doc(alias = "GC")]
    pub fn spawn_gc(&self) -> GcGuard {
        let manager = self.clone();
        let engine = manager.engine();
        engine.collection.record_start();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(jittered(manager.config().gc_interval())).await;
                match manager.collect_garbage().await {
                    Ok(removed) => tracing::debug!(removed, "garbage collected"),
                    Err(error) => {
                        tracing::error!(%error, "garbage collection failed; the next round will try again")
                    }
                }
            }
        });
        GcGuard { task, engine, begun: Instant::now() }
    }
}

/// Varies `interval` by up to a fifth.
fn jittered(interval: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(u32::MAX / 2);
    interval.mul_f64(0.8 + 0.4 * f64::from(share) / f64::from(u32::MAX))
}
