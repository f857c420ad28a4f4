//! Garbage collection in the background.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::manager::Manager;

/// Keeps garbage collection going; stops it when dropped.
#[derive(Debug)]
#[must_use = "garbage collection stops when its guard is dropped"]
pub struct GcGuard(JoinHandle<()>);

impl Drop for GcGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Manager {
    /// Collects garbage every [`Config::gc_interval`](crate::Config::gc_interval), give or take a fifth of it so that
    /// several processes on one store do not meet, until the guard is dropped. A round that fails is logged, and the next one runs
    /// all the same.
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
    /// Outside a tokio runtime.
    #[doc(alias = "GC")]
    pub fn spawn_gc(&self) -> GcGuard {
        let manager = self.clone();
        GcGuard(tokio::spawn(async move {
            loop {
                tokio::time::sleep(jittered(manager.config().gc_interval())).await;
                match manager.collect_garbage().await {
                    Ok(removed) => tracing::debug!(removed, "garbage collected"),
                    Err(error) => {
                        tracing::error!(%error, "garbage collection failed; the next round will try again")
                    }
                }
            }
        }))
    }
}

fn jittered(interval: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(u32::MAX / 2);
    interval.mul_f64(0.8 + 0.4 * f64::from(share) / f64::from(u32::MAX))
}
